"""What a mask is, and how masks compose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, Picked, indices

__all__ = [
    "And",
    "Block",
    "Coverage",
    "Everything",
    "Mask",
    "MaskMod",
    "Not",
    "Or",
    "Span",
    "check_whole",
    "everything",
    "refuse_function",
]

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Span = tuple[int, int]
Block = tuple[slice, slice, Picked, Picked]  # some batches, heads, rows and columns


class Coverage(Enum):
    """How much of a block may attend. SOME is always a safe answer."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


class Mask:
    """Base of all masks. Subclasses are frozen dataclasses and define `predicate`."""

    def predicate(self, g: Geometry) -> MaskMod:
        """A function of broadcastable index tensors (batch, head, query, key) -> bool tensor."""
        raise NotImplementedError

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        """Who may attend in a block, bool (b, h, R, C); an axis along which nothing varies may have size 1."""
        places = [indices(p, device).reshape([-1 if i == j else 1 for j in range(4)]) for i, p in enumerate(at)]
        ok = self.predicate(g)(*places)
        return ok.reshape((1,) * (4 - ok.ndim) + tuple(ok.shape))

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        """What is known of the block rows x columns (half-open, not empty) over all batches and heads."""
        return Coverage.SOME

    @property
    def is_causal(self) -> bool:
        """Whether no query sees a key after its own position, by the rule alone; False where that cannot be told."""
        return False

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        """This mask, its tensors brought to canonical shape; ValueError if it cannot belong to such a problem."""
        return self

    def __and__(self, other: Mask) -> Mask:
        return _combine(And, self, other)

    def __rand__(self, other: Any) -> Mask:
        return _combine(And, other, self)

    def __or__(self, other: Mask) -> Mask:
        return _combine(Or, self, other)

    def __ror__(self, other: Any) -> Mask:
        return _combine(Or, other, self)

    def __invert__(self) -> Mask:
        return Not(self)


def _combine(kind: type, a: Any, b: Any) -> Mask:
    for other in (a, b):
        refuse_function(other)
        if not isinstance(other, Mask):
            name = type(other).__name__
            raise TypeError(f"a mask composes with masks; wrap a tensor in masks.tensor(...); got {name}")
    return kind(a, b)


def refuse_function(thing: Any) -> None:
    """A function is no mask, though it may make one.

    Raises:
        TypeError: it is a function; the text says what to do with it.
    """
    if not callable(thing):
        return
    name = getattr(thing, "__name__", type(thing).__name__)
    if getattr(thing, "__module__", "").startswith(f"{__package__}."):
        raise TypeError(f"fv.masks.{name} makes a mask when it is called: write fv.masks.{name}(...)")
    raise TypeError(f"a mask is one of fv.masks or booleans; got the function {name}: wrap it, fv.masks.where({name})")


@dataclass(frozen=True, eq=False)
class _Pair(Mask):
    """Two masks and how they are joined. One that covers as `_decides` settles a block, whatever the other says."""

    left: Mask
    right: Mask
    _decides: ClassVar[Coverage]
    _sign: ClassVar[str]

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def predicate(self, g: Geometry) -> MaskMod:
        a, b = self.left.predicate(g), self.right.predicate(g)
        return lambda *at: self._join(a(*at), b(*at))

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return self._join(self.left.block(g, at, device), self.right.block(g, at, device))

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        a = self.left.coverage(g, rows, columns)
        if a is self._decides:
            return a
        b = self.right.coverage(g, rows, columns)
        return b if b is self._decides or a is not Coverage.SOME else Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return type(self)(self.left.settle(layout, g), self.right.settle(layout, g))

    def __str__(self) -> str:
        return f"{_nested(self.left)} {self._sign} {_nested(self.right)}"


@describable
@dataclass(frozen=True, eq=False)
class And(_Pair):
    _decides, _sign = Coverage.NONE, "&"

    @property
    def is_causal(self) -> bool:
        return self.left.is_causal or self.right.is_causal

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return a & b


@describable
@dataclass(frozen=True, eq=False)
class Or(_Pair):
    _decides, _sign = Coverage.ALL, "|"

    @property
    def is_causal(self) -> bool:
        return self.left.is_causal and self.right.is_causal

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return a | b


@describable
@dataclass(frozen=True, eq=False)
class Not(Mask):
    inner: Mask

    def predicate(self, g: Geometry) -> MaskMod:
        a = self.inner.predicate(g)
        return lambda *at: ~a(*at)

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return ~self.inner.block(g, at, device)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        flipped = {Coverage.ALL: Coverage.NONE, Coverage.NONE: Coverage.ALL, Coverage.SOME: Coverage.SOME}
        return flipped[self.inner.coverage(g, rows, columns)]

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return Not(self.inner.settle(layout, g))

    def __str__(self) -> str:
        return f"~{_nested(self.inner)}"


def _nested(mask: Mask) -> str:
    return f"({mask})" if isinstance(mask, And | Or) else str(mask)


@describable
@dataclass(frozen=True, eq=False)
class Everything(Mask):
    def predicate(self, g: Geometry) -> MaskMod:
        return lambda b, h, q, k: (q >= 0) & (k >= 0)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        return Coverage.ALL

    def __str__(self) -> str:
        return "everything"


def everything() -> Mask:
    """Every query may attend to every key."""
    return Everything()


def check_whole(t: Tensor, name: str) -> None:
    if t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers; got {t.dtype}")
