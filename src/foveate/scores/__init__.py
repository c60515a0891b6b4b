"""Scores: how a query and a key are compared before normalising.

dot(), scaled_dot()    q.k, with a scale and a soft cap
any function           of blocks, (..., R, D), (..., C, E) -> (..., R, C)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Function, Learned, Score
from .placed import Placed
from .products import Dot

__all__ = ["Dot", "Function", "Learned", "Placed", "Score", "dot", "named", "scaled_dot"]


def dot(softcap: float | None = None) -> Dot:
    """q.k, the dot product (Luong et al. 2015, eq. 8, "dot")."""
    return Dot(1.0, softcap)


def scaled_dot(softcap: float | None = None) -> Dot:
    """q.k / sqrt(D) (Vaswani et al. 2017, eq. 1)."""
    return Dot(None, softcap)


NAMED: dict[str, Callable[[], Score]] = {"dot": dot, "scaled_dot": scaled_dot}


def named(score: Any) -> Score:
    """The score for a name, a score, a module with weights to learn, or a function of yours.

    Raises:
        ValueError: an unknown name, or nothing that can be called.
    """
    if isinstance(score, str):
        if score not in NAMED:
            names = ", ".join(repr(name) for name in NAMED)
            raise ValueError(f"unknown score {score!r}; expected {names} or a function of (q, k)")
        return NAMED[score]()
    if isinstance(score, Learned):
        return score.form()
    if isinstance(score, Score):
        return score
    if not callable(score) or isinstance(score, type):
        raise ValueError(f"score must be a name, one of fv.scores or a function of (q, k); got {type(score).__name__}")
    return Function(score)
