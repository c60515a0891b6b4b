"""The dense definition of attention, the oracle. Plain, differentiable, runs anywhere; O(Q K) memory.

No other backend imports this file; every test compares against it, in float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..scores import Placed
from .problem import Problem

__all__ = ["output", "weights"]


def weights(problem: Problem) -> Float[Tensor, "B H Q K"]:
    """All weights (B, H, Q, K), in the compute dtype: the normaliser's plain definition over the keys a row may see."""
    d = problem.compute_dtype
    g = problem.geometry
    q_BHQD, k_BHKD = problem.q_BHQD.to(d), problem.k_BGKD.to(d).repeat_interleave(problem.shared, dim=1)
    everywhere = g.everything
    if isinstance(problem.score, Placed):
        s_BHQK = problem.score.block(problem.q_BHQD, problem.k_BGKD, everywhere)
    else:
        s_BHQK = problem.score(q_BHQD, k_BHKD)
    allowed = torch.ones(g.shape, dtype=torch.bool, device=s_BHQK.device)
    if problem.mask is not None:
        axes = (torch.arange(n, device=s_BHQK.device) for n in g.shape)
        grid = torch.meshgrid(*axes, indexing="ij")
        allowed = problem.mask.predicate(g)(*grid).expand(g.shape)
    if problem.bias is not None:
        s_BHQK = s_BHQK + problem.bias.block(g, everywhere, q_BHQD).to(d)
        hidden = problem.bias.hidden(g, everywhere)
        allowed = allowed if hidden is None else allowed & ~hidden
    overflow = (s_BHQK == -torch.inf) & allowed & (not problem.normalizer.has_sink)
    lost = (overflow | ~allowed).all(-1, keepdim=True) & allowed.any(-1, keepdim=True)
    lost = lost | ((s_BHQK.isnan() | (s_BHQK == torch.inf)) & allowed).any(-1, keepdim=True)
    s_BHQK = s_BHQK.masked_fill(~allowed, -torch.inf)
    empty = ~allowed.any(-1, keepdim=True)
    if g.keys == 0:
        return s_BHQK
    w_BHQK = problem.normalizer.dense(s_BHQK.masked_fill(empty | lost, 0.0))
    return w_BHQK.masked_fill(lost, torch.nan).masked_fill(empty, 0.0)


def output(problem: Problem, v_BGKV: Float[Tensor, "B G K V"], dropout: float = 0.0) -> Float[Tensor, "B H Q V"]:
    """(B, H, Q, V). A value whose weight is exactly 0 is not read, so what it holds does not matter."""
    w_BHQK = weights(problem)
    v_BHKV = v_BGKV.to(w_BHQK.dtype).repeat_interleave(problem.shared, dim=1)
    if dropout:
        w_BHQK = torch.nn.functional.dropout(w_BHQK, dropout)
    if bool(torch.isfinite(v_BHKV).all()):
        return torch.einsum("bhqk,bhkv->bhqv", w_BHQK, v_BHKV).to(v_BGKV.dtype)
    w_BHQK1 = w_BHQK[..., None]
    read_BHQKV = torch.where(w_BHQK1 == 0, torch.zeros_like(w_BHQK1), v_BHKV[:, :, None])
    return (w_BHQK1 * read_BHQKV).sum(-2).to(v_BGKV.dtype)
