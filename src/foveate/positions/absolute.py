"""Positions added to a model's input.

Axes: L length, M model width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Learned", "sinusoidal"]


def sinusoidal(length: int, width: int, *, device: torch.device | None = None) -> Float[Tensor, "L M"]:
    """Sines and cosines of falling frequency, (L, M) (Vaswani et al. 2017, section 3.5).

    Raises:
        ValueError: an odd width.
    """
    if width % 2:
        raise ValueError(f"width must be even; got {width}")
    place_L1 = torch.arange(length, dtype=torch.float32, device=device)[:, None]
    step = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angle = place_L1 * torch.exp(step * (-torch.log(torch.tensor(10000.0)).item() / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class Learned(nn.Module):
    """One learned vector for each of the first `length` positions (Gehring et al. 2017)."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1 or width < 1:
            raise ValueError(f"length and width must be at least 1; got {length} and {width}")
        self.table = nn.Parameter(torch.randn(length, width) * 0.02)

    def forward(self, positions: int | Int[Tensor, "*lead"]) -> Float[Tensor, "*lead M"]:
        """The vectors of the first n positions, (n, M), or of given ones, (..., M).

        Raises:
            ValueError: a position beyond the table, or a negative one.
        """
        length = self.table.shape[0]
        if isinstance(positions, int):
            first, last = min(positions, 0), positions - 1
        else:
            first, last = (int(p) for p in torch.aminmax(positions)) if positions.numel() else (0, 0)
        if first < 0 or last >= length:
            raise ValueError(
                f"learned positions go from 0 to {length - 1}; got {first if first < 0 else last}. "
                "Make the table longer, or use positions that follow from a rule, such as fv.positions.rotary"
            )
        return self.table[:positions] if isinstance(positions, int) else self.table[positions]

    def extra_repr(self) -> str:
        return f"length={self.table.shape[0]}, width={self.table.shape[1]}"
