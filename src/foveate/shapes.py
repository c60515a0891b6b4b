"""Axes, and how any accepted layout becomes the canonical one.

B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D head width, V value width.
Every part of foveate below the public functions works on (B, H, Q, D) and (B, G, K, D).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

__all__ = [
    "Geometry",
    "Layout",
    "Picked",
    "as_tensor",
    "at_a_time",
    "canonical",
    "cut",
    "expand_to",
    "full_precision",
    "indices",
    "is_traced",
    "is_tracked",
    "is_transformed",
    "sum_dtype",
    "to_numpy",
    "to_tensors",
    "whole",
]

Picked = slice | Tensor  # some of an axis: a slice with both ends and no step, or an int64 tensor (n,)
ON_DEVICE = 1 << 26  # numbers worked on at a time where launching a kernel costs more than memory does: 256 MB
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Geometry:
    """Sizes of one attention problem: (batch, heads, queries, keys)."""

    batch: int
    heads: int
    queries: int
    keys: int

    @property
    def offset(self) -> int:
        """Key position of query 0: positions align to the end, so it is K - Q."""
        return self.keys - self.queries

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads, self.queries, self.keys)

    @property
    def everything(self) -> tuple[slice, slice, slice, slice]:
        """The block that is the whole problem."""
        return (slice(0, self.batch), slice(0, self.heads), slice(0, self.queries), slice(0, self.keys))


@dataclass(frozen=True)
class Layout:
    """What the caller's tensors looked like, so that results can be given back in that form.

    `lead` are the sizes before the head axis; `axes` is how many of (head, query) the caller had:
    2 for (..., H, Q, D), 1 for (Q, D), 0 for (D,). `numpy` is True if arrays came in.
    """

    lead: tuple[int, ...]
    axes: int
    numpy: bool = False

    def restore(self, t: Tensor, per_query: bool = True) -> Any:
        """(B, H, ...) -> (*lead, H, ...), or (...) without the axes the caller did not have; NumPy if that came in.

        `per_query` says that axis 2 is the query's, which goes too where a single query (D,) was asked.
        """
        if self.axes == 2:
            t = t if len(self.lead) == 1 else t.reshape(*self.lead, *t.shape[1:])
        else:
            t = t.reshape(t.shape[3 if self.axes == 0 and per_query else 2 :])
        return to_numpy(t) if self.numpy else t


def to_numpy(t: Tensor) -> np.ndarray:
    """An array of the same numbers; bfloat16, which NumPy lacks, becomes float32."""
    t = t.detach().cpu()
    return (t.float() if t.dtype == torch.bfloat16 else t).numpy()


def at_a_time(numbers: int, device: torch.device) -> int:
    """How many numbers to work on at a time: on the CPU what stays in its cache; elsewhere many, as launches cost."""
    return numbers if device.type == "cpu" else max(numbers, ON_DEVICE)


def whole(x: Any, name: str) -> int:
    """A whole number that a caller gave, by its name, such as "a window distance".

    Raises:
        ValueError: it is none: 1.5, and 2.0 too.
    """
    try:
        return operator.index(x)
    except TypeError:
        got = x if isinstance(x, float) else type(x).__name__
        raise ValueError(f"{name} must be a whole number; got {got}") from None


def as_tensor(x: Any, device: torch.device | None = None) -> Tensor:
    """`torch.as_tensor`, which also takes arrays that are read-only, reversed or of foreign byte order."""
    if isinstance(x, np.ndarray):
        x = np.asarray(x, dtype=x.dtype.newbyteorder("="), order="C")
        x = x if x.flags.writeable else x.copy()
    return torch.as_tensor(x, device=device)


def to_tensors(**named: Any) -> tuple[list[Tensor], bool]:
    """Tensors of one floating dtype from tensors, arrays or nested lists; and whether none was a tensor.

    Integers become floating point. Arrays of several floating dtypes are promoted as NumPy does.

    Raises:
        TypeError: tensors of different floating dtypes (outside autocast), or complex or object entries.
    """
    if not any(isinstance(x, Tensor) for x in named.values()):
        arrays = {name: np.asarray(x) for name, x in named.items()}
        for name, a in arrays.items():
            if a.dtype.kind not in "fiub":
                raise TypeError(f"{name} must hold real numbers; got an array of dtype {a.dtype}")
        floats = [a.dtype for a in arrays.values() if a.dtype.kind == "f"]
        dtype = np.result_type(*floats) if floats else np.dtype(np.float64)
        dtype = dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
        return [as_tensor(np.asarray(a, dtype=dtype)) for a in arrays.values()], True
    given = list(named.values())
    common = given[0].dtype if isinstance(given[0], Tensor) else None
    if common in _DTYPES and all(isinstance(x, Tensor) and x.dtype == common for x in given):
        return given, False
    tensors = {name: as_tensor(x) for name, x in named.items()}
    dtypes = {name: t.dtype for name, t in tensors.items() if t.dtype.is_floating_point or t.dtype.is_complex}
    listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
    if any(dtype not in _DTYPES for dtype in dtypes.values()):
        raise TypeError(f"attention takes float16, bfloat16, float32 or float64; got {listed}")
    common = next(iter(dtypes.values()), torch.get_default_dtype())
    if len(set(dtypes.values())) > 1:
        device = next(iter(tensors.values())).device.type
        if not torch.is_autocast_enabled(device):
            raise TypeError(f"query, key and value must share one dtype; got {listed}")
        common = torch.get_autocast_dtype(device)  # as torch's own attention does
    return [t.to(common) for t in tensors.values()], False


def canonical(query: Tensor, key: Tensor, value: Tensor | None, numpy: bool = False, any_widths: bool = False) -> tuple:
    """(..., H, Q, D), (..., G, K, D), (..., G, K, V) -> (q_BHQD, k_BGKD, v_BGKV or None, Layout).

    Also takes (Q, D) with (K, D), and one query (D,) with (K, D). Leading axes broadcast. With `any_widths` keys may be
    of another width than queries.

    Raises:
        ValueError: any rule about shapes is broken; the text states the rule and both shapes.
    """
    axes = {1: 0, 2: 1}.get(query.ndim, 2)
    if query.ndim == 0:
        raise ValueError("query must have at least one axis, (D,); got a single number")
    wanted = 2 if axes < 2 else query.ndim
    for name, t in (("key", key), ("value", value)):
        if t is not None and t.ndim != wanted:
            raise ValueError(f"{name} must have {wanted} axes to go with query of shape {_s(query)}; got shape {_s(t)}")
    q = query.reshape((1,) * (2 - axes) + tuple(query.shape)) if axes < 2 else query
    k = key[None] if axes < 2 else key
    v = None if value is None else (value[None] if axes < 2 else value)
    _check(q, k, v, any_widths)
    tensors = [q, k] if v is None else [q, k, v]
    lead = _broadcast_lead(*tensors)
    flat = tensors
    if len(lead) != 1 or any(t.shape[0] != lead[0] for t in tensors):
        flat = [t.expand(*lead, *t.shape[-3:]).reshape(math.prod(lead), *t.shape[-3:]) for t in tensors]
    shown = lead if axes == 2 else ()
    return flat[0], flat[1], flat[2] if v is not None else None, Layout(shown, axes, numpy)


def _check(q: Tensor, k: Tensor, v: Tensor | None, any_widths: bool) -> None:
    if q.shape[-1] != k.shape[-1] and not any_widths:
        raise ValueError(f"query and key must have the same width D; got {_s(q)} and {_s(k)}")
    if 0 in (q.shape[-1], k.shape[-1]):
        raise ValueError(f"the head width D must be at least 1; got query of shape {_s(q)}")
    heads, groups = q.shape[-3], k.shape[-3]
    if heads == 0 or groups == 0:
        raise ValueError(f"query and key must have at least one head; got {_s(q)} and {_s(k)}")
    if heads % groups:
        raise ValueError(f"query heads must be a multiple of key heads; got {heads} and {groups}")
    if v is not None and v.shape[-3] != groups:
        raise ValueError(f"key and value must have the same number of heads; got {groups} and {v.shape[-3]}")
    if v is not None and v.shape[-2] != k.shape[-2]:
        raise ValueError(f"key and value must have the same length K; got {_s(k)} and {_s(v)}")
    if len({t.device for t in (q, k, *([] if v is None else [v]))}) > 1:
        raise ValueError("query, key and value must be on the same device")


def _broadcast_lead(first: Tensor, *others: Tensor) -> tuple[int, ...]:
    lead, tensors = first.shape[:-3], (first, *others)
    if all(t.shape[:-3] == lead for t in others):
        return tuple(lead)
    try:
        return tuple(torch.broadcast_shapes(*(t.shape[:-3] for t in tensors))) or ()
    except RuntimeError:
        shapes = ", ".join(_s(t) for t in tensors)
        raise ValueError(f"the leading axes of query, key and value must broadcast; got {shapes}") from None


def expand_to(t: Tensor, layout: Layout, g: Geometry, name: str) -> Shaped[Tensor, "B H Q K"]:
    """A tensor that broadcasts to (*lead, H, Q, K) -> (B|1, H|1, Q|1, K|1), copying only where it must.

    Raises:
        ValueError: it does not broadcast.
    """
    lead = layout.lead
    target = (*lead, g.heads, g.queries, g.keys)
    shown = target if layout.axes == 2 else target[len(target) - 1 - layout.axes :]
    if t.ndim > len(shown) or any(a not in (1, b) for a, b in zip(reversed(t.shape), reversed(shown), strict=False)):
        names = "(..., heads, queries, keys)" if layout.axes == 2 else "(queries, keys)"[: None if layout.axes else 0]
        raise ValueError(f"{name} must broadcast to {names or '(keys,)'} = {shown}; got {tuple(t.shape)}")
    full = t.reshape((1,) * (len(lead) + 3 - t.ndim) + tuple(t.shape))
    front = full.shape[: len(lead)]
    if len(lead) == 1 or math.prod(front) == 1:
        return full.reshape(math.prod(front), *full.shape[len(lead) :])
    return full.expand(*lead, *full.shape[len(lead) :]).reshape(g.batch, *full.shape[len(lead) :])


def is_traced() -> bool:
    """Whether a function transform or a compiler runs the code, so that no value can be asked for."""
    return torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None


def is_transformed() -> bool:
    """Whether a function transform, a compiler or forward-mode differentiation is active: compiled code sees none."""
    return is_traced() or torch.jit.is_tracing() or torch.autograd.forward_ad._current_level >= 0


def is_tracked(*tensors: Tensor | None) -> bool:
    """Whether anything differentiates or transforms these tensors, so that in-place shortcuts are barred."""
    if torch._C._functorch.maybe_current_level() is not None:
        return True
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def indices(picked: Picked, device: torch.device) -> Tensor:
    """A pick as an int64 tensor (n,)."""
    if isinstance(picked, Tensor):
        return picked.to(device)
    return torch.arange(picked.start, picked.stop, device=device)


def cut(t: Tensor, picked: Sequence[Picked]) -> Tensor:
    """Part of a 4-axis tensor, whose axes may have size 1 instead of the full size. Axes 0 and 1 take slices."""
    b, h, r, c = (p if n != 1 else slice(None) for n, p in zip(t.shape, picked, strict=True))
    return t[b, h][:, :, r][:, :, :, c]


def sum_dtype(device: torch.device) -> torch.dtype:
    """In which long sums and row statistics are kept: float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Shield a computation from autocast, which would take our float32 products in half precision."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


def _s(t: Tensor) -> str:
    return str(tuple(t.shape))
