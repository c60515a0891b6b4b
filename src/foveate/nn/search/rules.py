"""What may be produced, and how much of it: the options that all searches share, checked.

Axes: B sentences, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Limits", "Rules", "at_least_one"]

Limits = int | Sequence[int] | Tensor


@dataclass(frozen=True)
class Rules:
    """The options of one search. `limit_B` counts the end token, so it is also how often a decoder is asked at most."""

    begin: int
    end: int
    limit_B: np.ndarray
    forbid: tuple[int, ...]
    allowed: tuple[int, ...] | None
    penalty: float

    @classmethod
    def checked(
        cls,
        rows: int,
        *,
        begin: int,
        end: int,
        limit_B: Limits,
        forbid: Sequence[int] = (),
        allowed: Sequence[int] | None = None,
        length_penalty: float = 1.0,
    ) -> Rules:
        """Raises a ValueError for what breaks a rule."""
        if rows < 0:
            raise ValueError(f"rows must be at least 0; got {rows}")
        if begin == end:
            raise ValueError(f"begin and end must be different tokens; both are {begin}")
        if end in forbid:
            raise ValueError(f"the end token, {end}, must not be forbidden: no hypothesis could finish")
        for name, tokens in {"begin": [begin], "end": [end], "forbid": forbid, "allowed": allowed or ()}.items():
            if min(tokens, default=0) < 0:
                raise ValueError(f"{name}: tokens must be at least 0; got {min(tokens)}")
        if not math.isfinite(length_penalty):
            raise ValueError(f"length_penalty must be finite; got {length_penalty}")
        limits = _limits(rows, limit_B)
        return cls(begin, end, limits, tuple(forbid), None if allowed is None else tuple(allowed), length_penalty)

    def blocked(self, vocabulary: int) -> np.ndarray:
        """Which of the tokens may not be produced, booleans (V,).

        Raises:
            ValueError: a token named in the options is not in the vocabulary.
        """
        known = max(self.begin, self.end, *self.forbid, *(self.allowed or ()))
        if known >= vocabulary:
            raise ValueError(f"the logits are of {vocabulary} tokens, 0 to {vocabulary - 1}; token {known} was named")
        blocked_V = np.full(vocabulary, self.allowed is not None)
        blocked_V[[*(self.allowed or ()), self.end]] = False
        blocked_V[list(self.forbid)] = True
        return blocked_V


def at_least_one(**named: int | None) -> None:
    """Raises a ValueError for the first number below 1."""
    for name, number in named.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")


def _limits(rows: int, limit_B: Limits) -> np.ndarray:
    limits = np.asarray(limit_B.tolist() if isinstance(limit_B, Tensor) else limit_B)
    if limits.shape not in ((), (rows,)):
        raise ValueError(
            f"limit_B must be one number, or one for each of the {rows} sentences; got shape {limits.shape}"
        )
    if limits.size and limits.dtype.kind not in "iu":
        raise ValueError(f"limit_B must be whole numbers; got {limits.dtype}")
    if limits.size and limits.min() < 1:
        raise ValueError(f"limit_B must be at least 1: the end counts as a token; got {limits.min()}")
    return np.broadcast_to(limits.astype(np.int64), (rows,))
