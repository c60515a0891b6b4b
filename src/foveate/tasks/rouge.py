"""ROUGE (Lin 2004): how much a summary shares with one that a person wrote: words, pairs of words, their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["rouge"]

WORD = re.compile(r"[^\W_]+")
NAMES = ("ROUGE-1", "ROUGE-2", "ROUGE-L")


def rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1 of words ("ROUGE-1"), of pairs of words ("ROUGE-2") and of the longest common subsequence ("ROUGE-L"), from 0
    to 100: the mean over texts, of several references the best one for each of the three.

    Words are letters and digits of any alphabet, in lower case, as they are written (no stemming). Of English text this
    is what rouge-score gives.

    Raises:
        ValueError: there are not as many lists of references as hypotheses, or none at all, or one is empty.
    """
    if len(hypotheses) != len(references) or not all(references) or not hypotheses:
        raise ValueError(
            f"each hypothesis needs at least one reference; got {len(hypotheses):,} hypotheses and references for "
            f"{sum(map(bool, references)):,}"
        )
    sums = [0.0] * len(NAMES)
    for hypothesis, of_one in zip(hypotheses, references, strict=True):
        found = _words(hypothesis)
        best = map(max, zip(*(_scores(found, _words(reference)) for reference in of_one), strict=True))
        sums = [total + score for total, score in zip(sums, best, strict=True)]
    return {name: 100 * total / len(hypotheses) for name, total in zip(NAMES, sums, strict=True)}


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _scores(found: list[str], wanted: list[str]) -> tuple[float, float, float]:
    pairs = [list(pairwise(words)) for words in (found, wanted)]
    return (
        _f1(_shared(found, wanted), len(found), len(wanted)),
        _f1(_shared(*pairs), *map(len, pairs)),
        _f1(_subsequence(found, wanted), len(found), len(wanted)),
    )


def _shared(found: Sequence[object], wanted: Sequence[object]) -> int:
    return (Counter(found) & Counter(wanted)).total()


def _subsequence(found: Sequence[str], wanted: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(wanted) + 1)
    for word in found:
        before, row = row, [0]
        for place, other in enumerate(wanted):
            row.append(before[place] + 1 if word == other else max(before[place + 1], row[place]))
    return row[-1]


def _f1(shared: int, found: int, wanted: int) -> float:
    return 2 * shared / (found + wanted) if shared else 0.0
