"""Does a head matter? Three ways to ask: the gradient of the loss with respect to a factor on the head's output, the
loss without the head, and gates that are learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..change.intervention import Intervention
from ..change.naming import Pair, pairs_of, resolve
from ..watch import watch
from .gates import Gates, fit, frozen
from .leaving_out import leave_out, told
from .losses import Checked, Loss, checked, mean_of
from .pruning.moments import Moments
from .ranking import Importance, Row

__all__ = ["METHODS", "importance"]

METHODS = ("gradient", "leave-one-out", "gates")
Progress = Callable[[int, int], None]


def importance(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    method: str = "gradient",
    *,
    heads: Iterable[Pair] | None = None,
    units: Iterable[Iterable[Pair]] | None = None,
    stand_ins: Mapping[str, Moments] | None = None,
    normalize: bool = False,
    gates: Gates | None = None,
    progress: Progress | None = None,
) -> Importance:
    """How much each head matters for a loss.

    - "gradient" (Michel et al. 2019): the mean over sequences of |dL/dx|, x a factor of 1 on the head's output for this
      sequence. One backward pass a batch.
    - "leave-one-out": how much the loss grows without the head; one pass a head and batch.
    - "gates" (Voita et al. 2019): the probability that a learned gate leaves the head open.

    The model stays as it is; whether it is in training mode is left to you.

    Args:
        batches: whatever `loss` takes; they are gone over several times, so an iterator is kept as a list.
        loss: `loss(model, batch)` calls the model and gives one number, the smaller the better: the mean over the
            sequences of the batch. Or (sum, n), a sum over n places, such as tokens: then all is told per place.
        heads: pairs as in `fv.knockout`; default: all heads of all modules in which attention runs.
        units: for "leave-one-out", in the place of `heads`: heads that are left out together, such as those that share
            keys (`fv.heads.prunable`). Each has an equal share in what the loss grows.
        stand_ins: for "leave-one-out": in the place of a head that is left out stands what the others say of it
            (`fv.heads.moments`), as after `fv.heads.prune`; for models that can be pruned.
        normalize: for "gradient": divide by the root of the sum of squares within each module, as Michel et al. do. For
            a small Transformer that was the worse ranking to prune by.
        gates: options of "gates".
        progress: called with (done, all) after each pass.

    Raises:
        ValueError: an unknown method, options of another one, no batches, or a loss that is no number.
        ChangeError: heads that are not there, or attention that cannot be changed.
        CaptureError: the model has no attention that can be seen.
    """
    _check(method, normalize, gates, units, stand_ins)
    given, tell, look = list(batches), progress or (lambda done, total: None), checked(loss)
    if not given:
        raise ValueError("importance needs batches; got none")
    together = None if units is None else _together(units, heads)
    rows, first = _rows(model, given[0], look, heads if together is None else [p for unit in together for p in unit])
    pairs: list[Pair] = [(row.module, row.head) for row in rows]
    options: dict[str, Any] = {"normalize": normalize} if method == "gradient" else {}
    errors, count = None, len(given)
    if method == "gates":
        options = vars(gates := gates or Gates())
        values = fit(model, given, mean_of(look), pairs, gates, tell)
    elif method == "leave-one-out":
        each = [[pair] for pair in pairs] if together is None else together
        found = leave_out(model, given, look, each, first=first, stand_ins=stand_ins, tell=tell)
        values, errors = (_shared(rows, each, t) for t in found)
    else:
        values, errors, count = _gradient(model, given, look, rows, tell, normalize)
    return Importance(method, _told(rows, values, errors), count, dict(options))


def _check(method: str, normalize: bool, gates: Any, units: Any, stand_ins: Any) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(map(repr, METHODS))}")
    if (normalize and method != "gradient") or (gates is not None and method != "gates"):
        raise ValueError("normalize= goes with 'gradient', gates= with 'gates'")
    if not (units is None and stand_ins is None) and method != "leave-one-out":
        raise ValueError("units= and stand_ins= go with 'leave-one-out'")


def _told(rows: Sequence[Row], values: Tensor, errors: Tensor | None) -> tuple[Row, ...]:
    found = [None] * len(rows) if errors is None else errors.tolist()
    each = zip(rows, values.tolist(), found, strict=True)
    return tuple(replace(row, importance=value, error=error) for row, value, error in each)


def _together(units: Iterable[Iterable[Pair]], heads: Iterable[Pair] | None) -> list[list[Pair]]:
    """Units, each pair in one of them."""
    if heads is not None:
        raise ValueError("units= says which heads are in question; leave out heads=")
    found = [pairs_of(unit) for unit in units]
    if len({pair for unit in found for pair in unit}) < sum(map(len, found)):
        raise ValueError("a head goes with one unit; some are in several")
    return found


def _shared(rows: Sequence[Row], units: Sequence[Sequence[Pair]], values: Tensor | None) -> Any:
    """For each head an equal part of its unit's value; None of None."""
    if values is None:
        return None
    modules = list(dict.fromkeys(row.module for row in rows))
    found: dict[Pair, float] = {}
    for unit, value in zip(units, values.tolist(), strict=True):
        found |= {(path, h): value / len(unit) for path, some in resolve(unit, modules).items() for h in some}
    return torch.tensor([found[row.module, row.head] for row in rows], dtype=torch.float64)


