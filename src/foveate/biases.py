"""Biases: numbers added to the scores before they are normalised.

A bias is asked for blocks, as a mask is, so one that follows from a rule never takes Q x K memory. `a + b` adds two.

Axes: B batch, H heads, Q queries, K keys, D width; R rows and C columns of a block, b and h some batches and heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .describe import describable
from .shapes import Geometry, Layout, Picked, as_tensor, cut, expand_to, indices, is_traced

__all__ = ["Bias", "Distances", "Given", "Sum", "resolve"]

Block = tuple[slice, slice, Picked, Picked]  # some batches, heads, rows and columns


class Bias:
    """Base of all biases. Subclasses define `block` and `points`."""

    __array_ufunc__ = None  # array + bias is a bias, not an array of biases

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is computed from, and gradients may flow to."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """The widest dtype among its tensors."""
        found = [t.dtype for t in self.tensors]
        return max(found, key=lambda d: d.itemsize) if found else torch.float32

    def block(self, g: Geometry, at: Block, q_bhRD: Float[Tensor, "b h R D"]) -> Float[Tensor, "b h R C"]:
        """The numbers of a block whose queries are `q_bhRD`; an axis along which nothing varies may have size 1."""
        raise NotImplementedError

    def points(self, g: Geometry, at: tuple[Tensor, ...], q_PD: Float[Tensor, "P D"]) -> Float[Tensor, " P"]:
        """The numbers of single entries, at four index tensors (P,), whose queries are `q_PD`."""
        raise NotImplementedError

    def hidden(self, g: Geometry, at: Block) -> Bool[Tensor, "b h R C"] | None:
        """Entries that hide their key altogether; None: it hides none."""
        return None

    def hidden_points(self, g: Geometry, at: tuple[Tensor, ...]) -> Bool[Tensor, " P"] | None:
        """`hidden` at single entries."""
        return None

    def by_distance(self) -> Float[Tensor, "h distances"] | None:
        """(H|1, Q + K - 1) numbers, of key - query + Q - 1 by plain indices, if nothing else matters; else None."""
        return None

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Bias:
        """This bias for one problem; ValueError if it cannot belong to it."""
        return self

    def to(self, device: Any, dtype: torch.dtype | None) -> Bias:
        """The same bias elsewhere, or in another floating dtype."""
        return self

    def __add__(self, other: Any) -> Bias:
        other = other() if isinstance(other, nn.Module) else other
        return Sum(self, other if isinstance(other, Bias) else Given(as_tensor(other)))

    __radd__ = __add__


@describable
@dataclass(frozen=True, eq=False)
class Given(Bias):
    """A tensor of numbers. `table` broadcasts to (B, H, Q, K) once a problem has taken it in.

    An entry at or below its dtype's smallest finite number hides its key.
    """

    table: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.table,)

    def block(self, g: Geometry, at: Block, q_bhRD: Tensor) -> Tensor:
        return cut(self.table, at)

    def points(self, g: Geometry, at: tuple[Tensor, ...], q_PD: Tensor) -> Tensor:
        axes = zip(self.table.shape, at, strict=True)
        return self.table[tuple(i if n > 1 else torch.zeros_like(i) for n, i in axes)]

    def hidden(self, g: Geometry, at: Block) -> Tensor:
        return _hides(cut(self.table, at))

    def hidden_points(self, g: Geometry, at: tuple[Tensor, ...]) -> Tensor:
        return _hides(self.points(g, at, self.table))

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Given:
        t = self.table
        if t.device != q_BHQD.device:
            raise ValueError(f"the bias must be on the device of the query, {q_BHQD.device}; got {t.device}")
        if t.dtype == torch.bool:
            raise TypeError("a bias holds numbers to add to the scores; booleans are a mask=")
        t = t if t.dtype.is_floating_point else t.to(q_BHQD.dtype)
        if not is_traced() and bool((t == torch.inf).any()):
            raise ValueError("a bias may not hold +inf; -inf hides a key")
        return Given(expand_to(t, layout, g, "bias"))

    def to(self, device: Any, dtype: torch.dtype | None) -> Given:
        t = self.table
        hides = _hides(t)  # to stay so in any dtype
        wide = t.dtype if dtype is None else torch.promote_types(dtype, torch.float32)
        if wide.itemsize < t.dtype.itemsize:
            t = t.clamp(max=torch.finfo(wide).max)  # no number may become +inf
        return Given(t.to(wide).masked_fill(hides, -torch.inf).to(device))

    def __str__(self) -> str:
        return str(tuple(self.table.shape))


@describable
@dataclass(frozen=True, eq=False)
class Distances(Bias):
    """One number for each distance between key and query, in each head: `table` (H|1, Q + K - 1).

    Entry (i, j), by plain indices, is `table[h, j - i + Q - 1]`. As positions align to the end, the entry of the
    table at t belongs to a key t - (K - 1) places after its query.
    """

    table: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.table,)

    def block(self, g: Geometry, at: Block, q_bhRD: Tensor) -> Tensor:
        rows, columns = (indices(p, self.table.device) for p in at[2:])
        table = self.table if self.table.shape[0] == 1 else self.table[at[1]]
        return table[:, columns - rows[:, None] + (g.queries - 1)][None]

    def points(self, g: Geometry, at: tuple[Tensor, ...], q_PD: Tensor) -> Tensor:
        _, h, i, j = at
        return self.table[h if self.table.shape[0] > 1 else torch.zeros_like(h), j - i + (g.queries - 1)]

    def by_distance(self) -> Tensor:
        return self.table

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Distances:
        expected = g.queries + g.keys - 1
        if self.table.ndim != 2 or self.table.shape[0] not in (1, g.heads) or self.table.shape[1] != max(0, expected):
            raise ValueError(
                f"a bias by distance must have shape (heads, queries + keys - 1) = ({g.heads}, {expected}); "
                f"got {tuple(self.table.shape)}"
            )
        return self

    def to(self, device: Any, dtype: torch.dtype | None) -> Distances:
        wide = self.table.dtype if dtype is None else torch.promote_types(dtype, torch.float32)
        return Distances(self.table.to(device=device, dtype=wide))

    def __str__(self) -> str:
        return "by distance"


@describable
@dataclass(frozen=True, eq=False)
class Sum(Bias):
    """Two biases, added."""

    left: Bias
    right: Bias

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.left.tensors, *self.right.tensors)

    def block(self, g: Geometry, at: Block, q_bhRD: Tensor) -> Tensor:
        d = q_bhRD.dtype
        return self.left.block(g, at, q_bhRD).to(d) + self.right.block(g, at, q_bhRD).to(d)

    def points(self, g: Geometry, at: tuple[Tensor, ...], q_PD: Tensor) -> Tensor:
        return self.left.points(g, at, q_PD).to(q_PD.dtype) + self.right.points(g, at, q_PD).to(q_PD.dtype)

    def hidden(self, g: Geometry, at: Block) -> Tensor | None:
        return _either(self.left.hidden(g, at), self.right.hidden(g, at))

    def hidden_points(self, g: Geometry, at: tuple[Tensor, ...]) -> Tensor | None:
        return _either(self.left.hidden_points(g, at), self.right.hidden_points(g, at))

    def by_distance(self) -> Tensor | None:
        a, b = self.left.by_distance(), self.right.by_distance()
        return None if a is None or b is None else a + b

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Sum:
        return Sum(self.left.settle(layout, g, q_BHQD), self.right.settle(layout, g, q_BHQD))

    def to(self, device: Any, dtype: torch.dtype | None) -> Sum:
        return Sum(self.left.to(device, dtype), self.right.to(device, dtype))

    def __str__(self) -> str:
        return f"{self.left} + {self.right}"


def _hides(numbers: Tensor) -> Tensor:
    return numbers <= torch.finfo(numbers.dtype).min


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a | b


def resolve(bias: Any, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Bias | None:
    """The bias for what a caller gives: a `Bias`, a module that gives one, or numbers that broadcast to (..., H, Q, K).

    Raises:
        ValueError: it does not broadcast, is on another device, or holds +inf.
        TypeError: it holds booleans.
    """
    if bias is None:
        return None
    bias = bias() if isinstance(bias, nn.Module) else bias
    if not isinstance(bias, Bias):
        t = bias if isinstance(bias, Tensor) else as_tensor(np.asarray(bias), device=q_BHQD.device)
        plain = isinstance(bias, Tensor | np.ndarray) or t.dtype == torch.bool
        bias = Given(t if plain else t.to(q_BHQD.dtype))
    return bias.settle(layout, g, q_BHQD)
