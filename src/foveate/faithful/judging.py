"""The rule by which an order of tokens is said to explain a prediction.

An order **explains** it if taking its first tokens away changes the prediction more than taking random ones does, and
leaving nothing but them changes it less, both beyond the mean of random orders by more than 1.645 of their standard
deviations (as one in twenty would be if these were normal), and if its comprehensiveness gains over random orders at
least 0.8 of what the better gradient gains. It explains it **partly** if one of the two is beyond random orders. Else
it **does not**.

The standard deviation of random orders is what counts, not the standard error of their mean: the question is whether
this one order could be one of them. With few tokens they differ much, and little can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from .curves import Curve, probability

__all__ = ["BEYOND", "NEAR", "RANKS", "STILL", "Chance", "Verdict", "judge", "moved", "overall", "spread"]

Verdict = Literal["explains", "partly", "does not", "cannot tell"]
RANKS: tuple[Verdict, ...] = ("cannot tell", "does not", "partly", "explains")
BEYOND = 1.645  # standard deviations of random orders
NEAR = 0.8  # of what the best gradient gains over random orders
STILL = 0.1  # log-odds, 2.5 points at p = 0.5: what is moved by less is not moved


@dataclass(frozen=True)
class Chance:
    """What random orders do: mean, standard deviation and standard error of the mean, of so many."""

    mean: float
    deviation: float
    samples: int

    @property
    def error(self) -> float:
        return self.deviation / self.samples**0.5

    @classmethod
    def of(cls, values: Sequence[float]) -> Chance:
        return cls(fmean(values), stdev(values), len(values))


def judge(curve: Curve, random: Sequence[Curve], gradients: Sequence[Curve]) -> Verdict:
    """What is to be said of one order."""
    gone, alone = Chance.of([c.comprehensiveness for c in random]), Chance.of([c.sufficiency for c in random])
    finds = curve.comprehensiveness > gone.mean + BEYOND * gone.deviation
    suffices = curve.sufficiency < alone.mean - BEYOND * alone.deviation
    best = max((c.comprehensiveness for c in gradients), default=gone.mean)
    near = curve.comprehensiveness - gone.mean >= NEAR * (best - gone.mean)
    if finds and suffices and near:
        return "explains"
    return "partly" if finds or suffices else "does not"


def moved(curves: Sequence[Curve]) -> bool:
    """Whether anything that was removed moved the prediction; where not, nothing can be told of any order."""
    return max(abs(c.log_odds - x) for c in curves for x in (*c.without, *c.alone)) >= STILL


def overall(attention: Verdict, references: Sequence[Verdict], reaches: bool) -> Verdict:
    """What is to be said of attention, whose better reading was judged `attention`.

    It does not explain what no gradient reaches through it. Nothing can be told where neither attention nor any
    reference (gradients, leaving out one token at a time) is better than random orders.
    """
    if not reaches and attention != "cannot tell":
        return "does not"
    if attention == "does not" and all(one == "does not" for one in references):
        return "cannot tell"
    return attention


def spread(curves: Sequence[Curve], share: float, alone: bool = False) -> Chance:
    """The target's probability without a share of the tokens in random orders, or with it alone."""
    return Chance.of([probability((c.alone if alone else c.without)[c.step(share)]) for c in curves])
