"""Some of many, from everywhere, in an order that is the same every time."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["SAMPLE", "scattered", "spread_out"]

SAMPLE = 256  # rows of one step


def scattered(count: int) -> list[int]:
    """0 .. count - 1 so that those first come from everywhere: what is half done is done everywhere by half."""
    bits = max(1, (count - 1).bit_length())
    turned = [int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits)]
    return [n for n in turned if n < count]


def spread_out(rows: int, sample: int = SAMPLE) -> list[Int[Tensor, " R"]]:
    """All of `rows` rows in steps of at most `sample`, each spread evenly over them, the steps likewise."""
    stride = max(1, -(-rows // sample))
    offsets = [(n + stride // 2) % stride for n in scattered(stride)]
    return [torch.arange(first, rows, stride) for first in offsets if first < rows]
