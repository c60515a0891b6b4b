"""The hypotheses that still grow, those that ended, and how either is read back to its begin.

Axes: N rows (hypotheses that grow), M their continuations that are kept, V vocabulary.
The books are NumPy arrays on the host: a step is some fifty operations on a few hundred numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .choose import Chunks, Logits
from .rules import Rules
from .steps import Hypothesis, Steps, length_norm

__all__ = ["Frontier", "Grown"]


class Kept(NamedTuple):
    """The continuations that a step kept: which of the step before each follows, its token, its log-probability."""

    before_M: np.ndarray
    token_M: np.ndarray
    logp_M: np.ndarray


@dataclass(frozen=True)
class Leaf:
    """A hypothesis that grows no more: continuation `place` of step `length`."""

    finished: bool
    score: float
    total: float
    length: int
    place: int

    @property
    def order(self) -> tuple[bool, float]:
        return not self.finished, -self.score


class Grown(NamedTuple):
    """What a step came to, by continuation: its sentence, whether it reached the end, its score if it ends here."""

    sentence_M: np.ndarray
    ended_M: np.ndarray
    score_M: np.ndarray


class Frontier:
    """N rows of a decoder and their books. Rows of one sentence lie together, sentences in order. To use it:

    while len(frontier):
        logits = frontier.read()
        ...                                          # choose continuations
        frontier.grow(parent_M, token_M, logp_M)
        frontier.keep(keep_N)                        # drop rows that need not go on
    return frontier.hypotheses(nbest)
    """

    chunks: Chunks  # known with the first logits, as is the next
    blocked_V: np.ndarray | None = None

    def __init__(self, steps: Steps, rows: int, rules: Rules) -> None:
        self.steps, self.rules = steps, rules
        self.length = 0  # of the hypotheses so far
        self.sentence_N = np.arange(rows)
        self.total_N = np.zeros(rows)
        self._token_N = np.full(rows, rules.begin)
        self._place_N = np.arange(rows)  # among the last step's continuations
        self._row_N = np.arange(rows)  # of the decoder
        self._width = rows  # how many the decoder has
        self._trail: list[Kept] = []
        self._leaves: list[list[Leaf]] = [[] for _ in range(rows)]

    def __len__(self) -> int:
        return len(self.sentence_N)

    def read(self) -> Logits:
        """Let the decoder read the last tokens; the logits of the next. Where nothing can follow, a row's norm is +inf.

        Raises:
            ValueError: logits of a wrong shape or dtype, NaN or +inf.
        """
        if not np.array_equal(self._row_N, np.arange(self._width)):
            self.steps.select(torch.from_numpy(self._row_N))
        self._width, self._row_N = len(self), np.arange(len(self))
        logit_NV = self._checked(self.steps.advance(torch.from_numpy(self._token_N)))
        logits = self.chunks.measured(logit_NV)
        for row in np.flatnonzero(np.isnan(logits.norm_N)):
            if not (logit_NV[row] == -torch.inf).all():
                where = f"token {self.length + 1} of sentence {self.sentence_N[row]}"
                raise ValueError(f"the decoder's logits must be finite, or -inf; it gave NaN or +inf for {where}")
            logits.norm_N[row] = np.inf
        return logits

    def _checked(self, logit_NV: Tensor) -> Tensor:
        vocabulary = (logit_NV.shape[-1] if logit_NV.ndim else 0) if self.blocked_V is None else len(self.blocked_V)
        if logit_NV.shape != (len(self), vocabulary) or not vocabulary or not logit_NV.is_floating_point():
            wanted, got = f"({len(self)}, {vocabulary or 'V'})", f"{tuple(logit_NV.shape)} of {logit_NV.dtype}"
            raise ValueError(f"advance must give floating logits (rows, tokens) = {wanted}; got {got}")
        if self.blocked_V is None:
            self.blocked_V = self.rules.blocked(vocabulary)
            self.chunks = Chunks(self.blocked_V)
        return logit_NV

    def grow(self, parent_M: np.ndarray, token_M: np.ndarray, logp_M: np.ndarray) -> Grown:
        """Continue rows `parent_M`, in order of sentences, by these tokens; what ends or is at its limit stops there.

        Of the continuations of one sentence the better come first.
        """
        self.length += 1
        self._trail.append(Kept(self._place_N[parent_M], token_M, logp_M))
        total_M, sentence_M = self.total_N[parent_M] + logp_M, self.sentence_N[parent_M]
        score_M = total_M / length_norm(float(self.length), self.rules.penalty)
        ended_M = token_M == self.rules.end
        stays_M = ended_M | (self.rules.limit_B[sentence_M] <= self.length)
        for i in np.flatnonzero(stays_M):
            leaf = Leaf(bool(ended_M[i]), float(score_M[i]), float(total_M[i]), self.length, int(i))
            self._leaves[sentence_M[i]].append(leaf)
        self._place_N = np.flatnonzero(~stays_M)
        self._row_N, self._token_N = parent_M[self._place_N], token_M[self._place_N]
        self.sentence_N, self.total_N = sentence_M[self._place_N], total_M[self._place_N]
        return Grown(sentence_M, ended_M, score_M)

    def keep(self, keep_N: np.ndarray) -> None:
        """Only these rows, booleans (N,), go on; nothing remains of the others."""
        if keep_N.all():
            return
        self.sentence_N, self.total_N = self.sentence_N[keep_N], self.total_N[keep_N]
        self._place_N, self._row_N, self._token_N = self._place_N[keep_N], self._row_N[keep_N], self._token_N[keep_N]

    def hypotheses(self, nbest: int) -> list[list[Hypothesis]]:
        """Up to `nbest` of each sentence: those that ended first, then by score; of equal ones that found first."""
        ranked = (sorted(leaves, key=lambda leaf: leaf.order)[:nbest] for leaves in self._leaves)
        return [[self._read_back(leaf) for leaf in leaves] for leaves in ranked]

    def _read_back(self, leaf: Leaf) -> Hypothesis:
        tokens, scores, place = [], [], leaf.place
        for kept in reversed(self._trail[: leaf.length]):
            tokens.append(int(kept.token_M[place]))
            scores.append(float(kept.logp_M[place]))
            place = kept.before_M[place]
        text = tuple(reversed(tokens[1:] if leaf.finished else tokens))
        return Hypothesis(text, leaf.score, leaf.total, tuple(reversed(scores)), leaf.finished)
