"""Masks of the user: a predicate, or a tensor of booleans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, cut, expand_to
from .base import Block, Mask, MaskMod, refuse_function

__all__ = ["Dense", "Where", "tensor", "where"]


@dataclass(frozen=True, eq=False)
class Where(Mask):
    """The user's own predicate on plain indices. It has no description, so it is stored as the bits it gives."""

    function: MaskMod

    def predicate(self, g: Geometry) -> MaskMod:
        def checked(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            ok = torch.as_tensor(self.function(b, h, q, k), device=k.device)
            if ok.dtype != torch.bool:
                raise TypeError(f"a predicate must give booleans, True = may attend; got {ok.dtype}")
            return ok

        return checked

    def __str__(self) -> str:
        return f"where({getattr(self.function, '__name__', 'predicate')})"


@describable
@dataclass(frozen=True, eq=False)
class Dense(Mask):
    """A boolean tensor. `table` broadcasts to (batch, heads, queries, keys) once a problem has taken it in."""

    table: Tensor

    def __post_init__(self) -> None:
        if self.table.dtype != torch.bool:
            raise TypeError(
                f"a mask holds booleans, True = may attend; got {self.table.dtype}. Numbers to add are a bias="
            )

    def predicate(self, g: Geometry) -> MaskMod:
        table = self.table

        def dense(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            t = table.to(k.device)
            return t[tuple(x if n != 1 else x.new_zeros(()) for n, x in zip(t.shape, (b, h, q, k), strict=True))]

        return dense

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return cut(self.table, at).to(device)

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return Dense(expand_to(self.table, layout, g, "mask"))

    def __str__(self) -> str:
        return f"tensor{tuple(self.table.shape)}"


def where(predicate: MaskMod) -> Mask:
    """Your own predicate: a FlexAttention `mask_mod(batch, head, query, key)`, written with tensor operations."""
    if not callable(predicate):
        raise TypeError(f"where takes a function of (batch, head, query, key); got {type(predicate).__name__}")
    return Where(predicate)


def tensor(table: Any) -> Mask:
    """A boolean tensor or array that broadcasts to (..., heads, queries, keys).

    Raises:
        TypeError: its entries are not booleans; numbers to add to the scores are a `bias`. Or it is a function.
    """
    refuse_function(table)
    return Dense(as_tensor(table))
