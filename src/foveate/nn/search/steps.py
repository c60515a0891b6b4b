"""What a search asks of a decoder, and what it gives back.

Axes: N rows (hypotheses that still grow), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

__all__ = ["Hypothesis", "Steps", "length_norm"]

Number = TypeVar("Number", float, np.ndarray)


@runtime_checkable
class Steps(Protocol):
    """A decoder that goes on token by token, for N rows at once. It is used up: a search changes it.

    It starts with one row per sentence, in their order. A search calls `advance` once for each token; between two calls
    it may call `select`, which leaves out the rows that ended. Both are given int64 tensors on the CPU, where a search
    keeps its books; a decoder that computes elsewhere moves them there.
    """

    def advance(self, tokens_N: Tensor) -> Tensor:
        """Read the last token of each row (N,), first `begin`; gives the next one's logits (N, V), of any float type.

        They need no normalising and are not written to. -inf says that a token cannot follow.
        """
        ...

    def select(self, rows_N: Tensor) -> None:
        """Keep these rows, in this order: numbers (M,) of the N rows, each as often as wanted. M rows go on."""
        ...


@dataclass(frozen=True)
class Hypothesis:
    """One output of a search.

    Attributes:
        tokens: without begin and end.
        score: `total / length_norm(length)`, by which hypotheses are compared; the length counts the end token.
        total: the log-probability of it all, the end included: the sum of `token_scores`.
        token_scores: the log-probability of each token, and of the end, if it was reached.
        finished: whether the end was reached; False where the limit came first.
    """

    tokens: tuple[int, ...]
    score: float
    total: float
    token_scores: tuple[float, ...]
    finished: bool


def length_norm(length: Number, penalty: float) -> Number:
    """What a total is divided by: `((5 + length) / 6) ** penalty`, Wu et al. 2016 (GNMT), eq. 14.

    0 leaves totals as they are; the larger the penalty, the longer the outputs that win.
    """
    return ((5.0 + length) / 6.0) ** penalty
