"""The block backend: any score, mask, bias and normaliser, in memory that does not grow with Q x K.

With gradients it keeps what autograd needs, so memory does grow then; the fused backend is chosen where it can be.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..shapes import full_precision, is_traced
from .problem import Block, Problem, strips

__all__ = ["output"]


def output(problem: Problem, v_BGKV: Float[Tensor, "B G K V"], dropout: float = 0.0) -> Float[Tensor, "B H Q V"]:
    """(B, H, Q, V) in the value's dtype. A value whose weight is exactly 0 is not read."""
    g, d = problem.geometry, problem.compute_dtype
    v = v_BGKV.to(d)
    clean = _readable(v)
    pieces: dict[int, dict[int, list[Tensor]]] = {}  # first batch -> first head -> rows
    with full_precision(v.device):
        for strip in strips(problem):
            parts = [_read(block, v, clean, problem.shared, dropout) for block in strip.blocks()]
            heads = pieces.setdefault(strip.batch.start, {})
            heads.setdefault(strip.heads.start, []).append(sum(parts[1:], parts[0]))
    if not pieces:  # nothing to compute, but a gradient may still ask its way through
        nothing = sum(t.flatten()[:0].sum() for t in (problem.q_BHQD, problem.k_BGKD, v_BGKV))
        return v_BGKV.new_zeros(g.batch, g.heads, g.queries, v.shape[-1]) + nothing
    batches = [torch.cat([torch.cat(rows, dim=2) for rows in heads.values()], dim=1) for heads in pieces.values()]
    return torch.cat(batches, dim=0).to(v_BGKV.dtype)


def _readable(v: Tensor) -> bool:
    """Whether all values are finite. Unknown where a transform or compiler traces, and taken as so."""
    return is_traced() or bool(torch.isfinite(v).all())


def _read(block: Block, v: Tensor, clean: bool, shared: int, dropout: float) -> Tensor:
    """What one block adds to its rows' output, (b, h, R, V)."""
    w = block.weights
    if dropout:
        w = torch.nn.functional.dropout(w, dropout)
    v_block = v[block.batch, block.heads.start // shared : block.heads.stop // shared, block.columns]
    if clean:
        return _matmul(w, v_block)
    finite = torch.isfinite(v_block)
    out = _matmul(w, torch.where(finite, v_block, torch.zeros_like(v_block)))
    up, down = ((sign * w.detach() > 0).to(w.dtype) for sign in (1, -1))  # linear attention may have negative weights
    high, low, lost = (odd.to(w.dtype) for odd in _oddities(v_block))
    plus, minus = _matmul(up, high) + _matmul(down, low) > 0, _matmul(up, low) + _matmul(down, high) > 0
    lost = _matmul(up + down, lost) > 0
    out = torch.where(plus, torch.inf, torch.where(minus, -torch.inf, out))
    return torch.where(lost | (plus & minus), torch.nan, out)


def _oddities(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return v == torch.inf, v == -torch.inf, torch.isnan(v)


def _matmul(w: Tensor, v: Tensor) -> Tensor:
    """(b, h, R, C), (b, g, C, V) -> (b, h, R, V), h a multiple of g."""
    b, h, r, c = w.shape
    return (w.reshape(b, v.shape[1], h // v.shape[1] * r, c) @ v).reshape(b, h, r, v.shape[-1])
