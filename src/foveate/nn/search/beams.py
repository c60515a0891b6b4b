"""Greedy and beam search.

Axes: B sentences, N rows (hypotheses that grow), S sentences that go on, K their best continuations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .choose import starts
from .frontier import Frontier, Grown
from .rules import Limits, Rules, at_least_one
from .steps import Hypothesis, Steps, length_norm

__all__ = ["beam", "greedy"]


def greedy(
    steps: Steps,
    rows: int,
    *,
    begin: int,
    end: int,
    limit_B: Limits,
    length_penalty: float = 1.0,
    forbid: Sequence[int] = (),
    allowed: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The most probable token each time: `beam` of size 1, whose options these are."""
    return beam(
        steps,
        rows,
        begin=begin,
        end=end,
        limit_B=limit_B,
        size=1,
        length_penalty=length_penalty,
        forbid=forbid,
        allowed=allowed,
    )


@torch.no_grad()
def beam(
    steps: Steps,
    rows: int,
    *,
    begin: int,
    end: int,
    limit_B: Limits,
    size: int = 5,
    nbest: int = 1,
    length_penalty: float = 1.0,
    forbid: Sequence[int] = (),
    allowed: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Beam search over all sentences at once: the best hypotheses of each, best first.

    Each step keeps the `size` most probable continuations of a sentence's hypotheses; those that end are set aside, the
    others go on. A sentence is done, and leaves the batch, when none goes on, or when none could still come among its
    `nbest` that ended, whatever its next tokens: the result is that of going on to the limit.

    Hypotheses that ended come before those that the limit cut off, then the higher score comes first. Of equal totals
    in a step that is kept whose parent ranked higher, then the lower token; of equal scores at last that found first.

    Args:
        rows: how many sentences `steps` starts with.
        begin, end: the tokens.
        limit_B: the most tokens of a hypothesis, the end counted: one number, or one for each sentence.
        size: hypotheses kept per sentence.
        nbest: hypotheses given back per sentence; fewer where there are fewer.
        length_penalty: the exponent in `length_norm`; below 0 favours short ones.
        forbid: tokens that are never produced. Their probability is not given to others.
        allowed: if given, only these tokens and the end are produced.

    Raises:
        ValueError: an option breaks a rule; the decoder's logits are NaN, +inf or of a wrong shape. A hypothesis that
            nothing can follow, as all logits are -inf, is no error: it is dropped.
    """
    at_least_one(size=size, nbest=nbest)
    if nbest > size:
        raise ValueError(f"nbest must be at most the size of the beam; got nbest {nbest}, size {size}")
    rules = Rules.checked(
        rows, begin=begin, end=end, limit_B=limit_B, forbid=forbid, allowed=allowed, length_penalty=length_penalty
    )
    frontier, finished = Frontier(steps, rows, rules), Finished(rows, nbest, rules)
    while len(frontier):
        logits = frontier.read()
        best = frontier.chunks.best(logits, frontier.total_N, frontier.sentence_N, size)
        kept_SK = best.total_SK > -np.inf
        finished.add(frontier.grow(best.row_SK[kept_SK], best.token_SK[kept_SK], best.logp_SK[kept_SK]))
        frontier.keep(finished.may_change(frontier))
    return frontier.hypotheses(nbest)


class Finished:
    """The scores (B, nbest) of each sentence's best hypotheses that ended, -inf where there are fewer."""

    def __init__(self, rows: int, nbest: int, rules: Rules) -> None:
        self.rules = rules
        self.scores = np.full((rows, nbest), -np.inf)

    def add(self, grown: Grown) -> None:
        for sentence, score in zip(grown.sentence_M[grown.ended_M], grown.score_M[grown.ended_M], strict=True):
            worst = self.scores[sentence].argmin()
            self.scores[sentence, worst] = max(self.scores[sentence, worst], score)

    def may_change(self, frontier: Frontier) -> np.ndarray:
        """Rows (N,) of sentences whose best hypothesis could still come among them.

        A total only falls, and the norm rises or falls with the length: so no continuation scores higher than the total
        so far over the largest norm on the way to the limit. An equal score would not count, being found later.
        """
        start_S = starts(frontier.sentence_N)
        sentence_S, penalty = frontier.sentence_N[start_S], self.rules.penalty
        last_S = length_norm(self.rules.limit_B[sentence_S].astype(np.float64), penalty)
        bound_S = frontier.total_N[start_S] / np.maximum(last_S, length_norm(frontier.length + 1.0, penalty))
        open_S = self.scores[sentence_S].min(axis=1) < bound_S
        return np.repeat(open_S, np.diff(start_S, append=len(frontier)))
