"""How cost grows: the exponent p of cost ~ n^p, by least squares on the logarithms of the larger lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "exponent", "larger"]

LEAST = 3  # lengths, so that a fit can disagree with its points


@dataclass(frozen=True)
class Growth:
    """Exponents of time and memory over the lengths from `low` to `high`; memory's is None if it was not counted."""

    time: float
    memory: float | None
    low: int
    high: int

    def __str__(self) -> str:
        memory = "" if self.memory is None else f", memory ~ n^{self.memory:.2f}"
        return f"time ~ n^{self.time:.2f}{memory}  (n = {self.low:,} to {self.high:,})"


def exponent(lengths: Sequence[int], costs: Sequence[float]) -> float:
    """The slope of log cost over log n that misses the points least."""
    x, y = [math.log(n) for n in lengths], [math.log(c) for c in costs]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / spread


def larger(lengths: Sequence[int]) -> list[int]:
    """The larger half of increasing lengths, and three at least; none if there are fewer: small n show overheads."""
    count = max(LEAST, -(-len(lengths) // 2))
    return list(lengths[-count:]) if len(lengths) >= LEAST else []
