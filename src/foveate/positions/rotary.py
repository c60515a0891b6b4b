"""Rotary positions (Su et al. 2021): each pair of a head's numbers is turned by an angle that grows with the position,
so that the product of a query and a key depends on their distance only.

Axes: B batch, H heads, L length, D head width, P pairs of numbers that are turned; W = 2 P the rotary width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..shapes import full_precision, sum_dtype
from .scaling import Scaling, plain

__all__ = ["Rotary", "frequencies", "rotary", "rotary_tables", "rotate"]

Pairing = Literal["halves", "interleaved"]


def rotary(
    x: Float[Tensor, "... L D"],
    positions: int | Int[Tensor, "... L"] = 0,
    *,
    base: float = 10000.0,
    width: int | None = None,
    pairing: Pairing = "halves",
    scaling: Scaling | None = None,
    length: int | None = None,
) -> Float[Tensor, "... L D"]:
    """Queries or keys (..., H, L, D) or (L, D), turned by their positions.

        q, k = rotary(q, k.shape[-2] - q.shape[-2]), rotary(k)     # positions align to the end

    Args:
        positions: that of the first row, the others following it; or one for each row, (L,), or (B, L).
        base: the slowest pair turns about once in 2 pi `base` tokens.
        width: how many of the D numbers are turned, the first ones; default all.
        pairing: "halves" pairs number i with i + W / 2 (GPT-NeoX, Llama); "interleaved" 2 i with 2 i + 1 (the paper,
            GPT-J).
        scaling: how frequencies change for longer texts: `Interpolation`, `DynamicNTK`, `YaRN`, `Llama3`, `LongRoPE`.
        length: of the text, for scalings that depend on it, the same for queries and keys; default: the last
            position + 1.

    Raises:
        ValueError: an odd width or one beyond D, positions that do not fit, or an unknown pairing.
    """
    if x.ndim < 2:
        raise ValueError(f"rotary takes (..., L, D); got shape {tuple(x.shape)}")
    n, w = x.shape[-2], x.shape[-1] if width is None else width
    if not 0 < w <= x.shape[-1]:
        raise ValueError(f"the rotary width must lie between 2 and the head width, {x.shape[-1]}; got {w}")
    if isinstance(positions, int):
        positions = torch.arange(positions, positions + n, device=x.device)
    lead = tuple(x.shape[:-3])
    if tuple(positions.shape) not in ((n,), (*lead, n)):
        shapes = " or ".join(dict.fromkeys(str(s) for s in ((n,), (*lead, n))))
        raise ValueError(f"positions must have shape {shapes} for {tuple(x.shape)}; got {tuple(positions.shape)}")
    cos, sin = rotary_tables(positions.to(x.device), w, base=base, scaling=scaling, length=length)
    if positions.ndim > 1:  # the same for all heads
        cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
    return rotate(x, cos, sin, pairing=pairing)


@dataclass(frozen=True)
class Rotary:
    """`rotary` with its options settled: what modules take as `positions=`."""

    base: float = 10000.0
    width: int | None = None
    pairing: Pairing = "halves"
    scaling: Scaling | None = None

    @property
    def needs_length(self) -> bool:
        """Whether angles depend on how long the text is, so that keys must be turned anew as it grows."""
        return self.scaling is not None and self.scaling.needs_length

    def rotate(
        self, x: Float[Tensor, "... L D"], positions: int | Int[Tensor, "... L"] = 0, *, length: int | None = None
    ) -> Float[Tensor, "... L D"]:
        """Queries or keys, turned by their positions; `positions` and `length` as in `rotary`."""
        options = {"base": self.base, "width": self.width, "pairing": self.pairing, "scaling": self.scaling}
        return rotary(x, positions, length=length, **options)  # type: ignore[arg-type]


def rotary_tables(
    positions: Int[Tensor, "*lead L"],
    width: int,
    *,
    base: float = 10000.0,
    scaling: Scaling | None = None,
    length: int | None = None,
) -> tuple[Float[Tensor, "*lead L P"], Float[Tensor, "*lead L P"]]:
    """Cosines and sines (..., L, W / 2) for `rotate`, so that layers can share them.

    Angles are float64 where the device has it: at position 100,000 those of float32 are off by 0.004.
    """
    if length is None:
        counts = scaling is not None and scaling.needs_length and positions.numel() > 0
        length = int(positions.max()) + 1 if counts else 0
    found, magnitude = frequencies(width, base=base, scaling=scaling, length=length)
    wide = sum_dtype(positions.device)
    angles = positions[..., None].to(wide) * found.to(positions.device, wide)
    return angles.cos() * magnitude, angles.sin() * magnitude


def frequencies(
    width: int, *, base: float = 10000.0, scaling: Scaling | None = None, length: int = 0
) -> tuple[Float[Tensor, " P"], float]:
    """The angle per position of each pair, (W / 2,) in float64, and the factor on rotated vectors.

    Raises:
        ValueError: an odd width.
    """
    if width % 2 or width < 2:
        raise ValueError(f"the rotary width must be even; got {width}")
    return (plain(width, base), 1.0) if scaling is None else scaling.frequencies(width, base, length)


def rotate(
    x: Float[Tensor, "... L D"],
    cos: Float[Tensor, "... P"],
    sin: Float[Tensor, "... P"],
    *,
    pairing: Pairing = "halves",
) -> Float[Tensor, "... L D"]:
    """Turn the first 2 P of each row's D numbers by the angles whose cosines and sines broadcast to (..., L, P).

    Raises:
        ValueError: an unknown pairing, or tables wider than x.
        TypeError: x holds no floating-point numbers.
    """
    if not x.dtype.is_floating_point:
        raise TypeError(f"rotary positions turn floating-point numbers; got {x.dtype}")
    if pairing not in ("halves", "interleaved"):
        raise ValueError(f"pairing must be 'halves' or 'interleaved'; got {pairing!r}")
    w = 2 * cos.shape[-1]
    if w > x.shape[-1]:
        raise ValueError(f"tables of {cos.shape[-1]} pairs turn {w} numbers, but x has {x.shape[-1]}")
    wide = torch.promote_types(x.dtype, torch.float32)
    with full_precision(x.device):
        turned, rest = x[..., :w].to(wide), x[..., w:]
        cos, sin = cos.to(wide), sin.to(wide)
        if pairing == "halves":
            a, b = turned[..., : w // 2], turned[..., w // 2 :]
            out = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        else:
            a, b = turned[..., 0::2], turned[..., 1::2]
            out = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    out = out.to(x.dtype)
    return torch.cat([out, rest], dim=-1) if rest.shape[-1] else out
