"""Does a head matter? Three ways to ask: the gradient of the loss with respect to a factor on the head's output, the
loss without the head, and gates that are learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..change import knockout
from ..change.intervention import Intervention
from ..change.naming import Pair, resolve
from ..watch import watch
from .gates import Gates, fit, frozen
from .ranking import Importance, Row

__all__ = ["METHODS", "importance"]

METHODS = ("gradient", "leave-one-out", "gates")
Loss = Callable[[nn.Module, Any], Tensor]
Progress = Callable[[int, int], None]


def importance(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    method: str = "gradient",
    *,
    heads: Iterable[Pair] | None = None,
    normalize: bool = False,
    gates: Gates | None = None,
    progress: Progress | None = None,
) -> Importance:
    """How much each head matters for a loss.

    - "gradient" (Michel et al. 2019): the mean over sequences of |dL/dx|, x a factor of 1 on the head's output for this
      sequence. One backward pass a batch. The loss is taken to be a mean over the sequences of its batch.
    - "leave-one-out": how much the loss grows without the head; one pass a head and batch.
    - "gates" (Voita et al. 2019): the probability that a learned gate leaves the head open.

    The model stays as it is; whether it is in training mode is left to you.

    Args:
        batches: whatever `loss` takes; they are gone over several times, so an iterator is kept as a list.
        loss: `loss(model, batch)` gives one number, the smaller the better, and calls the model.
        heads: pairs as in `fv.knockout`; default: all heads of all modules in which attention runs.
        normalize: for "gradient": divide by the root of the sum of squares within each module, as Michel et al. do. For
            a small Transformer that was the worse ranking to prune by.
        gates: options of "gates".
        progress: called with (done, all) after each pass.

    Raises:
        ValueError: an unknown method, no batches, or a loss that is no number.
        ChangeError: heads that are not there, or attention that cannot be changed.
        CaptureError: the model has no attention that can be seen.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(map(repr, METHODS))}")
    if (normalize and method != "gradient") or (gates is not None and method != "gates"):
        raise ValueError("normalize= goes with 'gradient', gates= with 'gates'")
    given = list(batches)
    if not given:
        raise ValueError("importance needs batches; got none")
    tell, checked = progress or (lambda done, total: None), _checked(loss)
    rows, base = _rows(model, given[0], checked, heads)
    pairs: list[Pair] = [(row.module, row.head) for row in rows]
    options: dict[str, Any] = {}
    errors: Tensor | None = None
    if method == "gates":
        chosen = gates or Gates()
        values, count, options = fit(model, given, checked, pairs, chosen, tell), len(given), vars(chosen)
    elif method == "leave-one-out":
        values, errors, count = _left_out(model, given, checked, pairs, base, tell)
    else:
        values, errors, count = _gradient(model, given, checked, rows, tell)
        options = {"normalize": normalize}
        if normalize:
            values, errors = _normalized(rows, values, errors)
    return Importance(method, _told(rows, values, errors), count, dict(options))


def _told(rows: Sequence[Row], values: Tensor, errors: Tensor | None) -> tuple[Row, ...]:
    found = [None] * len(rows) if errors is None else errors.tolist()
    each = zip(rows, values.tolist(), found, strict=True)
    return tuple(replace(row, importance=value, error=error) for row, value, error in each)


def _checked(loss: Loss) -> Loss:
    def checked(model: nn.Module, batch: Any) -> Tensor:
        found = loss(model, batch)
        if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
            raise ValueError(f"loss(model, batch) gives one floating number; got {type(found).__name__}")
        if not bool(torch.isfinite(found.detach()).all()):
            raise ValueError("loss(model, batch) is not finite")
        return found.reshape(())

    return checked


def _rows(model: nn.Module, batch: Any, loss: Loss, heads: Iterable[Pair] | None) -> tuple[list[Row], float]:
    """The heads in question, as attention is seen to run, and the loss of the batch that showed it."""
    with torch.no_grad(), watch(model) as seen:
        base = float(loss(model, batch))
    chosen = None if heads is None else resolve(heads, list(seen))
    rows = []
    for name in seen:
        info = seen.info(name)
        numbers = range(info.heads) if chosen is None else sorted(chosen.get(name, ()))
        for head in numbers:
            rows.append(Row(name, info.layer, info.kind, head, 0.0))
    if not rows:
        raise ValueError("importance needs heads; got none")
    return rows, base


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
    model: nn.Module, batches: Sequence[Any], loss: Loss, rows: Sequence[Row], tell: Progress
) -> tuple[Tensor, Tensor | None, int]:
    place = {(row.module, row.head): i for i, row in enumerate(rows)}
    sums, squares, counts = (torch.zeros(len(rows), dtype=torch.float64) for _ in range(3))
    for done, batch in enumerate(batches):
        change = _Factors(model, list(place))
        with frozen(model), torch.enable_grad(), change:
            found = loss(model, batch)
            if not found.requires_grad:
                raise ValueError("the loss has no gradient: it must not be computed under no_grad, nor detached")
            found.backward()
        calls: dict[tuple[Any, int], Tensor] = {}
        for pairs, table in change.made:
            if table.grad is None:
                continue
            for pair, gradient in zip(pairs, table.grad.double() * table.shape[1], strict=True):
                old = calls.get((pair, len(gradient)))
                calls[pair, len(gradient)] = gradient if old is None else old + gradient
        for (pair, _), gradient in calls.items():
            i = place[pair]
            sums[i] += gradient.abs().sum().cpu()
            squares[i] += gradient.square().sum().cpu()
            counts[i] += len(gradient)
        tell(done + 1, len(batches))
    mean = sums / counts.clamp_min(1)
    spread = (squares / counts.clamp_min(1) - mean.square()).clamp_min(0) * counts / (counts - 1).clamp_min(1)
    return mean, (spread / counts.clamp_min(1)).sqrt() if bool((counts > 1).all()) else None, int(counts.max())


def _left_out(
    model: nn.Module, batches: Sequence[Any], loss: Loss, pairs: Sequence[Pair], base: float, tell: Progress
) -> tuple[Tensor, Tensor | None, int]:
    total = len(batches) * (len(pairs) + 1)
    with torch.no_grad():
        whole = [base, *(float(loss(model, batch)) for batch in batches[1:])]
        grown = torch.zeros(len(pairs), len(batches), dtype=torch.float64)
        for i, pair in enumerate(pairs):
            with knockout(model, [pair]):
                grown[i] = torch.tensor([float(loss(model, b)) - w for b, w in zip(batches, whole, strict=True)])
            tell((i + 2) * len(batches), total)
    error = grown.std(1) / len(batches) ** 0.5 if len(batches) > 1 else None
    return grown.mean(1), error, len(batches)


def _normalized(rows: Sequence[Row], values: Tensor, errors: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Divided by the root of the sum of squares within each module."""
    norms: dict[str, float] = {}
    for row, value in zip(rows, values.tolist(), strict=True):
        norms[row.module] = norms.get(row.module, 0.0) + value**2
    scale = torch.tensor([max(norms[row.module] ** 0.5, 1e-38) for row in rows], dtype=torch.float64)
    return values / scale, None if errors is None else errors / scale
