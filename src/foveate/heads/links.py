"""The strongest links of each head over a corpus: which query read which key, with most weight.

A text gives a head one link, its strongest between two tokens that are not special, so that examples come from
different texts. Larger weights come first, of equal ones the earlier text.

Axes: N heads, L links kept, B texts, h heads of a call.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["KEPT", "Links"]

KEPT = 8


class Links:
    """`weight` (N, L), 0 where there is none, and `place` (N, L, 3): number of the text, row, key."""

    def __init__(self, heads: int) -> None:
        self.weight = torch.zeros(heads, KEPT, dtype=torch.float64)
        self.place = torch.full((heads, KEPT, 3), -1, dtype=torch.int64)

    def least(self, heads: slice) -> Float[Tensor, " h"]:
        """A link must be as strong as this to be kept."""
        return self.weight[heads, -1]

    def update(
        self, heads: slice, numbers: Int[Tensor, " B"], best: Float[Tensor, "B h"], place: Int[Tensor, "B h 2"]
    ) -> None:
        """Add the strongest link of each text; places of -1 are none."""
        there = (place[..., 0] >= 0) & (best > 0)
        if not bool(there.any()):
            return
        text = numbers[:, None, None].expand(*best.shape, 1)
        added = torch.where(there, best, 0.0).T, torch.cat([text, place], -1).transpose(0, 1)
        self._keep(heads, *added)

    def merge(self, other: Links) -> None:
        self._keep(slice(0, len(self.weight)), other.weight, other.place)

    def _keep(self, heads: slice, weight: Tensor, place: Tensor) -> None:
        weight, place = torch.cat([self.weight[heads], weight], 1), torch.cat([self.place[heads], place], 1)
        for of_text in (True, False):  # both sorts are stable: by weight, and of equal ones by text
            key = place[..., 0] if of_text else -weight
            order = key.sort(dim=-1, stable=True).indices
            weight, place = weight.gather(1, order), place.gather(1, order[..., None].expand_as(place))
        self.weight[heads], self.place[heads] = weight[:, :KEPT], place[:, :KEPT]
        self.place[heads] = torch.where(self.weight[heads][..., None] > 0, self.place[heads], -1)
