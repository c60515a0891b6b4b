"""How rotary frequencies change so that a model reads texts longer than those it was trained on.

Each gives the frequencies, one for each pair of numbers, and a factor on the rotated vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DynamicNTK", "Interpolation", "Llama3", "LongRoPE", "Scaling", "YaRN", "plain"]


def plain(width: int, base: float) -> Float[Tensor, " pairs"]:
    """base^(-2 i / width), in float64 (Su et al. 2021, section 3.2.2)."""
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


class Scaling:
    """Base of all scalings."""

    needs_length = False  # whether the frequencies depend on how long the text is

    def frequencies(self, width: int, base: float, length: int) -> tuple[Float[Tensor, " pairs"], float]:
        """Frequencies in float64, and the factor on rotated vectors, for texts of `length` tokens."""
        raise NotImplementedError


def _at_least_1(factor: float) -> None:
    if not factor >= 1:
        raise ValueError(f"a scaling's factor must be at least 1; got {factor}")


@dataclass(frozen=True)
class Interpolation(Scaling):
    """Position interpolation (Chen et al. 2023): positions are divided by `factor`."""

    factor: float

    def __post_init__(self) -> None:
        _at_least_1(self.factor)

    def frequencies(self, width: int, base: float, length: int) -> tuple[Tensor, float]:
        return plain(width, base) / self.factor, 1.0


@dataclass(frozen=True)
class DynamicNTK(Scaling):
    """NTK-aware scaling (bloc97 and emozilla 2023; Peng et al. 2023, appendix B): the base grows with the text once
    that is longer than `original`, the length of training."""

    factor: float
    original: int
    needs_length = True

    def __post_init__(self) -> None:
        _at_least_1(self.factor)

    def frequencies(self, width: int, base: float, length: int) -> tuple[Tensor, float]:
        if width <= 2:
            raise ValueError(f"dynamic NTK scaling needs a rotary width of more than 2; got {width}")
        stretch = self.factor * max(length, self.original) / self.original - (self.factor - 1)
        return plain(width, base * stretch ** (width / (width - 2))), 1.0


@dataclass(frozen=True)
class YaRN(Scaling):
    """YaRN (Peng et al. 2023, section 3): slow pairs are interpolated, fast ones kept, with a ramp between those that
    turn `slow` and `fast` times in `original` tokens.

    `magnitude` is the factor on rotated vectors, by default 0.1 ln(factor) + 1; `truncate` rounds the ramp's ends
    outwards to whole pairs, as the authors' code does.
    """

    factor: float
    original: int
    fast: float = 32.0
    slow: float = 1.0
    magnitude: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        _at_least_1(self.factor)

    def frequencies(self, width: int, base: float, length: int) -> tuple[Tensor, float]:
        low, high = (self._pair(turns, width, base) for turns in (self.fast, self.slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        span = high - low if high != low else 0.001
        slowness = ((torch.arange(width // 2, dtype=torch.float64) - low) / span).clamp(0, 1)
        kept = plain(width, base)
        magnitude = 0.1 * math.log(self.factor) + 1 if self.magnitude is None else self.magnitude
        return kept / self.factor * slowness + kept * (1 - slowness), magnitude

    def _pair(self, turns: float, width: int, base: float) -> float:
        """The pair, counted with fractions, that turns so many times in `original` tokens."""
        return width * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(base))


@dataclass(frozen=True)
class Llama3(Scaling):
    """Llama 3.1's scaling (Dubey et al. 2024): pairs that turn less than `low` times in `original` tokens are
    interpolated, those that turn more than `high` times kept, the rest mixed."""

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def __post_init__(self) -> None:
        _at_least_1(self.factor)
        if not self.high > self.low:
            raise ValueError(f"high must be greater than low; got {self.high} and {self.low}")

    def frequencies(self, width: int, base: float, length: int) -> tuple[Tensor, float]:
        kept = plain(width, base)
        turns = self.original * kept / (2 * math.pi)
        share = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - share) * kept / self.factor + share * kept, 1.0


@dataclass(frozen=True)
class LongRoPE(Scaling):
    """LongRoPE (Ding et al. 2024): a searched divisor for each pair, one set up to `original` tokens, one beyond.

    `magnitude` is the factor on rotated vectors, by default sqrt(1 + ln(factor) / ln(original)).
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    factor: float
    original: int
    magnitude: float | None = None
    needs_length = True

    def __post_init__(self) -> None:
        _at_least_1(self.factor)

    def frequencies(self, width: int, base: float, length: int) -> tuple[Tensor, float]:
        divisors = self.long if length > self.original else self.short
        if len(divisors) != width // 2:
            raise ValueError(f"LongRoPE needs a divisor for each of the {width // 2} pairs; got {len(divisors)}")
        grown = math.sqrt(1 + math.log(self.factor) / math.log(self.original))
        magnitude = grown if self.magnitude is None else self.magnitude
        return plain(width, base) / torch.tensor(divisors, dtype=torch.float64), magnitude
