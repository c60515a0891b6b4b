"""Learned gates (Voita et al. 2019; Louizos et al. 2018): each head is multiplied with a random number between 0 and 1,
often exactly one of them, whose distribution is fitted so that few heads stay open. The model is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..change.naming import Pair
from ..change.scaling import Scaling
from . import hard_concrete

__all__ = ["Gates", "fit", "frozen"]


@dataclass(frozen=True)
class Gates:
    """How gates are fitted.

    Args:
        penalty: what an open head costs, in units of the loss: larger, fewer heads stay open.
        steps, learning_rate: of Adam; a step is a batch.
        start: the probability of being open at the beginning.
        seed: of the draws, which leave the global random state alone.
    """

    penalty: float = 0.02
    steps: int = 200
    learning_rate: float = 0.1
    start: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.penalty < 0 or self.steps < 1 or self.learning_rate <= 0 or not 0 < self.start < 1:
            raise ValueError(f"gates need penalty >= 0, steps >= 1, learning_rate > 0 and 0 < start < 1; got {self}")


def fit(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    pairs: Sequence[Pair],
    options: Gates,
    progress: Callable[[int, int], None],
) -> Tensor:
    """The probability of each head's gate to be open, at the end."""
    draw = torch.Generator().manual_seed(options.seed)
    at = torch.full((len(pairs),), hard_concrete.parameter(options.start)).requires_grad_()
    optimizer = torch.optim.Adam([at], lr=options.learning_rate)
    with frozen(model), torch.enable_grad():
        for step in range(options.steps):
            gate = hard_concrete.drawn(at, draw)
            optimizer.zero_grad()
            with Scaling(model, dict(zip(pairs, gate.unbind(), strict=True))):
                cost = loss(model, batches[step % len(batches)]) + options.penalty * hard_concrete.opened(at).sum()
                cost.backward()
            optimizer.step()
            progress(step + 1, options.steps)
    return hard_concrete.opened(at.detach())


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, no parameter asks for gradients."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for p in asking:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asking:
            p.requires_grad_(True)
