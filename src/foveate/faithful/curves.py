"""What happens to a prediction when the tokens that an order puts first are taken away, or they alone are left.

Comprehensiveness and sufficiency are those of DeYoung et al. 2020 (ERASER): p - p(without the top tokens), and
p - p(with the top tokens alone), averaged over several numbers of tokens (AOPC). An order that finds what matters has a
large comprehensiveness and a small sufficiency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = ["SHARES", "Curve", "Order", "curves", "how_many", "probability"]

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)

Order = tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """An order of tokens, or of links, put to the test.

    `without[i]` and `alone[i]` are the target's log-odds without the first `counts[i]` of `total`, and with those
    alone; `log_odds` with all.
    """

    total: int
    counts: tuple[int, ...]
    log_odds: float
    without: tuple[float, ...]
    alone: tuple[float, ...]

    def step(self, share: float) -> int:
        """Which of `counts` is that of a share."""
        return self.counts.index(_count(self.total, share))

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the target without the first tokens."""
        return tuple(map(probability, self.without))

    @property
    def comprehensiveness(self) -> float:
        """Mean fall of the target's probability without the first tokens."""
        return probability(self.log_odds) - fmean(map(probability, self.without))

    @property
    def sufficiency(self) -> float:
        """Mean fall of the target's probability with the first tokens alone; NaN where that was not asked."""
        return probability(self.log_odds) - fmean(map(probability, self.alone)) if self.alone else math.nan

    @property
    def log_odds_lost(self) -> float:
        """Mean fall of the log-odds without the first tokens."""
        return self.log_odds - fmean(self.without)


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else math.exp(log_odds) / (1 + math.exp(log_odds))


def how_many(total: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """These shares of so many things, at least one and never all; halves are rounded up, and each number is there once:
    of few things, small shares are all one, which must not count several times."""
    return tuple(dict.fromkeys(_count(total, share) for share in shares))


def _count(total: int, share: float) -> int:
    return min(total - 1, max(1, math.floor(total * share + 0.5)))


def curves(
    orders: Sequence[Order], counts: tuple[int, ...], without: Callable[[list[frozenset[int]]], list[float]]
) -> list[Curve]:
    """Of each order, asking `without` for the log-odds without sets of places, all in one call."""
    everything = frozenset(orders[0]) if orders else frozenset()
    first = [frozenset(order[:count]) for order in orders for count in counts]
    found = without([frozenset(), *first, *(everything - one for one in first)])
    whole, gone, left = found[0], found[1 : 1 + len(first)], found[1 + len(first) :]
    each = len(counts)
    return [
        Curve(
            len(everything),
            counts,
            whole,
            tuple(gone[i * each : (i + 1) * each]),
            tuple(left[i * each : (i + 1) * each]),
        )
        for i in range(len(orders))
    ]
