"""How much a loss grows without heads: each alone, or several that go together. N batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..change import knockout
from ..change.naming import Pair
from .losses import Checked
from .pruning.moments import Moments
from .pruning.prune import named
from .pruning.switches import Switches

__all__ = ["leave_out", "told"]


def told(loss: Checked, model: nn.Module, batch: Any) -> tuple[float, int]:
    """The loss of a batch, and over how many places; a mean over sequences counts as one place."""
    found, places = loss(model, batch)
    return float(found), 1 if places is None else places


@torch.no_grad()
def leave_out(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Checked,
    units: Sequence[Sequence[Pair]],
    *,
    first: tuple[float, int],
    stand_ins: Mapping[str, Moments] | None,
    tell: Callable[[int, int], None],
) -> tuple[Tensor, Tensor | None]:
    """What the loss grows without each unit, and its standard error, as batches vary: None of one batch.

    Args:
        first: what is `told` of the first batch, by the whole model.
        stand_ins: as in `Switches`; None: the heads are knocked out.
        tell: told how many passes over a batch are done, of how many.
    """
    n, passes = len(batches), len(batches) * (len(units) + 1)
    known = [first, *(told(loss, model, batch) for batch in batches[1:])]
    before_N, places_N = (torch.tensor(column, dtype=torch.float64) for column in zip(*known, strict=True))
    values, errors = (torch.zeros(len(units), dtype=torch.float64) for _ in range(2))
    for i, unit in enumerate(units):
        with _without(model, unit, stand_ins):
            after_N = torch.tensor([told(loss, model, batch)[0] for batch in batches], dtype=torch.float64)
        grown_N = after_N - before_N
        values[i] = grown_N.sum() / places_N.sum()
        spread = (grown_N - values[i] * places_N).square().sum() * n / max(1, n - 1)  # of a ratio of sums
        errors[i] = spread.sqrt() / places_N.sum()
        tell((i + 2) * n, passes)
    return values, errors if n > 1 else None


@contextmanager
def _without(model: nn.Module, unit: Sequence[Pair], stand_ins: Mapping[str, Moments] | None) -> Iterator[None]:
    if stand_ins is None:
        with knockout(model, unit):
            yield
    else:
        with Switches(model, stand_ins=stand_ins) as switches:
            switches.off = named(model, unit).items()
            yield
