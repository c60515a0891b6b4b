"""One axis of a call: which tokens its queries or keys are, and how weights on tokens become weights on words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from foveate.views.document import Level
from foveate.views.words import Tokens


@dataclass(frozen=True)
class Axis:
    """`length` queries or keys; number 0 is token `offset` of `tokens` and lies at `first` in the call's own count.

    `noun` is "query" or "key". Its units are tokens or words, both counted from 0 on this axis: word 0 is the word of
    its first token.
    """

    tokens: Tokens
    offset: int
    length: int
    noun: str
    first: int = 0

    @cached_property
    def words(self) -> tuple[int, ...]:
        """The word of every query or key, counted from this axis's first."""
        numbers = self.tokens.word[self.offset : self.offset + self.length]
        return tuple(number - numbers[0] for number in numbers)

    @cached_property
    def starts(self) -> list[int]:
        """The first query or key of every word, and one past the last."""
        return [i for i, word in enumerate(self.words) if i == 0 or word != self.words[i - 1]] + [self.length]

    def size(self, level: Level) -> int:
        """How many units there are."""
        return self.length if level == "token" else len(self.starts) - 1

    def span(self, start: int, stop: int, level: Level) -> tuple[int, int]:
        """The queries or keys (first, one past the last) of units start .. stop - 1."""
        size = self.size(level)
        if not 0 <= start < stop <= size:
            what = f"{self.noun} {start}" if stop == start + 1 else f"the {self.noun} range {start}:{stop}"
            raise ValueError(f"{what} is outside this call, which has {size} {self.noun} {level}s, counted from 0")
        if level == "token":
            return start, stop
        return self.starts[start], self.starts[stop]

    def at(self, start: int, stop: int) -> slice:
        """Where queries or keys start .. stop - 1 lie in the call."""
        return slice(self.first + start, self.first + stop)

    def sum_words(self, weights: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """(..., queries or keys start .. stop - 1) -> (..., their words), adding up the tokens of each word."""
        number = torch.tensor(self.words[start:stop], dtype=torch.long)
        number = number - number[0]
        folded = weights.new_zeros((*weights.shape[:-1], int(number[-1]) + 1))
        return folded.index_add_(-1, number, weights)

    def mean_words(self, weights: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """(..., queries or keys start .. stop - 1) -> (..., their words), averaging the tokens of each word."""
        counts = self.sum_words(weights.new_ones(weights.shape[-1]), start, stop)
        return self.sum_words(weights, start, stop) / counts
