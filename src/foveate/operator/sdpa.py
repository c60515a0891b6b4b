"""The fused backend: `torch.nn.functional.scaled_dot_product_attention`, where it can express the problem.

Fused kernels have no second derivative. `_Fused` keeps their first one and computes higher ones by the block backend.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..biases import Given
from ..lengths import longest
from ..masks.positional import Band
from ..normalizers import Softmax
from ..scores import Dot, Function
from ..shapes import is_traced
from . import blocks
from .problem import Problem

__all__ = ["obstacle", "output"]

# PyTorch's half-precision backward on a CPU: at 20 queries it takes 5 times as long as the float32 one, casts included,
# at 256 as long, at 1,024 three quarters; and its errors are up to 100 times those of the plain formula.
SHORT = 256


def obstacle(problem: Problem, v_BGKV: Tensor) -> str | None:
    """Why this backend cannot express a problem; None if it can."""
    if not isinstance(problem.score, Dot):
        return "its score is " + ("a function of yours" if isinstance(problem.score, Function) else problem.score.name)
    if problem.score.softcap is not None:
        return "its score has a softcap"
    if not isinstance(problem.normalizer, Softmax):
        return f"its normalizer is {problem.normalizer.name}"
    if problem.normalizer.sinks is not None:
        return "its normalizer has sinks"
    bias = problem.bias
    if bias is not None and bias.dtype != problem.q_BHQD.dtype:
        return "its bias has another dtype than its queries"
    if 0 in (*problem.q_BHQD.shape, *problem.k_BGKD.shape, *v_BGKV.shape):
        return "one of its axes is empty"
    if (is_traced() and not torch.compiler.is_compiling()) or torch.autograd.forward_ad._current_level >= 0:
        return "a function transform or forward-mode differentiation is active"
    if not torch.compiler.is_compiling() and not _finite(problem, v_BGKV):
        return "its inputs hold NaN or Inf, or numbers so large that a score may overflow"
    return None


def output(problem: Problem, v_BGKV: Float[Tensor, "B G K V"], dropout: float = 0.0) -> Float[Tensor, "B H Q V"]:
    """(B, H, Q, V) in the value's dtype."""
    g = problem.geometry
    bias = None if problem.bias is None else problem.bias.block(g, g.everything, problem.q_BHQD)
    inputs = (problem.q_BHQD, problem.k_BGKD, v_BGKV, bias)
    if torch.compiler.is_compiling():  # a graph cannot turn back at odd inputs, but it never hides them
        return _call(problem, problem.q_BHQD, problem.k_BGKD, v_BGKV, bias, dropout) + _poison(problem, v_BGKV)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _Fused.apply(problem, dropout, *inputs)
    return _call(problem, problem.q_BHQD, problem.k_BGKD, v_BGKV, bias, dropout)


def is_plain_causal(problem: Problem) -> bool:
    """Whether the kernel's own causal flag says it all, so that no dense mask is needed."""
    mask, g = problem.mask, problem.geometry
    if not isinstance(mask, Band) or (mask.left, mask.right) != (None, 0):
        return False
    return problem.bias is None and (g.offset == 0 or mask.align == "start")


def _finite(problem: Problem, v: Tensor) -> bool:
    """One pass over the inputs: nothing is NaN or Inf, and no score can leave float32's range."""
    score = problem.score
    assert isinstance(score, Dot) and score.scale is not None
    with torch.no_grad():
        q, k, size = _lengths(problem.q_BHQD, problem.k_BGKD, v)
        limit = torch.finfo(problem.compute_dtype).max / 4
        if not (q * k * max(1.0, abs(score.scale)) < limit and math.isfinite(size) and not math.isnan(score.scale)):
            return False
        biases = () if problem.bias is None else problem.bias.tensors
        return all(bool(~torch.isnan(bias).any() & (bias <= limit).all()) for bias in biases)


