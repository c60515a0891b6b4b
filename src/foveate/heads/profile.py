"""How much relative position alone explains: the part of the weights' variance that lies between offsets.

A row that sees m keys would read w = 1/m of each if it did not choose. Of every pair (i, j) that a row sees, y_ij =
w_ij - 1/m_i is what the head adds to that. A head that goes by relative position alone reads the same y at the same
offset j - i. Let a_d be the mean of y over all pairs of the corpus at offset d, and n_d their number. Then

    positional = sum_d n_d a_d^2 / sum_ij y_ij^2,

the part of the sum of squares that lies between offsets. 1: whatever stands there, the offset says what is read.
0: the offset says nothing. Offsets up to 16 either way are told apart, larger ones by steps of the square root of 2,
and from 5,793 on not at all.

Texts fall into `GROUPS` groups by their number; leaving out one group after another gives the standard error
(jackknife).

Axes: N heads, D offsets, g groups, B texts.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["GROUPS", "OFFSETS", "Profile", "bucket"]

EXACT, STEPS = 16, 18  # offsets told apart on a side, and classes of larger ones
OFFSETS = 2 * (EXACT + STEPS) + 1
GROUPS = 16
_BOUNDS = torch.tensor([*range(1, EXACT + 1), *(math.floor(EXACT * 2 ** (k / 2)) + 1 for k in range(STEPS))])


def bucket(offsets: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """The number, 0 .. OFFSETS - 1, of each offset j - i; 0 is in the middle."""
    far = torch.bucketize(offsets.abs(), _BOUNDS, right=True)
    return far * offsets.sign() + EXACT + STEPS


class Profile:
    """Sums of y and of pairs by offset, of y^2, and of (1/m)^2, for each group of texts."""

    def __init__(self, heads: int) -> None:
        self.sums = torch.zeros(GROUPS, heads, OFFSETS, dtype=torch.float64)
        self.pairs = torch.zeros(GROUPS, heads, OFFSETS, dtype=torch.float64)
        self.squares = torch.zeros(GROUPS, heads, dtype=torch.float64)
        self.even = torch.zeros(GROUPS, heads, dtype=torch.float64)

    def update(
        self,
        heads: slice,
        numbers: Int[Tensor, " B"],
        sums: Float[Tensor, "B h D"],
        pairs: Float[Tensor, "B h D"],
        squares: Float[Tensor, "B h"],
        even: Float[Tensor, "B h"],
    ) -> None:
        """Add texts by their numbers."""
        group = numbers % GROUPS
        for mine, added in zip(self.state(), (sums, pairs, squares, even), strict=True):
            mine[:, heads].index_add_(0, group, added)

    def merge(self, other: Profile) -> None:
        for mine, theirs in zip(self.state(), other.state(), strict=True):
            mine += theirs

    def state(self) -> tuple[Tensor, ...]:
        return self.sums, self.pairs, self.squares, self.even

    def result(self) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """`positional` and its standard error; NaN where no weight differs from 1/m, or nothing is known."""
        whole = _share(*(t.sum(0) for t in self.state()))
        there = [g for g in range(GROUPS) if bool(self.pairs[g].any())]
        if len(there) < 2:
            return whole, torch.full_like(whole, torch.nan)
        without = torch.stack([_share(*(t.sum(0) - t[g] for t in self.state())) for g in there])
        spread = (without - without.mean(0)).square().sum(0)
        return whole, (spread * (len(there) - 1) / len(there)).sqrt()


def _share(sums: Tensor, pairs: Tensor, squares: Tensor, even: Tensor) -> Tensor:
    between = (sums.square() / pairs.clamp(min=1)).sum(-1)
    known = squares > 1e-8 * even  # less is rounding
    return torch.where(known, between / squares, torch.nan).clamp(0, 1)
