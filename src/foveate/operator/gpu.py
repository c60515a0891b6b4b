"""Statistics, with or without the output, by the Triton kernels: plain scores and softmax, and masks that are bands.

Axes: B batch, H query heads, G key/value heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .. import gpu
from ..gpu import Band
from ..masks import Mask
from ..masks import positional as positions
from ..masks.base import And, Everything
from ..native import Found, Wanted
from ..scores import Dot
from ..shapes import Geometry
from .limits import too_wide, unusual
from .problem import Problem

__all__ = ["band", "obstacle", "odd", "passes"]


def obstacle(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted) -> str | None:
    """Why these kernels cannot compute a problem; None if they can."""
    hindrance = gpu.obstacle(problem.q_BHQD.device) or odd(problem, v_BGKV)
    hindrance = hindrance or too_wide(problem, v_BGKV, gpu.DTYPES, gpu.MOST_WIDTH)
    if hindrance is not None:
        return hindrance
    if wanted.top > gpu.MOST_BEST:
        return f"more than the {gpu.MOST_BEST} largest weights of a row are asked for"
    if band(problem.mask, problem.geometry) is None:
        return "its mask is no band of keys around the query, such as causal or a window"
    return None


def odd(problem: Problem, v_BGKV: Tensor | None) -> str | None:
    """What no kernel on the GPU takes: what none at all does, and biases."""
    return unusual(problem, v_BGKV) or (None if problem.bias is None else "it has a bias")


def band(mask: Mask | None, g: Geometry) -> Band | None:
    """The keys that a row sees as a band around its own index; None: this mask is none, or not known to be one."""
    if mask is None or isinstance(mask, Everything):
        return Band(None, None, 0)
    if isinstance(mask, positions.Band):
        offset = g.offset if mask.align == "end" else 0
        left = None if mask.left is None else mask.left - offset
        return Band(left, None if mask.right is None else mask.right + offset, 0)
    if not isinstance(mask, And):
        return None
    both = band(mask.left, g), band(mask.right, g)
    if both[0] is None or both[1] is None:
        return None
    lefts, rights = ([n for b in both if (n := getattr(b, side)) is not None] for side in ("left", "right"))
    return Band(min(lefts, default=None), min(rights, default=None), 0)


def passes(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted, rows: slice) -> Iterator[tuple[slice, Found]]:
    """What the kernels find over some rows, in one piece."""
    score, sinks = problem.score, problem.normalizer.sinks  # type: ignore[attr-defined]
    assert isinstance(score, Dot) and score.scale is not None
    yield (
        rows,
        gpu.run(
            problem.q_BHQD[:, :, rows],
            problem.k_BGKD,
            v_BGKV,
            wanted,
            scale=score.scale,
            softcap=score.softcap,
            sinks=sinks,
            band=band(problem.mask, problem.geometry),
            first_row=rows.start,
            all_rows=problem.geometry.queries,
        ),
    )
