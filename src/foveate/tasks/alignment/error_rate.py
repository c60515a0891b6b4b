"""How far an alignment is from gold links: precision, recall and the alignment error rate (Och and Ney 2003).

With links A, sure links S and possible links P, which include S:

    precision = |A & P| / |A|      recall = |A & S| / |S|      AER = 1 - (|A & S| + |A & P|) / (|A| + |S|)

Of a corpus, the four numbers are summed first: the mean of the sentences' rates is another number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .links import Gold, Link, Links

__all__ = ["ErrorRate", "by_phenomenon", "diagonal", "error_rate"]


@dataclass(frozen=True)
class ErrorRate:
    """Four counts; sums of them are the counts of more sentences.

    Attributes:
        links: |A|.
        sure: |S|.
        right_sure: |A & S|.
        right_possible: |A & P|.
    """

    links: int = 0
    sure: int = 0
    right_sure: int = 0
    right_possible: int = 0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        return ErrorRate(
            self.links + other.links,
            self.sure + other.sure,
            self.right_sure + other.right_sure,
            self.right_possible + other.right_possible,
        )

    @property
    def precision(self) -> float:
        """The share of the links that are possible; 1 if there are none."""
        return self.right_possible / self.links if self.links else 1.0

    @property
    def recall(self) -> float:
        """The share of the sure links that were found; 1 if there are none."""
        return self.right_sure / self.sure if self.sure else 1.0

    @property
    def aer(self) -> float:
        """The alignment error rate; 0 if there is nothing to find and nothing found."""
        total = self.links + self.sure
        return 1 - (self.right_sure + self.right_possible) / total if total else 0.0

    def __str__(self) -> str:
        return f"AER {self.aer:.3f}   precision {self.precision:.3f}   recall {self.recall:.3f}   {self.links} links"


def error_rate(found: Sequence[Links], gold: Sequence[Gold | Links]) -> ErrorRate:
    """The counts of a corpus.

    Args:
        found: the links of each sentence pair.
        gold: its gold links. Bare links, those of another aligner, count as sure, and no others as possible; the AER is
            then 1 - F1 of one against the other, whichever is called gold.

    Raises:
        ValueError: not one gold alignment per sentence pair.
    """
    _check_lengths(found, gold=gold)
    return sum((_count(links, _as_gold(answer)) for links, answer in zip(found, gold, strict=True)), ErrorRate())


def by_phenomenon(
    found: Sequence[Links], gold: Sequence[Gold | Links], phenomena: Sequence[Mapping[str, Iterable[Link]]]
) -> dict[str, ErrorRate]:
    """The counts of a corpus for each phenomenon: how negation, clitics, ... are aligned.

    Args:
        found: the links of each sentence pair.
        gold: its gold links.
        phenomena: for each sentence pair, which of its gold links belong to what; a link may belong to several.

    Of the gold links, those of the phenomenon count. Of the links found, those of its target words count, except gold
    links of something else. So a wrong link is charged to what its target word is about. Links of a phenomenon that
    are not in the gold are not looked at.

    Raises:
        ValueError: not one gold alignment, or not one mapping, per sentence pair.
    """
    _check_lengths(found, gold=gold, phenomena=phenomena)
    counts: dict[str, ErrorRate] = defaultdict(ErrorRate)
    for links, answer, named in zip(found, map(_as_gold, gold), phenomena, strict=True):
        for name, belonging in named.items():
            possible = answer.possible.intersection(belonging)
            targets = {target for _, target in possible}
            theirs = frozenset(link for link in links if link[1] in targets)
            part = Gold(answer.sure & possible, possible)
            counts[name] += _count(theirs - (answer.possible - possible), part)
    return dict(counts)


def diagonal(sources: int, targets: int) -> Links:
    """The alignment that knows only the lengths: for each target word, the source word in the same relative place."""
    return frozenset(((2 * target + 1) * sources // (2 * targets), target) for target in range(targets) if sources)


def _count(links: Links, gold: Gold) -> ErrorRate:
    return ErrorRate(len(links), len(gold.sure), len(links & gold.sure), len(links & gold.possible))


def _as_gold(answer: Gold | Links) -> Gold:
    return answer if isinstance(answer, Gold) else Gold.of(answer)


def _check_lengths(found: Sequence[object], **others: Sequence[object]) -> None:
    for name, other in others.items():
        if len(other) != len(found):
            raise ValueError(f"{name} must have one entry per sentence pair, {len(found)}; got {len(other)}")
