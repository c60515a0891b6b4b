"""Is alignment learned without being given? Error rates against known links, per epoch, model and phenomenon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..alignment import (
    ErrorRate,
    Gold,
    Links,
    Reading,
    by_phenomenon,
    diagonal,
    eflomal_links,
    error_rate,
    hard,
    merged,
    symmetrize,
)
from ..bitext import Sentence
from ..translation import Translator, choosing

__all__ = ["Aligned", "baselines", "best_reading", "judge", "links_of", "pairs_of", "rated"]

SAMPLE = 200  # sentences on which a reading is chosen


@dataclass(frozen=True)
class Aligned:
    """How wrong one aligner's links are: over all, and for each phenomenon."""

    name: str
    reading: str
    rate: ErrorRate
    phenomena: dict[str, ErrorRate]


def pairs_of(sentences: Sequence[Sentence]) -> list[tuple[str, str]]:
    """As texts."""
    return [(" ".join(s.source), " ".join(s.target)) for s in sentences]


def rated(name: str, reading: str, links: Sequence[Links], sentences: Sequence[Sentence]) -> Aligned:
    """Links against the gold of the grammar."""
    gold = [Gold(s.sure, s.possible) for s in sentences]
    phenomena = by_phenomenon(links, gold, [s.phenomena for s in sentences])
    return Aligned(name, reading, error_rate(links, gold), phenomena)


def judge(sentences: Sequence[Sentence]) -> Callable[[Translator], dict[str, float]]:
    """For each validation of a run: AER, in percent, of each layer's mean of heads, with and without the shift.

    Links are those of `merged`.
    """
    gold, pairs = [Gold(s.sure, s.possible) for s in sentences], pairs_of(sentences)

    def judged(translator: Translator) -> dict[str, float]:
        if not translator.has_attention:
            return {}
        found: dict[Reading, list[Links]] = {}
        for weights in translator.candidates(pairs, heads=False):
            for reading, of_words in weights.items():
                found.setdefault(reading, []).append(merged(of_words))
        return {
            f"AER {r.modules[0]} {r.shift}": round(100 * error_rate(links, gold).aer, 2) for r, links in found.items()
        }

    return judged


def best_reading(translator: Translator, sentences: Sequence[Sentence]) -> Reading:
    """The reading that agrees best with itself, and with words that both languages share; gold is not looked at."""
    return choosing.best_reading(translator, pairs_of(sentences[:SAMPLE]), heads=False).reading


def links_of(
    translator: Translator, sentences: Sequence[Sentence], reading: Reading
) -> tuple[list[Links], list[Links]]:
    """What the model's attention says of given translations: both ends merged; and the best of each target word."""
    weights = list(translator.align(pairs_of(sentences), reading))
    return [merged(one) for one in weights], [hard(one) for one in weights]


def baselines(train: Sequence[Sentence], test: Sequence[Sentence]) -> Iterator[Aligned]:
    """What the lengths alone say, and eflomal, where it is installed, on the same pairs and those of the test."""
    yield rated("diagonal", "lengths alone", [diagonal(len(s.source), len(s.target)) for s in test], test)
    try:
        forward, backward = eflomal_links([(s.source, s.target) for s in (*train, *test)])
    except ImportError:
        return
    both = [symmetrize(f, b, "grow-diag-final-and") for f, b in zip(forward, backward, strict=True)]
    yield rated("eflomal", "grow-diag-final-and", both[len(train) :], test)
    yield rated("eflomal, one direction", "source to target", forward[len(train) :], test)
