"""In which numbers to multiply matrices: bfloat16 where the machine is faster with it, else float32."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch

__all__ = ["Precision", "autocast", "settled"]

Precision = Literal["auto", "float32", "bfloat16"]
GAIN = 1.5  # how much faster bfloat16 must be: its casts cost something too
ROWS, WIDTH = 1024, 512


def settled(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What "auto" means here: a product of a layer's size is timed both ways, a few hundredths of a second.

    Raises:
        ValueError: an unknown name.
    """
    if precision not in get_args(Precision):
        raise ValueError(
            f"unknown precision {precision!r}; expected one of {', '.join(map(repr, get_args(Precision)))}"
        )
    if precision != "auto":
        return precision
    faster = _seconds(torch.float32, device) > GAIN * _seconds(torch.bfloat16, device)
    return "bfloat16" if faster else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Products inside are taken in this precision; parameters stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    a, b = (torch.ones(rows, WIDTH, dtype=dtype, device=device) for rows in (ROWS, WIDTH))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((a @ b)[0, 0])  # so that a GPU is waited for
        best = min(best, time.perf_counter() - start)
    return best