def _poison(problem: Problem, v: Tensor) -> Tensor:
    """0, or NaN where the fused kernel might answer NaN, Inf or an overflow with a plain number."""
    assert isinstance(problem.score, Dot) and problem.score.scale is not None
    with torch.no_grad():
        peaks = [t.abs().amax().to(problem.compute_dtype) for t in (problem.q_BHQD, problem.k_BGKD, v)]
        bound = peaks[0] * peaks[1] * (problem.q_BHQD.shape[-1] * max(1.0, abs(problem.score.scale)))
        fine = (bound < torch.finfo(problem.compute_dtype).max / 4) & torch.isfinite(peaks[2])
        for bias in () if problem.bias is None else problem.bias.tensors:
            fine = fine & ~torch.isnan(bias).any()
        return torch.where(fine, 0.0, torch.nan).to(v.dtype)


def _lengths(*tensors: Tensor) -> list[float]:
    """Of each the longest row, at most; a GPU is waited for once, not once for each."""
    found = [longest(t) for t in tensors]
    numbers: list[float] = (
        torch.stack([t.double() for t in found]).tolist() if found[0].is_cuda else [float(t) for t in found]
    )
    return numbers


def _call(problem: Problem, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    g = problem.geometry
    assert isinstance(problem.score, Dot)
    causal = is_plain_causal(problem)
    allowed = None
    if not causal and (problem.mask is not None or bias is not None):
        allowed = problem.allowed(*g.everything)
    mask: Tensor | None = allowed
    if bias is not None:
        numbers = bias.to(q.dtype)
        mask = numbers if allowed is None else torch.where(allowed, numbers, -torch.inf)
    if mask is not None:
        mask = mask.expand(*(a if a > 1 else 1 for a in mask.shape[:2]), g.queries, g.keys)
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, causal, scale=problem.score.scale, enable_gqa=problem.shared > 1
    )


def _differentiable(problem: Problem, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """`_call`, whose backward may be asked for: of short half-precision rows on a CPU in float32, see `SHORT`."""
    if q.device.type != "cpu" or q.dtype.itemsize != 2 or problem.geometry.queries > SHORT:
        return _call(problem, q, k, v, bias, dropout)
    wide = [None if t is None else t.float() for t in (q, k, v, bias)]
    assert wide[0] is not None and wide[1] is not None and wide[2] is not None
    return _call(problem, wide[0], wide[1], wide[2], wide[3], dropout).to(v.dtype)


class _Fused(torch.autograd.Function):
    """Fused forward and backward; the backward of the backward goes through the block backend."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, dropout: float, *inputs: Tensor | None) -> Tensor:
        with torch.enable_grad():
            leaves = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
            q, k, v, bias = leaves
            assert q is not None and k is not None and v is not None
            ctx.result = _differentiable(problem, q, k, v, bias, dropout)
        ctx.problem, ctx.dropout, ctx.leaves = problem, dropout, leaves
        ctx.save_for_backward(*inputs)
        return ctx.result.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        inputs = ctx.saved_tensors
        wanted = [i for i, t in enumerate(inputs) if t is not None and t.requires_grad]
        if torch.is_grad_enabled():
            if ctx.dropout:
                raise NotImplementedError("double backward through dropout needs backend='blocks'")
            # Each input under a name of its own: one may be another, or be computed from it, as a bias from queries.
            inputs = tuple(None if t is None else t.view_as(t) for t in inputs)
            q, k, v, bias = inputs
            again = Problem(
                q, k, ctx.problem.score, ctx.problem.normalizer, ctx.problem.mask, None if bias is None else Given(bias)
            )
            result, sources, options = blocks.output(again, v), inputs, {"create_graph": True}
        else:
            result, sources, options = ctx.result, ctx.leaves, {"retain_graph": True}
        found = torch.autograd.grad(result, [sources[i] for i in wanted], grad, allow_unused=True, **options)
        grads: list[Tensor | None] = [None] * len(inputs)
        for i, g in zip(wanted, found, strict=True):
            grads[i] = g
        return (None, None, *grads)
