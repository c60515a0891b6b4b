"""The additive score: a perceptron of one hidden layer on the query and the key.

tanh of all pairs is R x C x N numbers, which are never at hand together: some hidden units at a time are summed up.
With gradients too, as the backward computes them again.

Axes: H heads (all, or some), R rows (some queries), C columns (some keys), D query width, E key width, N hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from ..shapes import is_tracked, is_transformed
from .base import Score
from .products import fits

__all__ = ["Perceptron"]

HIDDEN_NUMBERS = 1 << 18  # numbers of the hidden layer held at a time, at most; but at least those of one unit


@describable
@dataclass(frozen=True, eq=False)
class Perceptron(Score):
    """v.tanh(Wq q + Wk k + b): `query_weight` (N, D), `key_weight` (N, E), `v` (N,), `bias` (N,).

    With a leading axis (H, ...) each head has its own. Without `key_weight` keys are Wk k already, (..., C, N), so that
    what many queries read one after the other is multiplied once.

    Bahdanau et al. 2015, appendix A.1.2; with [Wq Wk] as one matrix it is Luong et al. 2015, section 3.1, "concat".
    """

    query_weight: Tensor
    key_weight: Tensor | None
    v: Tensor
    bias: Tensor | None = None
    name: str = "additive"

    mixes_widths = True

    def __post_init__(self) -> None:
        wanted = self.v.shape
        shapes = {w.shape[:-1] for w in (self.query_weight, self.key_weight) if w is not None}
        shapes |= set() if self.bias is None else {self.bias.shape}
        if self.v.ndim not in (1, 2) or shapes != {wanted}:
            raise ValueError(f"query_weight, key_weight and bias must lead with the axes of v, {tuple(wanted)}")

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
        if is_tracked(of_query, of_key, v):
            return _Squashed.apply(of_query, of_key, v)
        return _sum(of_query, of_key, v)


def _plain(a: Float[Tensor, "*batch R N"], c: Float[Tensor, "*batch C N"], v: Tensor) -> Float[Tensor, "*batch R C"]:
    """The definition, all at once: what transforms and forward-mode differentiation can see through."""
    return (torch.tanh(a[..., :, None, :] + c[..., None, :, :]) @ v[..., None, :, None])[..., 0]


def _sum(a: Float[Tensor, "*batch R N"], c: Float[Tensor, "*batch C N"], v: Tensor) -> Float[Tensor, "*batch R C"]:
    """The same, some hidden units at a time."""
    s = a.new_zeros(*torch.broadcast_shapes(a.shape[:-2], c.shape[:-2]), a.shape[-2], c.shape[-2])
    a, c = (t.mT.contiguous().mT for t in (a, c))  # a unit's numbers side by side
    for some in _units(s.numel(), a.shape[-1]):
        u = _inner(a[..., some], c[..., some]).tanh_()
        s += (v[..., None, some] @ u.flatten(-2)).reshape(s.shape)
    return s


def _units(numbers: int, hidden: int) -> list[slice]:
    step = max(1, HIDDEN_NUMBERS // max(1, numbers))
    return [slice(i, min(i + step, hidden)) for i in range(0, hidden, step)]


def _inner(a: Tensor, c: Tensor) -> Float[Tensor, "*batch N R C"]:
    return a.mT[..., :, None] + c.mT[..., None, :]


class _Squashed(torch.autograd.Function):
    """`_sum`, whose backward computes the hidden layer again; plain operations, so it can itself be differentiated."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, c: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(a, c, v)
        return _sum(a, c, v)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, c, v = ctx.saved_tensors
        to_a, to_c, to_v = [], [], []
        for some in _units(math.prod(grad.shape), a.shape[-1]):
            u, g = torch.tanh(_inner(a[..., some], c[..., some])), grad[..., None, :, :]
            to_v.append((u * g).sum((-1, -2)))
            inner = (1 - u * u) * (g * v[..., some, None, None])
            to_a.append(inner.sum(-1).mT)
            to_c.append(inner.sum(-2).mT)
        found = (torch.cat(parts, dim=-1) for parts in (to_a, to_c, to_v))
        return tuple(t.sum_to_size(like.shape) for t, like in zip(found, (a, c, v), strict=True))  # type: ignore[return-value]
