"""Scores that take one product of matrices: dot, bilinear, cosine, squared distance.

Axes: H heads (all, or some), R rows (some queries), C columns (some keys), D query width, E key width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from ..shapes import sum_dtype
from .base import Score

__all__ = ["Angle", "Bilinear", "Distance", "Dot"]


@describable
@dataclass(frozen=True)
class Dot(Score):
    """`softcap * tanh(scale * q.k / softcap)`; without a softcap, `scale * q.k`.

    `scale` None means 1/sqrt(D), settled when the width is known (Vaswani et al. 2017, eq. 1). The soft cap is
    that of Gemma 2 (2024).
    """

    scale: float | None = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError("softcap must be greater than 0")

    @property
    def name(self) -> str:
        return "dot" if self.scale == 1.0 else "scaled_dot"

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Dot:
        return replace(self, scale=settled(scale, self.scale, query_width))

    def raw(self, q: Tensor, k: Tensor) -> Tensor:
        """The plain products, before scale and cap: (..., R, D), (..., C, D) -> (..., R, C)."""
        return q @ k.mT

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C D"]) -> Float[Tensor, "*batch R C"]:
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        s = (q if scale == 1.0 else q * scale) @ k.mT
        return s if self.softcap is None else torch.tanh(s / self.softcap) * self.softcap


@describable
@dataclass(frozen=True, eq=False)
class Bilinear(Score):
    """q.W k, W (D, E) or one per head (H, D, E) (Luong et al. 2015, section 3.1, "general")."""

    weight: Tensor

    mixes_widths = True

    def __post_init__(self) -> None:
        if self.weight.ndim not in (2, 3):
            raise ValueError(f"a bilinear weight has the axes (D, E) or (H, D, E); got {tuple(self.weight.shape)}")

    @property
    def name(self) -> str:
        return "general"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    @property
    def per_head(self) -> bool:
        return self.weight.ndim == 3

    def of_heads(self, heads: slice) -> Bilinear:
        return replace(self, weight=self.weight[heads]) if self.per_head else self

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Bilinear:
        super().settle(scale, heads, query_width, key_width)
        fits(self, heads, self.weight, query_width=(-2, query_width), key_width=(-1, key_width))
        return self

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C E"]) -> Float[Tensor, "*batch R C"]:
        return (q @ self.weight.to(q)) @ k.mT


@describable
@dataclass(frozen=True, eq=False)
class Angle(Score):
    """cos(q, k) / temperature, the temperature a number, or one per head (H,). A vector of zeros has cosine 0."""

    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        t = self.temperature
        if isinstance(t, Tensor) and t.ndim > 1:
            raise ValueError(f"a temperature is a number, or one per head (H,); got shape {tuple(t.shape)}")
        if not isinstance(t, Tensor) and not t > 0:
            raise ValueError("temperature must be greater than 0")

    @property
    def name(self) -> str:
        return "cosine"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.temperature,) if isinstance(self.temperature, Tensor) else ()

    @property
    def per_head(self) -> bool:
        return isinstance(self.temperature, Tensor) and self.temperature.ndim == 1

    def of_heads(self, heads: slice) -> Angle:
        if not self.per_head:
            return self
        assert isinstance(self.temperature, Tensor)
        return replace(self, temperature=self.temperature[heads])

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Angle:
        super().settle(scale, heads, query_width, key_width)
        if self.per_head:
            fits(self, heads, self.temperature)
        return self

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C D"]) -> Float[Tensor, "*batch R C"]:
        t = self.temperature
        if isinstance(t, Tensor):
            t = t.to(q).reshape(-1, 1, 1) if self.per_head else t.to(q)
        return (_unit(q) / t) @ _unit(k).mT


@describable
@dataclass(frozen=True)
class Distance(Score):
    """-scale |q - k|^2 (Kim et al. 2021, "L2 self-attention"); `scale` None means 1/sqrt(D), as there."""

    scale: float | None = None

    @property
    def name(self) -> str:
        return "l2"

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Distance:
        return replace(self, scale=settled(scale, self.scale, query_width))

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C D"]) -> Float[Tensor, "*batch R C"]:
        """2 q.k - |q|^2 - |k|^2 about the keys' mean, in float64: far from that mean the three cancel."""
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        given, wide = q.dtype, sum_dtype(q.device)
        q, k = q.to(wide), k.to(wide)
        with torch.no_grad():
            middle = torch.nan_to_num(torch.nan_to_num(k, 0.0, 0.0, 0.0).mean(-2, keepdim=True), 0.0, 0.0, 0.0)
        q, k = q - middle, k - middle
        q2, k2 = q.square().sum(-1, keepdim=True), k.square().sum(-1, keepdim=True)
        return ((2 * (q @ k.mT) - q2 - k2.mT) * scale).to(given)


def _unit(x: Tensor) -> Tensor:
    """Vectors of length 1, from any that floats can hold; zeros stay zeros."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    x = x / torch.where(largest == 0, torch.ones_like(largest), largest)  # a constant factor changes no direction
    length = x.square().sum(-1, keepdim=True)  # from 1 to D, or 0
    return x * torch.where(largest == 0, torch.ones_like(length), length).rsqrt()


def fits(score: Score, heads: int, weight: Any, **widths: tuple[int, int]) -> None:
    """Raise unless a parameter's own head axis and widths are those of the problem."""
    if score.per_head and weight.shape[0] != heads:
        raise ValueError(f"the score {score.name!r} was made for {weight.shape[0]} heads; got queries of {heads}")
    for name, (axis, width) in widths.items():
        if weight.shape[axis] != width:
            raise ValueError(f"the score {score.name!r} was made with {name} {weight.shape[axis]}; got width {width}")


def settled(given: Any, own: float | None, width: int) -> float:
    """The factor of a score: the one given for this call, else its own, else 1/sqrt(D)."""
    if isinstance(given, Tensor) and given.requires_grad:
        raise ValueError("scale is a plain number; to learn one, multiply the queries by it")
    if given is not None:
        return float(given)
    return width**-0.5 if own is None else own
