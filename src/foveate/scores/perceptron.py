"""The additive score: a perceptron of one hidden layer on the query and the key.

tanh of all pairs is R x C x N numbers, which are never at hand together: a few pairs at a time are summed up, in the
cache. With gradients too, as the backward computes them again.

Axes: H heads (all, or some), R rows (some queries), C columns (some keys), D query width, E key width, N hidden units,
L all leading axes as one; l, r, c some of L, R, C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from ..shapes import at_a_time, is_tracked, is_transformed
from .base import Score
from .products import fits

__all__ = ["Perceptron"]

HIDDEN_NUMBERS = (
    1 << 18
)  # numbers of the hidden layer held at a time, at most (on a CPU); but at least those of one pair
HIDDEN_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@describable
@dataclass(frozen=True, eq=False)
class Perceptron(Score):
    """v.tanh(Wq q + Wk k + b): `query_weight` (N, D), `key_weight` (N, E), `v` (N,), `bias` (N,).

    With a leading axis (H, ...) each head has its own. Without `key_weight` keys are Wk k already, (..., C, N), so that
    what many queries read one after the other is multiplied once. `hidden_dtype` is that of the hidden layer:
    "bfloat16" or "float16", as autocast has it; default: that of the scores.

    Bahdanau et al. 2015, appendix A.1.2; with [Wq Wk] as one matrix it is Luong et al. 2015, section 3.1, "concat".
    """

    query_weight: Tensor
    key_weight: Tensor | None
    v: Tensor
    bias: Tensor | None = None
    name: str = "additive"
    hidden_dtype: str | None = None

    mixes_widths = True

    def __post_init__(self) -> None:
        wanted = self.v.shape
        shapes = {w.shape[:-1] for w in (self.query_weight, self.key_weight) if w is not None}
        shapes |= set() if self.bias is None else {self.bias.shape}
        if self.v.ndim not in (1, 2) or shapes != {wanted}:
            raise ValueError(f"query_weight, key_weight and bias must lead with the axes of v, {tuple(wanted)}")
        if self.hidden_dtype not in (None, *HIDDEN_DTYPES):
            names = ", ".join(map(repr, HIDDEN_DTYPES))
            raise ValueError(f"hidden_dtype must be {names} or None; got {self.hidden_dtype!r}")

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(t for t in (self.query_weight, self.key_weight, self.v, self.bias) if t is not None)

    @property
    def per_head(self) -> bool:
        return self.v.ndim == 2

    def of_heads(self, heads: slice) -> Perceptron:
        if not self.per_head:
            return self
        key_weight, bias = (None if t is None else t[heads] for t in (self.key_weight, self.bias))
        return replace(self, query_weight=self.query_weight[heads], key_weight=key_weight, v=self.v[heads], bias=bias)

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Perceptron:
        super().settle(scale, heads, query_width, key_width)
        fits(self, heads, self.query_weight, query_width=(-1, query_width))
        fits(self, heads, self.v if self.key_weight is None else self.key_weight, key_width=(-1, key_width))
        return self

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C E"]) -> Float[Tensor, "*batch R C"]:
        of_query = q @ self.query_weight.to(q).mT
        if self.bias is not None:
            of_query = of_query + self.bias.to(q)[..., None, :]
        of_key, v = k if self.key_weight is None else k @ self.key_weight.to(q).mT, self.v.to(q)
        if is_transformed():
            return _plain(of_query, of_key, v)
        dtype = q.dtype if self.hidden_dtype is None else HIDDEN_DTYPES[self.hidden_dtype]
        if is_tracked(of_query, of_key, v):
            return _Squashed.apply(of_query, of_key, v, dtype)
        return _sum(of_query, of_key, v, dtype)


def _plain(a: Float[Tensor, "*batch R N"], c: Float[Tensor, "*batch C N"], v: Tensor) -> Float[Tensor, "*batch R C"]:
    """The definition, all at once: what transforms and forward-mode differentiation can see through."""
    return (torch.tanh(a[..., :, None, :] + c[..., None, :, :]) @ v[..., None, :, None])[..., 0]


def _sum(a: Tensor, c: Tensor, v: Tensor, dtype: torch.dtype) -> Float[Tensor, "*batch R C"]:
    """The same, a few pairs at a time, their hidden layer in `dtype`."""
    lead = _lead(a, c, v)
    s = a.new_empty(*lead, a.shape[-2], c.shape[-2])
    out_LRC, (a_LRN, c_LCN, v_LN) = s.flatten(0, -3) if lead else s[None], _flat(lead, a, c, v, dtype)
    for some, r, k in _parts(a_LRN, c_LCN):
        u_lrcN = _hidden(a_LRN[some, r], c_LCN[some, k])
        out_LRC[some, r, k] = u_lrcN @ v_LN if v_LN.ndim == 1 else (u_lrcN @ v_LN[some, None, :, None])[..., 0]
    return s


def _lead(a: Tensor, c: Tensor, v: Tensor) -> torch.Size:
    return torch.broadcast_shapes(a.shape[:-2], c.shape[:-2], v.shape[:-1])


def _flat(lead: torch.Size, a: Tensor, c: Tensor, v: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(L, R, N), (L, C, N), and v: (N,) if all share it, else (L, N)."""
    every = math.prod(lead)
    a, c = (t.to(dtype).expand(*lead, *t.shape[-2:]).reshape(every, *t.shape[-2:]) for t in (a, c))
    return a, c, v.to(dtype) if v.ndim == 1 else v.to(dtype).expand(*lead, -1).reshape(every, v.shape[-1])


