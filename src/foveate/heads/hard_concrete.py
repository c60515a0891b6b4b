"""The hard concrete distribution (Louizos et al. 2018): a number in [0, 1], often exactly 0 or 1, that has a gradient.

Each gate has one parameter, `log_alpha`; the larger, the more open.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["drawn", "middle", "opened", "parameter"]

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3  # how far it is stretched, and how near to 0 and 1 it is drawn
_SHIFT = TEMPERATURE * math.log(-LOW / HIGH)


def drawn(log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A value for each gate, by the generator's random numbers or the global ones."""
    u = torch.rand(log_alpha.shape, generator=generator, device=log_alpha.device).clamp(1e-6, 1 - 1e-6)
    return middle((log_alpha + torch.log(u) - torch.log1p(-u)) / TEMPERATURE)


def middle(log_alpha: Tensor) -> Tensor:
    """The value of each gate without chance."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


def opened(log_alpha: Tensor) -> Tensor:
    """The probability that a gate is not 0."""
    return torch.sigmoid(log_alpha - _SHIFT)


def parameter(chance: float) -> float:
    """The parameter of a gate that is open with this probability."""
    return math.log(chance / (1 - chance)) + _SHIFT
