"""How far two lists of numbers are in the same order: -1 to 1, NaN where one of them is the same everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["kendall", "spearman"]


def spearman(a: Tensor, b: Tensor) -> float:
    """The correlation of ranks."""
    if len(a) < 2:
        return math.nan
    return float(torch.corrcoef(torch.stack([_ranks(a), _ranks(b)]))[0, 1])


def kendall(a: Tensor, b: Tensor) -> float:
    """Tau-b: pairs in the same order less those in the other, ties set aside."""
    da, db = (torch.sign(t[:, None] - t[None]) for t in (a.double(), b.double()))
    return float((da * db).sum() / (da.abs().sum() * db.abs().sum()).sqrt())


def _ranks(x: Tensor) -> Tensor:
    """Ranks from 1; equal numbers share the mean of theirs."""
    _, place, times = torch.unique(x.double(), sorted=True, return_inverse=True, return_counts=True)
    return (times.cumsum(0) - (times - 1) / 2)[place]
