"""Scores: how a query and a key are compared before normalising.

A score is one function on blocks, `(..., R, D), (..., C, D) -> (..., R, C)`. The operator and the map call the
same one, so what is computed is what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .describe import describable

__all__ = ["Dot", "Score", "dot", "resolve", "scaled_dot"]

Score = Callable[[Tensor, Tensor], Tensor]


@describable
@dataclass(frozen=True)
class Dot:
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

    def raw(self, q: Tensor, k: Tensor) -> Tensor:
        """The plain products, before scale and cap: (..., R, D), (..., C, D) -> (..., R, C)."""
        return q @ k.mT

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C D"]) -> Float[Tensor, "*batch R C"]:
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        s = (q if scale == 1.0 else q * scale) @ k.mT
        return s if self.softcap is None else torch.tanh(s / self.softcap) * self.softcap


def dot(softcap: float | None = None) -> Dot:
    """Dot product (Luong et al. 2015, "dot")."""
    return Dot(1.0, softcap)


def scaled_dot(softcap: float | None = None) -> Dot:
    """Dot product divided by the square root of the width (Vaswani et al. 2017)."""
    return Dot(None, softcap)


def resolve(score: str | Score, scale: float | None, width: int) -> Score:
    """The score for a name or a function, its scale settled for head width `width`.

    Raises:
        ValueError: an unknown name, or a scale given to a score that has none.
    """
    named = {"dot": dot, "scaled_dot": scaled_dot}
    if isinstance(score, str):
        if score not in named:
            raise ValueError(f"unknown score {score!r}; expected 'dot', 'scaled_dot' or a function of (q, k)")
        score = named[score]()
    if isinstance(score, Dot):
        if isinstance(scale, Tensor) and scale.requires_grad:
            raise ValueError("scale is a plain number; to learn one, multiply the queries by it")
        if scale is not None:
            return replace(score, scale=float(scale))
        return score if score.scale is not None else replace(score, scale=width**-0.5)
    if scale is not None:
        raise ValueError("scale goes with the scores 'dot' and 'scaled_dot'; put it into your own function")
    if not callable(score):
        raise ValueError(f"score must be 'dot', 'scaled_dot' or a function of (q, k); got {type(score).__name__}")
    return score
