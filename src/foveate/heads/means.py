"""Means over rows of a corpus, with standard errors over its texts, as sums that can be added up in parts.

A text adds s to the sum of a measure and c to the count of rows that have it (for `gini`, c = 1). The mean over the
corpus is m = sum s / sum c. Rows of a text are alike, texts are drawn; so the standard error is that of a ratio of
sums over D texts (Cochran 1977, ch. 6): sqrt(D / (D - 1) * sum (s - m c)^2) / sum c.

Axes: N heads, M measures, B texts, h heads of a call.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Means"]

_SUMS = 6  # of s, c, s^2, s c, c^2, and texts that have the measure


class Means:
    """The sums of all measures and heads. An update with what `sums.added` found, a merge, a result."""

    def __init__(self, heads: int, measures: int) -> None:
        self.sums = torch.zeros(_SUMS, heads, measures, dtype=torch.float64)

    def update(self, heads: slice, s: Float[Tensor, "B h M"], c: Float[Tensor, "B h M"]) -> None:
        """Add texts, one entry each."""
        for at, part in enumerate((s, c, s * s, s * c, c * c, (c > 0).double())):
            self.sums[at, heads] += part.sum(0)

    def merge(self, other: Means) -> None:
        self.sums += other.sums

    def result(self) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
        """Means and standard errors; NaN where no row has the measure, or fewer than two texts have it."""
        s, c, ss, sc, cc, texts = self.sums
        mean = s / torch.where(c > 0, c, torch.nan)
        return mean, ratio_error(mean, c, ss, sc, cc, texts)

    @property
    def rows(self) -> Float[Tensor, "N M"]:
        """How many rows (of `gini`: texts) have each measure."""
        return self.sums[1]


def ratio_error(mean: Tensor, c: Tensor, ss: Tensor, sc: Tensor, cc: Tensor, texts: Tensor) -> Tensor:
    """The standard error of a ratio of sums, from the sums over texts of c, s^2, s c, c^2, and their number."""
    off = (ss - 2 * mean * sc + mean.square() * cc).clamp(min=0)
    several = torch.where(texts > 1, texts, torch.nan)
    return (several / (several - 1) * off).sqrt() / c
