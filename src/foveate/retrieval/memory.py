"""What can be looked up: rows in a tensor, in an array that may be mapped from a file, or given block by block.

Axes: N rows of a memory, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..shapes import as_tensor

__all__ = ["Memory", "paired"]


class Memory:
    """Rows (N, D) that are read a block at a time, so that only one block is ever held."""

    def __init__(self, rows: Any, name: str) -> None:
        if isinstance(rows, list | tuple) and not any(isinstance(r, Tensor | np.ndarray) for r in rows):
            rows = np.asarray(rows)
        self.rows, self.name = rows, name
        if self.at_hand and rows.ndim != 2:
            raise ValueError(f"{name} must have two axes, (N, D); got shape {tuple(rows.shape)}")
        if not self.at_hand and not isinstance(rows, Iterable):
            kind = type(rows).__name__
            raise TypeError(f"{name} must be a tensor, an array or an iterable of blocks (n, D); got {kind}")

    @property
    def at_hand(self) -> bool:
        """Whether any row can be read by its number."""
        return isinstance(self.rows, Tensor | np.ndarray)

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, size: int) -> Iterator[Tensor]:
        """All rows in order, at most `size` at a time."""
        given = [self.rows] if self.at_hand else self.rows
        for part in given:
            if not isinstance(part, Tensor | np.ndarray):
                part = np.asarray(part)
            if part.ndim != 2:
                raise ValueError(f"each block of the {self.name} must be (n, D); got shape {tuple(part.shape)}")
            for start in range(0, len(part), size):
                yield as_tensor(part[start : start + size])

    def at(self, places: Tensor) -> Tensor:
        """The rows at some places (...): (..., D)."""
        if isinstance(self.rows, Tensor):
            return self.rows[places.to(self.rows.device)]
        flat = places.reshape(-1).cpu().numpy()
        return as_tensor(np.asarray(self.rows[flat])).reshape(*places.shape, -1)


def paired(
    keys: Memory, values: Memory | None, size: int, seen: Callable[[int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of keys, and of the values that go with them: the keys themselves if there are no others.

    `seen` is told after each block how many rows have been read.

    Raises:
        ValueError: there are not as many values as keys.
    """
    if values is not None and keys.at_hand and values.at_hand and len(keys) != len(values):
        raise ValueError(f"memory and values must have equally many rows; got {len(keys)} and {len(values)}")
    total = 0
    feed = None if values is None else _Feed(values, size)
    for k in keys.blocks(size):
        yield k, k if feed is None else feed.take(len(k))
        total += len(k)
        seen(total)
    if feed is not None and feed.more():
        raise ValueError(f"memory and values must have equally many rows; there are more values than the {total} keys")


class _Feed:
    """Rows of a memory, as many at a time as are asked for, however they are cut into blocks."""

    def __init__(self, memory: Memory, size: int) -> None:
        self.left, self.blocks = torch.empty(0, 0), memory.blocks(size)

    def take(self, n: int) -> Tensor:
        parts = []
        while n:
            if not self.more():
                raise ValueError("memory and values must have equally many rows; there are fewer values than keys")
            parts.append(self.left[:n])
            self.left = self.left[n:]
            n -= len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def more(self) -> bool:
        while not len(self.left):
            block = next(self.blocks, None)
            if block is None:
                return False
            self.left = block
        return True
