"""What no compiled kernel takes, on whatever device: asked once here, and by each before what is its own."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ..normalizers import Softmax
from ..scores import Dot
from ..shapes import is_tracked, is_transformed
from .problem import Problem

__all__ = ["too_wide", "unusual"]


def unusual(problem: Problem, v_BGKV: Tensor | None) -> str | None:
    """Gradients, transforms, tensors of other kinds, empty axes, other scores and normalisers; None: none of them."""
    given = _given(problem, v_BGKV)
    if is_transformed():
        return "a function transform, a compiler or forward-mode differentiation is active"
    if problem.tracked or is_tracked(v_BGKV):
        return "it has no gradients"
    if any(type(t) not in (Tensor, torch.nn.Parameter) for t in given):
        return "its inputs are not plain tensors"
    if any(0 in t.shape for t in given):
        return "one of its axes is empty"
    if type(problem.score) is not Dot:
        return f"its score is {problem.score.name}"
    if type(problem.normalizer) is not Softmax:
        return f"its normalizer is {problem.normalizer.name}"
    return None


def too_wide(problem: Problem, v_BGKV: Tensor | None, dtypes: Collection[torch.dtype], most_width: int) -> str | None:
    """Inputs of a dtype, or heads of a width, that a kernel was not written for; None: neither."""
    given = _given(problem, v_BGKV)
    if any(t.dtype not in dtypes for t in given):
        names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
        return f"its inputs are {problem.q_BHQD.dtype}; it takes {', '.join(names[:-1])} and {names[-1]}"
    if max(t.shape[-1] for t in given) > most_width:
        return f"its heads are wider than {most_width}"
    return None


def _given(problem: Problem, v_BGKV: Tensor | None) -> list[Tensor]:
    return [problem.q_BHQD, problem.k_BGKD, *([] if v_BGKV is None else [v_BGKV])]
