"""Scores: how a query and a key are compared before normalising.

dot(), scaled_dot()                q.k, with a scale and a soft cap
cosine(temperature)                cos(q, k) / temperature
l2(scale)                          -scale |q - k|^2
Additive, Concat, General, Cosine  modules with weights to learn
any function                       of blocks, (..., R, D), (..., C, E) -> (..., R, C)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import table as table  # so that recordings know it
from .base import Function, Learned, Score
from .learned import Additive, Concat, Cosine, General
from .placed import Placed
from .products import Angle, Distance, Dot

__all__ = [
    "Additive",
    "Concat",
    "Cosine",
    "Dot",
    "Function",
    "General",
    "Learned",
    "Placed",
    "Score",
    "cosine",
    "dot",
    "l2",
    "named",
    "scaled_dot",
]


def dot(softcap: float | None = None) -> Dot:
    """q.k, the dot product (Luong et al. 2015, section 3.1, "dot")."""
    return Dot(1.0, softcap)


def scaled_dot(softcap: float | None = None) -> Dot:
    """q.k / sqrt(D) (Vaswani et al. 2017, eq. 1)."""
    return Dot(None, softcap)


def cosine(temperature: float | Tensor = 1.0) -> Angle:
    """cos(q, k) / temperature (Graves et al. 2014, eq. 5 and 6); a temperature is a number, or one per head (H,).

    `fv.scores.Cosine` learns its temperature. A vector of zeros has cosine 0 with everything.
    """
    return Angle(temperature if isinstance(temperature, Tensor) else float(temperature))


def l2(scale: float | None = None) -> Distance:
    """-scale |q - k|^2, `scale` 1/sqrt(D) unless given (Kim et al. 2021, "L2 self-attention")."""
    return Distance(scale)


NAMED: dict[str, Callable[[], Score]] = {"scaled_dot": scaled_dot, "dot": dot, "cosine": cosine, "l2": l2}
LEARNED = {
    "additive": "Additive(query_width, key_width, hidden)",
    "concat": "Concat(query_width, key_width, hidden)",
    "general": "General(query_width, key_width)",
}


def named(score: Any) -> Score:
    """The score for a name, a score, a module with weights to learn, or a function of yours.

    Raises:
        ValueError: an unknown name, or nothing that can be called.
    """
    if isinstance(score, str):
        if score in LEARNED:
            raise ValueError(f"the score {score!r} has weights to learn: make fv.scores.{LEARNED[score]} and pass it")
        if score not in NAMED:
            names = ", ".join(repr(name) for name in NAMED)
            raise ValueError(f"unknown score {score!r}; expected {names}, one of fv.scores or a function of (q, k)")
        return NAMED[score]()
    if isinstance(score, Learned):
        return score.form()
    if isinstance(score, Score):
        return score
    if not callable(score) or isinstance(score, type):
        raise ValueError(f"score must be a name, one of fv.scores or a function of (q, k); got {type(score).__name__}")
    return Function(score)
