"""Scores that are products of a query with a key.

Axes: R rows (some queries), C columns (some keys), D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from .base import Score

__all__ = ["Dot"]


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


def settled(given: Any, own: float | None, width: int) -> float:
    """The factor of a score: the one given for this call, else its own, else 1/sqrt(D)."""
    if isinstance(given, Tensor) and given.requires_grad:
        raise ValueError("scale is a plain number; to learn one, multiply the queries by it")
    if given is not None:
        return float(given)
    return width**-0.5 if own is None else own
