"""Any mask as the compiled core takes it: blocks of rows, the panels of 64 keys they see, and bits where needed.

Axes: B batch, H heads, R rows (some queries), C columns (some keys), N blocks of rows, P panels of keys.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..native import Lists
from .problem import Problem

__all__ = ["LIST_BYTES", "lists", "variants"]

CPU = torch.device("cpu")
ROWS, PANEL = 48, 64  # of a block, and of a word
STRIP_NUMBERS = 1 << 19  # booleans formed at a time
LIST_BYTES = 8 << 20  # bits held at a time, at most; longer problems are taken some rows at a time


def variants(problem: Problem) -> tuple[int, int]:
    """How many batches and heads the mask tells apart: (B|1, H|1)."""
    assert problem.mask is not None
    g = problem.geometry
    one = problem.mask.block(g, (slice(0, g.batch), slice(0, g.heads), slice(0, 1), slice(0, 1)), CPU)
    return one.shape[0], one.shape[1]


def lists(problem: Problem, rows: slice) -> Lists:
    """The mask of some rows."""
    keys, (b, h) = problem.geometry.keys, variants(problem)
    panels, blocks = -(-keys // PANEL), -(-(rows.stop - rows.start) // ROWS)
    word = torch.full(
        (b, h, blocks, panels), -2, dtype=torch.int64, device=CPU
    )  # -2: dead, -1: all seen, else its first word
    words: list[Tensor] = [torch.zeros(0, ROWS, dtype=torch.int64, device=CPU)]
    used = 0
    step = max(1, STRIP_NUMBERS // (b * h * panels * PANEL * ROWS))
    for n in range(0, blocks, step):
        part = slice(rows.start + n * ROWS, min(rows.start + (n + step) * ROWS, rows.stop))
        for first, last in _live(problem, part):
            bits_BHNPR = _bits(problem, part, first, last, (b, h))
            some, full = (bits_BHNPR != 0).any(-1), (bits_BHNPR == -1).all(-1)
            told = some & ~full
            place = full.to(torch.int64) - 2
            place[told] = (torch.arange(int(told.sum()), device=CPU) + used) * ROWS
            word[:, :, n : n + step, first:last] = place
            words.append(bits_BHNPR[told])
            used += len(words[-1])
    seen = word > -2
    start = torch.cat([torch.zeros(1, dtype=torch.int64, device=CPU), seen.sum(-1).reshape(-1).cumsum(0)])
    panel = seen.nonzero()[:, -1].to(torch.int32)
    stride = (h * blocks if b > 1 else 0, blocks if h > 1 else 0)
    return Lists(ROWS, start, panel, word[seen], torch.cat(words).reshape(-1), stride)


def _live(problem: Problem, rows: slice) -> list[tuple[int, int]]:
    """Runs of panels outside which the rows see nothing."""
    runs = [(part.start // PANEL, -(-part.stop // PANEL)) for part in problem.live(rows)]
    ends = [0, *(last for _, last in runs[:-1])]
    return [(max(first, end), last) for (first, last), end in zip(runs, ends, strict=True) if max(first, end) < last]


def _bits(problem: Problem, rows: slice, first: int, last: int, shape: tuple[int, int]) -> Tensor:
    """(B|1, H|1, N, P, 48) words: bit j says whether the row sees key j of the panel. Rows beyond the end see all."""
    assert problem.mask is not None
    g = problem.geometry
    columns = slice(first * PANEL, min(last * PANEL, g.keys))
    at = (slice(0, g.batch), slice(0, g.heads), rows, columns)
    ok = problem.mask.block(g, at, CPU)
    n_rows, n_columns = rows.stop - rows.start, columns.stop - columns.start
    blocks = -(-n_rows // ROWS)
    room = torch.ones(*shape, blocks * ROWS, (last - first) * PANEL, dtype=torch.bool, device=CPU)
    room[:, :, :n_rows, :n_columns] = ok
    packed = np.packbits(room.numpy(), axis=-1, bitorder="little").view(np.int64)
    return torch.from_numpy(packed).unflatten(2, (blocks, ROWS)).mT.contiguous()
