"""Oracles of a search: all outputs enumerated, a beam kept in lists, the exact distribution of draws.

The decoder is a table of random numbers, looked up by sentence and whole prefix: a row that `select` moved to the wrong
place reads another's numbers. It also checks how a search uses it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.nn.search import Hypothesis

BEGIN, END = 1, 2  # of a vocabulary of at least 3
Prefix = tuple[int, ...]
Numbers = Callable[[int, Prefix], list[float]]  # the logits that follow a prefix of a sentence


@dataclass
class Table:
    """Logits by sentence and prefix."""

    numbers: Numbers
    sentences: list[int]
    limits: list[int]
    distinct: bool = True  # no two rows may be the same hypothesis
    dtype: torch.dtype = torch.float64
    widths: list[int] = field(default_factory=list)  # rows at each call

    def __post_init__(self) -> None:
        self.rows: list[tuple[int, Prefix]] = [(i, ()) for i in range(len(self.sentences))]
        self.selected = True

    def advance(self, tokens_N: Tensor) -> Tensor:
        assert (tokens_N.dtype, tokens_N.device.type, tokens_N.ndim) == (torch.int64, "cpu", 1)
        assert tokens_N.shape[0] == len(self.rows) > 0
        self.rows = [(i, (*prefix, int(token))) for (i, prefix), token in zip(self.rows, tokens_N, strict=True)]
        for i, prefix in self.rows:
            assert prefix[0] == BEGIN and END not in prefix
            assert len(prefix) <= self.limits[i]
        assert not self.distinct or len(set(self.rows)) == len(self.rows)
        self.widths.append(len(self.rows))
        self.selected = False
        return torch.tensor([self.numbers(self.sentences[i], p[1:]) for i, p in self.rows], dtype=self.dtype)

    def select(self, rows_N: Tensor) -> None:
        assert not self.selected, "one selection between two calls is enough"
        assert (rows_N.dtype, rows_N.device.type, rows_N.ndim) == (torch.int64, "cpu", 1)
        assert len(rows_N) and rows_N.tolist() != list(range(len(self.rows))), "nothing to do"
        self.rows = [self.rows[i] for i in rows_N.tolist()]
        self.selected = True


def random_numbers(vocabulary: int, seed: int = 0, *, holes: float = 0.0, levels: int | None = None) -> Numbers:
    """Some of the numbers -inf, or, of few levels, equal."""
    known: dict[tuple[int, Prefix], list[float]] = {}

    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        if (sentence, prefix) not in known:
            draw = random.Random(f"{seed} {sentence} {prefix}")
            row = [draw.gauss(0.0, 2.0) if levels is None else float(draw.randrange(levels)) for _ in range(vocabulary)]
            known[sentence, prefix] = [-math.inf if draw.random() < holes else x for x in row]
        return known[sentence, prefix]

    return numbers


def log_probabilities(logits: list[float]) -> list[float]:
    """-inf throughout where nothing can follow."""
    top = max(logits)
    if top == -math.inf:
        return logits
    norm = top + math.log(math.fsum(math.exp(x - top) for x in logits))
    return [x - norm for x in logits]


def hypothesis(tokens: Prefix, scores: list[float], penalty: float) -> Hypothesis:
    """From tokens with the end, if there is one."""
    finished = tokens[-1] == END
    total = math.fsum(scores)
    score = total / ((5 + len(tokens)) / 6) ** penalty
    return Hypothesis(tokens[:-1] if finished else tokens, score, total, tuple(scores), finished)


def ranked(found: list[Hypothesis], nbest: int) -> list[Hypothesis]:
    return sorted(found, key=lambda h: (not h.finished, -h.score))[:nbest]


def everything(numbers: Numbers, sentence: int, limit: int, banned: set[int]) -> Iterator[tuple[Prefix, list[float]]]:
    """All outputs, with the log-probability of each token."""
    stack: list[tuple[Prefix, list[float]]] = [((), [])]
    while stack:
        prefix, scores = stack.pop()
        for token, logp in enumerate(log_probabilities(numbers(sentence, prefix))):
            if logp > -math.inf and token not in banned:
                longer = ((*prefix, token), [*scores, logp])
                if token == END or len(longer[0]) == limit:
                    yield longer
                else:
                    stack.append(longer)


def exhaustive(
    numbers: Numbers, sentence: int, limit: int, nbest: int, penalty: float, banned: set[int]
) -> list[Hypothesis]:
    return ranked([hypothesis(*one, penalty) for one in everything(numbers, sentence, limit, banned)], nbest)


def plain_beam(
    numbers: Numbers, sentence: int, limit: int, size: int, nbest: int, penalty: float, banned: set[int]
) -> list[Hypothesis]:
    """Lists, one sentence, no early stop. Candidates come in the order of parents, then tokens; sorting keeps it."""
    live: list[tuple[Prefix, list[float], float]] = [((), [], 0.0)]
    found: list[Hypothesis] = []
    for length in range(1, limit + 1):
        candidates = []
        for prefix, scores, total in live:
            for token, logp in enumerate(log_probabilities(numbers(sentence, prefix))):
                if logp > -math.inf and token not in banned:
                    candidates.append(((*prefix, token), [*scores, logp], total + logp))
        kept = sorted(candidates, key=lambda c: -c[2])[:size]
        stops = [c for c in kept if c[0][-1] == END or length == limit]
        found += [hypothesis(tokens, scores, penalty) for tokens, scores, _ in stops]
        live = [c for c in kept if c not in stops]
    return ranked(found, nbest)


def same(found: list[list[Hypothesis]], wanted: list[list[Hypothesis]], rel: float = 1e-12) -> None:
    """Equal outputs, and numbers up to rounding."""
    assert [[(h.tokens, h.finished) for h in s] for s in found] == [[(h.tokens, h.finished) for h in s] for s in wanted]
    for ours, theirs in zip([h for s in found for h in s], [h for s in wanted for h in s], strict=True):
        assert ours.token_scores == pytest.approx(theirs.token_scores, rel=rel, abs=rel)
        assert ours.total == pytest.approx(theirs.total, rel=rel, abs=rel)
        assert ours.score == pytest.approx(theirs.score, rel=rel, abs=rel)


def table(numbers: Numbers, limits: list[int], *, alone: int | None = None, **options: Any) -> Table:
    """A decoder of all sentences, or of one."""
    if alone is not None:
        return Table(numbers, [alone], [limits[alone]], **options)
    return Table(numbers, list(range(len(limits))), limits, **options)


@dataclass
class Fixed:
    """The same logits at each step, whatever was read."""

    logits: Tensor

    def advance(self, tokens_N: Tensor) -> Tensor:
        return self.logits

    def select(self, rows_N: Tensor) -> None:
        self.logits = self.logits[rows_N]


def drawn_from(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None, banned: set[int]
) -> list[float]:
    """The distribution of one token."""
    order = sorted((i for i in range(len(logits)) if i not in banned), key=lambda i: -logits[i])[:top_k]
    top = logits[order[0]]
    weights = {i: math.exp((logits[i] - top) / temperature) for i in order}
    share, kept = 0.0, []
    for i in order:
        if top_p is None or share < top_p * math.fsum(weights.values()):
            kept.append(i)
        share += weights[i]
    whole = math.fsum(weights[i] for i in kept)
    return [weights[i] / whole if i in kept else 0.0 for i in range(len(logits))]


def distribution(numbers: Numbers, sentence: int, limit: int, *given: Any) -> dict[Prefix, float]:
    """Of whole outputs, their end included."""
    found: dict[Prefix, float] = {}
    stack: list[tuple[Prefix, float]] = [((), 1.0)]
    while stack:
        prefix, share = stack.pop()
        for token, p in enumerate(drawn_from(numbers(sentence, prefix), *given)):
            longer = (*prefix, token)
            if token == END or len(longer) == limit:
                found[longer] = share * p
            elif p:
                stack.append((longer, share * p))
    return found