def _parts(a_LRN: Tensor, c_LCN: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Slices of L, R and C, so that a part's hidden layer has no more than HIDDEN_NUMBERS."""
    (lead, rows, hidden), columns = a_LRN.shape, c_LCN.shape[1]
    pairs = max(1, at_a_time(HIDDEN_NUMBERS, a_LRN.device) // max(1, hidden))
    wide = min(max(1, columns), pairs)
    high = min(max(1, rows), max(1, pairs // wide))
    deep = max(1, pairs // (wide * high))
    for i in range(0, lead, deep):
        for j in range(0, rows, high):
            for k in range(0, columns, wide):
                yield slice(i, min(i + deep, lead)), slice(j, min(j + high, rows)), slice(k, min(k + wide, columns))


def _hidden(a_lrN: Tensor, c_lcN: Tensor) -> Float[Tensor, "l r c N"]:
    return (a_lrN[:, :, None] + c_lcN[:, None]).tanh_()


class _Squashed(torch.autograd.Function):
    """`_sum`, whose backward computes the hidden layer again, or, to be differentiated itself, is that of `_plain`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, c: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(a, c, v)
        ctx.dtype = dtype
        return _sum(a, c, v, dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, c, v = ctx.saved_tensors
        if torch.is_grad_enabled():  # the backward is to be differentiated: by what autograd sees through
            s = _plain(a, c, v)
            wanted = [t for t, needed in zip((a, c, v), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(s, wanted, grad, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None
        return *_gradients(a, c, v, grad, ctx.dtype), None


def _gradients(a: Tensor, c: Tensor, v: Tensor, grad: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Of `_sum`, with respect to a, c and v."""
    lead, wide = _lead(a, c, v), grad.dtype
    a_LRN, c_LCN, v_LN = _flat(lead, a, c, v, dtype)
    g_LRC = grad.to(dtype).reshape(len(a_LRN), *grad.shape[-2:])
    to_a, to_c = torch.zeros_like(a_LRN, dtype=wide), torch.zeros_like(c_LCN, dtype=wide)
    to_v, one = torch.zeros_like(v_LN, dtype=wide), torch.ones((), dtype=dtype, device=a.device)
    for some, r, k in _parts(a_LRN, c_LCN):
        u_lrcN, g_lrc = _hidden(a_LRN[some, r], c_LCN[some, k]), g_LRC[some, r, k]
        if v_LN.ndim == 1:
            to_v += g_lrc.reshape(-1) @ u_lrcN.flatten(0, -2)
        else:
            to_v[some] += (g_lrc.flatten(1)[:, None] @ u_lrcN.flatten(1, 2))[:, 0]
        slope_lrcN = torch.addcmul(one, u_lrcN, u_lrcN, value=-1).mul_(g_lrc[..., None])
        to_a[some, r] += slope_lrcN.sum(2, dtype=wide)
        to_c[some, k] += slope_lrcN.sum(1, dtype=wide)
    by = v_LN.to(wide) if v_LN.ndim == 1 else v_LN.to(wide)[:, None]
    of_v = to_v if v.ndim == 1 else _folded(to_v, lead, v)
    return _folded(to_a.mul_(by), lead, a), _folded(to_c.mul_(by), lead, c), of_v


def _folded(t: Tensor, lead: torch.Size, like: Tensor) -> Tensor:
    """What was flattened and expanded, summed up again."""
    return t.reshape(*lead, *t.shape[1:]).sum_to_size(like.shape)