def _rows(
    model: nn.Module, batch: Any, loss: Checked, heads: Iterable[Pair] | None
) -> tuple[list[Row], tuple[float, int]]:
    """The heads in question, as attention is seen to run, and what the batch that showed it tells of the loss."""
    with torch.no_grad(), watch(model) as seen:
        first = told(loss, model, batch)
    chosen = None if heads is None else resolve(heads, list(seen))
    rows = []
    for name in seen:
        info = seen.info(name)
        numbers = range(info.heads) if chosen is None else sorted(chosen.get(name, ()))
        for head in numbers:
            rows.append(Row(name, info.layer, info.kind, head, 0.0))
    if not rows:
        raise ValueError("importance needs heads; got none")
    return rows, first


class _Factors(Intervention):
    """A factor of 1 on each head's output in each sequence; their gradients say what a head is worth."""

    def __init__(self, model: nn.Module, pairs: list[Pair]) -> None:
        super().__init__(model, pairs)
        self.made: list[tuple[list[Pair], Tensor]] = []

    def factors(self, name: str, batch: int, total: int) -> dict[int, float | Tensor]:
        found = self.heads_of(name, total)
        table = torch.ones(len(found), batch, requires_grad=True)
        self.made.append((list(found), table))
        return dict(zip(found.values(), table.unbind(), strict=True))


def _gradient(
    model: nn.Module, batches: Sequence[Any], loss: Checked, rows: Sequence[Row], tell: Progress, normalize: bool
) -> tuple[Tensor, Tensor | None, int]:
    place = {(row.module, row.head): i for i, row in enumerate(rows)}
    sums, squares, counts = (torch.zeros(len(rows), dtype=torch.float64) for _ in range(3))
    all_places = 0
    for done, batch in enumerate(batches):
        change = _Factors(model, list(place))
        with frozen(model), torch.enable_grad(), change:
            found, places = loss(model, batch)
            if not found.requires_grad:
                raise ValueError("the loss has no gradient: it must not be computed under no_grad, nor detached")
            found.backward()
        calls: dict[tuple[Any, int], Tensor] = {}
        for pairs, table in change.made:
            if table.grad is None:
                continue
            each = table.grad.double() * (table.shape[1] if places is None else 1)  # of a sequence, by itself
            for pair, gradient in zip(pairs, each, strict=True):
                old = calls.get((pair, len(gradient)))
                calls[pair, len(gradient)] = gradient if old is None else old + gradient
        for (pair, _), gradient in calls.items():
            i = place[pair]
            sums[i] += gradient.abs().sum().cpu()
            squares[i] += gradient.square().sum().cpu()
            counts[i] += len(gradient)
        all_places += places or 0
        tell(done + 1, len(batches))
    mean = sums / counts.clamp_min(1)
    spread = (squares / counts.clamp_min(1) - mean.square()).clamp_min(0) * counts / (counts - 1).clamp_min(1)
    error = (spread / counts.clamp_min(1)).sqrt()
    if all_places:  # a sum was over them: sequences, each by itself, had so many on average
        mean, error = (t * counts / all_places for t in (mean, error))
    if normalize:
        mean, error = _normalized(rows, mean, error)
    return mean, error if bool((counts > 1).all()) else None, int(counts.max())


def _normalized(rows: Sequence[Row], values: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Divided by the root of the sum of squares within each module."""
    norms: dict[str, float] = {}
    for row, value in zip(rows, values.tolist(), strict=True):
        norms[row.module] = norms.get(row.module, 0.0) + value**2
    scale = torch.tensor([max(norms[row.module] ** 0.5, 1e-38) for row in rows], dtype=torch.float64)
    return values / scale, errors / scale
