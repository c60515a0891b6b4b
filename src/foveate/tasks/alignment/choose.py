"""Which layer, head and shift read best, found without any gold links.

Two models that translate in opposite directions see the same links from either end, and err differently; so the
readings that agree most are taken (Liang et al. 2006 train on this; Chen et al. 2020 choose layers by it). Sentences
come one by one and only counts are kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .links import Links
from .readings import MOST_END, SHIFTS, Reading, chosen, word_weights

__all__ = ["Alone", "Best", "candidates", "choose", "choose_alone", "same_words"]

F = TypeVar("F", bound=Hashable)
B = TypeVar("B", bound=Hashable)


@dataclass(frozen=True)
class Best(Generic[F, B]):
    """The two readings that agree most, one of each model, how much (F1), and what every other two do."""

    forward: F
    backward: B
    agreement: float
    table: Mapping[tuple[F, B], float]


@dataclass(frozen=True)
class Alone(Generic[F]):
    """The reading of one model that agrees most with itself, how much, and what the others do."""

    reading: F
    agreement: float
    table: Mapping[F, float]


def candidates(
    maps: Mapping[str, Tensor],
    source_words: Sequence[int],
    target_words: Sequence[int],
    *,
    shifts: Sequence[str] = SHIFTS,
    heads: bool = True,
    most_end: float = MOST_END,
) -> dict[Reading, Tensor]:
    """Word weights (target words, source words) of one sentence pair, by every reading of it.

    Args:
        maps: weights (heads, T, S) by module, without padding: `{"decoder.0": seen["decoder.0"][b, :, :T, :S], ...}`.
        source_words, target_words, most_end: as in `word_weights`.
        shifts: which rows to try.
        heads: try each head, not only each module's mean. A module's only head is its mean.
    """
    found: dict[Reading, Tensor] = {}
    for name, heads_HTS in maps.items():
        weights_CTS = heads_HTS.mean(0, keepdim=True)
        labels: list[int | str] = ["mean"]
        if heads and len(heads_HTS) > 1:
            weights_CTS = torch.cat([weights_CTS, heads_HTS])
            labels += range(len(heads_HTS))
        for shift in shifts:
            words_CJI = word_weights(weights_CTS, source_words, target_words, shift=shift, most_end=most_end)
            found |= {
                Reading((name,), label, shift): words for label, words in zip(labels, words_CJI.unbind(), strict=True)
            }
    return found


def choose(sentences: Iterable[tuple[Mapping[F, Tensor], Mapping[B, Tensor]]], *, how: str = "target") -> Best[F, B]:
    """The reading of a model and the reading of one that translates back which agree most.

    Args:
        sentences: for each sentence pair, the word weights of the forward model by candidate, (target words, source
            words), and those of the backward model, (source words, target words), as *its* source is the target. The
            candidates are the same for all pairs. A generator will do: a pair is dropped before the next is asked for.
        how: how links are made of either; see `hard`.

    Two readings' agreement is 2 |A & B| / (|A| + |B|) over all pairs, 1 - AER of one against the other; 0 if they have
    no links. Of equals the first is taken.

    Raises:
        ValueError: no sentence pair or no candidate; other candidates than before; sizes that do not fit each other.
    """
    tally = _Tally()
    for forward, backward in sentences:
        links_FJI = chosen(tally.stack(0, forward), how)
        links_BIJ = chosen(tally.stack(1, backward), how)
        if links_FJI.shape[1:] != links_BIJ.shape[:0:-1]:
            raise ValueError(
                "the backward model's words must be the forward model's, exchanged; got (target, source) words "
                f"{tuple(links_FJI.shape[1:])} forward and {tuple(links_BIJ.shape[1:])} backward"
            )
        a, b = (links.flatten(1).double() for links in (links_FJI, links_BIJ.transpose(1, 2)))
        tally.add(a @ b.T, a.sum(1)[:, None] + b.sum(1))
    f1_FB = tally.f1()
    names = tally.names[0], tally.names[1]
    table = {(f, b): float(f1_FB[i, j]) for i, f in enumerate(names[0]) for j, b in enumerate(names[1])}
    best = max(table, key=table.__getitem__)
    return Best(best[0], best[1], table[best], table)


def choose_alone(sentences: Iterable[Mapping[F, Tensor]], anchors: Iterable[Links] | None = None) -> Alone[F]:
    """The best reading of one model, where there is none that translates back.

    Args:
        sentences: for each sentence pair, word weights (target words, source words) by candidate; see `choose`.
        anchors: for each sentence pair, links that are beyond doubt: `same_words` finds numbers, names and punctuation.

    A reading is good if the largest weight of a target word is also the largest of its source word: with A the largest
    per target word and B the largest per source word, agreement is 2 |A & B| / (|A| + |B|). Attention that looks at a
    few places only, or anywhere, has little of it. But it is blind to an offset: rows that speak of the word before
    agree as well as the right ones. The anchors see that: agreement is multiplied by the share of them that is in A.

    Raises:
        ValueError: no sentence pair or no candidate; other candidates than before; not one set of anchors per pair.
    """
    tally = _Tally()
    hits: Tensor | float = 0.0
    total = 0
    certain = None if anchors is None else iter(anchors)
    for weights in sentences:
        stacked_CJI = tally.stack(0, weights)
        by_target, by_source = chosen(stacked_CJI, "target"), chosen(stacked_CJI, "source")
        tally.add(
            (by_target & by_source).sum((1, 2)).double(), (by_target.sum((1, 2)) + by_source.sum((1, 2))).double()
        )
        if certain is not None:
            links = sorted(_next(certain))
            hits = hits + by_target[:, [target for _, target in links], [source for source, _ in links]].sum(1)
            total += len(links)
    if certain is not None and next(certain, None) is not None:
        raise ValueError("anchors must hold one set of links per sentence pair; there are more")
    f1_C = tally.f1()
    if isinstance(hits, Tensor) and total:
        f1_C = f1_C * hits / total
    table = dict(zip(tally.names[0], f1_C.tolist(), strict=True))
    best = max(table, key=table.__getitem__)
    return Alone(best, table[best], table)


def same_words(source: Sequence[str], target: Sequence[str]) -> Links:
    """Links between words that are the same in both languages, but for case, and there once in each sentence."""
    sources, targets = [word.casefold() for word in source], [word.casefold() for word in target]
    shared = (word for word in set(sources) & set(targets) if sources.count(word) == targets.count(word) == 1)
    return frozenset((sources.index(word), targets.index(word)) for word in shared)


class _Tally:
    """Links in common and links in all, summed over sentence pairs; and the candidates, which stay the same."""

    def __init__(self) -> None:
        self.names: dict[int, list] = {}
        self.common: Tensor | float = 0.0
        self.links: Tensor | float = 0.0

    def stack(self, side: int, weights: Mapping[F, Tensor]) -> Tensor:
        names = self.names.setdefault(side, list(weights))
        if not names or weights.keys() != set(names):
            raise ValueError(
                f"every sentence pair must have the same candidates, at least one; {len(names)} at first, "
                f"{len(set(names) & weights.keys())} of them and {len(weights.keys() - set(names))} others now"
            )
        return torch.stack([weights[name] for name in names])

    def add(self, common: Tensor, links: Tensor) -> None:
        self.common, self.links = self.common + common, self.links + links

    def f1(self) -> Tensor:
        if not isinstance(self.common, Tensor) or not isinstance(self.links, Tensor):
            raise ValueError("there is no sentence pair to choose by")
        return 2 * self.common / self.links.clamp(min=1)


def _next(anchors: Iterable[Links]) -> Links:
    for links in anchors:
        return links
    raise ValueError("anchors must hold one set of links per sentence pair; there are fewer")
