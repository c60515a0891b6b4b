"""Is one fixed vector a bottleneck? BLEU by length of the source, with attention and without it.

As in Bahdanau et al. 2015, figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..translation import Translator
from ..translation.metrics import bleu

__all__ = ["EDGES", "Band", "Result", "judge", "verdict"]

EDGES = {"multi30k": (1, 9, 12, 15, 20, 25, 1000), "grammar": (1, 11, 21, 31, 41, 51, 1000)}
FEWEST = 20  # sentences of a band


@dataclass(frozen=True)
class Band:
    """Sentences whose source has `least` to `most` words."""

    least: int
    most: int
    sentences: int
    bleu: float

    @property
    def label(self) -> str:
        return f"{self.least}-{self.most}" if self.most < 999 else f"{self.least}+"


@dataclass(frozen=True)
class Result:
    """One model: its BLEU on all sentences, and by length."""

    name: str
    parameters: int
    bleu: float
    signature: str
    bands: tuple[Band, ...]


def judge(
    name: str,
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    edges: Sequence[int],
    *,
    tokenize: str,
    beam: int = 5,
) -> Result:
    """Translate and measure. A band with fewer than 20 sentences is joined to the one before it."""
    found = [t.text for t in translator.translate(sources, beam=beam, weights=False)]
    score, signature = bleu(found, references, tokenize)
    lengths = [len(source.split()) for source in sources]
    bands = []
    for least, beyond in _joined(lengths, edges):
        rows = [i for i, length in enumerate(lengths) if least <= length < beyond]
        own, _ = bleu([found[i] for i in rows], [references[i] for i in rows], tokenize)
        bands.append(Band(least, beyond - 1, len(rows), round(own, 2)))
    return Result(name, translator.facts["parameters"], round(score, 2), signature, tuple(bands))


def _joined(lengths: Sequence[int], edges: Sequence[int]) -> list[tuple[int, int]]:
    bands: list[tuple[int, int]] = []
    for least, beyond in pairwise(edges):
        count = sum(least <= length < beyond for length in lengths)
        if count >= FEWEST or (not bands and count):
            bands.append((least, beyond))
        elif bands and count:
            bands[-1] = (bands[-1][0], beyond)
    return bands


def verdict(results: Sequence[Result]) -> dict[str, Any]:
    """What the claim says, against what was measured; None for a model that was not there, or one band of lengths.

    The claim: a fixed vector loses more to attention the longer the sentence.
    """
    by_name = {result.name: result for result in results}
    fixed = by_name.get("none")
    gaps: dict[str, list[float]] = {}
    for name, result in by_name.items():
        if fixed is not None and name != "none":
            gaps[name] = [round(a.bleu - b.bleu, 2) for a, b in zip(result.bands, fixed.bands, strict=True)]
    held = [gap[-1] > gap[0] and gap[-1] > 0 for gap in gaps.values() if len(gap) > 1]
    return {"gaps": gaps, "holds": all(held) if held else None}
