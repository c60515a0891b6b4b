"""Words and their numbers, and for words that training never saw how they begin and end.

A known word has a number, the same for all ways to capitalise it. Each word also has affixes: its first and its last
letters, from one to six, and its pattern of capitals and digits, hashed into a fixed number of buckets. So every word
has a vector. (All n-grams of letters, as in Bojanowski et al. 2017, got 2 of 100 unknown words fewer right.)

Axes: B texts, L words of the longest one, W different words of the batch, N their affixes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Self
from zlib import crc32

import torch
from torch import Tensor

__all__ = ["PAD", "UNKNOWN", "WordBatch", "Words", "cut_texts", "cut_words"]

PAD, UNKNOWN = 0, 1
FIRST = 2  # the number of the first known word
_LONGEST = 6  # characters of a beginning or an ending
_WORD = re.compile(
    r"n['’]t(?!\w)|\w+?(?=n['’]t(?!\w))|['’](?:s|re|ve|ll|d|m)(?!\w)|\w+(?:[-.,]\w+)*|\.{2,}|[^\w\s]", re.IGNORECASE
)


def cut_words(text: str) -> list[str]:
    """Words, numbers and marks of punctuation, English clitics by themselves: "don't" -> "do", "n't".

    Every character but white space belongs to one of them.
    """
    return _WORD.findall(text)


def cut_texts(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    """The words of each text.

    Raises:
        ValueError: one text instead of a list, or a text without a word, or with more than `most`.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts; one alone goes in as [text]")
    for words in map(cut_words, texts):
        if not words:
            raise ValueError("there is no word in this text")
        if len(words) > most:
            raise ValueError(f"the text has {len(words):,} words; at most {most:,} are read")
        yield words


@dataclass(frozen=True)
class WordBatch:
    """Texts as tensors, padded on the right. `place_BL` says which of the W different words stands there (0 is padding,
    which has no affixes); those of word w are `affixes_N[starts_W[w]:starts_W[w + 1]]`."""

    numbers_BL: Tensor
    lengths_B: Tensor
    place_BL: Tensor
    affixes_N: Tensor
    starts_W: Tensor

    def to(self, device: torch.device) -> WordBatch:
        """The same on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class Words:
    """Known words, in the order of their numbers from `FIRST` on; lower case. `buckets`: of affixes; 0: there are none.

    Raises:
        ValueError: a word stands there twice, or the buckets are negative.
    """

    known: tuple[str, ...]
    buckets: int = 20_000
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {word: number for number, word in enumerate(self.known, FIRST)}
        if len(numbers) != len(self.known) or self.buckets < 0:
            raise ValueError("known words must be different, and buckets must not be negative")
        object.__setattr__(self, "_numbers", numbers)

    @classmethod
    def learn(
        cls, texts: Iterable[Sequence[str]], *, least: int = 2, most: int = 50_000, buckets: int = 20_000
    ) -> Self:
        """The words that occur at least `least` times, at most `most` of them, the most frequent first."""
        counts = Counter(word.lower() for word in chain.from_iterable(texts))
        ranked = sorted((w for w in counts if counts[w] >= least), key=lambda w: (-counts[w], w))
        return cls(tuple(ranked[:most]), buckets)

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(tuple(given["known"]), given["buckets"])

    def as_json(self) -> dict[str, Any]:
        return {"known": list(self.known), "buckets": self.buckets}

    def __len__(self) -> int:
        """How many numbers there are."""
        return FIRST + len(self.known)

    def knows(self, word: str) -> bool:
        return word.lower() in self._numbers

    def number(self, word: str) -> int:
        return self._numbers.get(word.lower(), UNKNOWN)

    def batch(self, texts: Sequence[Sequence[str]]) -> WordBatch:
        """Texts of one word or more, one a row."""
        longest = max(map(len, texts))
        rows = [[self.number(word) for word in text] for text in texts]
        distinct: dict[str, int] = {}
        places = [[distinct.setdefault(word, len(distinct) + 1) for word in text] for text in texts]
        affixes: list[tuple[int, ...]] = [(), *(_affixes(word, self.buckets) for word in distinct)]
        numbers_BL, place_BL = (
            torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in table]) for table in (rows, places)
        )
        return WordBatch(
            numbers_BL,
            torch.tensor([len(text) for text in texts]),
            place_BL,
            torch.tensor(list(chain.from_iterable(affixes)), dtype=torch.int64),
            torch.tensor([0, *accumulate(len(one) for one in affixes[:-1])]),
        )


@lru_cache(maxsize=1 << 17)
def _affixes(word: str, buckets: int) -> tuple[int, ...]:
    """Buckets of the first letters of a word, of the last ones, and of its pattern of capitals and digits."""
    if not buckets:
        return ()
    plain = word.lower()
    sizes = range(1, min(_LONGEST, len(plain)) + 1)
    runs = [*(f"<{plain[:size]}" for size in sizes), *(f"{plain[-size:]}>" for size in sizes), f"^{_pattern(word)}"]
    return tuple(crc32(run.encode()) % buckets for run in runs)


def _pattern(word: str) -> str:
    """Which kinds of characters follow each other: "McGee-2" -> "XxXx-9"."""
    kinds = ("X" if c.isupper() else "x" if c.isalpha() else "9" if c.isnumeric() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", "".join(kinds))
