"""The compiled backend: C++ on the CPU, one pass over blocks for the output, statistics, or both, without gradients.

Axes: B batch, H query heads, G key/value heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import native
from ..biases import Bias, Given
from ..masks.spans import spans
from ..native import Found, Wanted
from ..scores import Dot
from ..shapes import is_traced
from . import blocks
from .limits import too_wide, unusual
from .panels import LIST_BYTES, lists, variants
from .problem import Problem

__all__ = ["intervals", "obstacle", "output", "passes", "worthwhile"]

FEWEST_QUERIES, FEWEST_SCORES = 64, 1 << 17  # of a problem that is worth it
FEW = 4  # queries that are not packed for, as in driver.cpp
FEW_WORTH, FEW_SHARED, FEW_ROW = 1 << 18, 1 << 23, 256  # multiplications that are worth it; with threads; of a row
MOST_STRIP = 1 << 24  # booleans of a mask that must be formed at once, at most


def obstacle(problem: Problem, v_BGKV: Tensor | None = None, wanted: Wanted | None = None) -> str | None:
    """Why this backend cannot compute a problem; None if it can."""
    if native.find().library is None:
        return f"the compiled core is not in use: {native.find().reason}"
    if problem.q_BHQD.device.type != "cpu":
        return "its inputs are not on the CPU"
    hindrance = unusual(problem, v_BGKV) or too_wide(problem, v_BGKV, native.DTYPES, native.MOST_WIDTH)
    return hindrance or _unknown_part(problem)


def _unknown_part(problem: Problem) -> str | None:
    bias = problem.bias
    if bias is not None and bias.by_distance() is None and type(bias) is not Given:
        return "its bias is neither a tensor nor by distance"
    if type(bias) is Given and bias.table.dtype not in native.DTYPES:
        return f"its bias is {bias.table.dtype}"
    if any(t.device.type != "cpu" for t in (*(bias.tensors if bias else ()), *problem.normalizer.tensors)):
        return "its bias or sinks are on another device"
    if intervals(problem) is None and problem.mask is not None:
        b, h = variants(problem)
        if b * h * problem.geometry.keys * 48 > MOST_STRIP:
            return "its mask tells too many heads apart over too many keys"
    return None


def worthwhile(problem: Problem) -> bool:
    """Whether its output is worth asking for: measured, against PyTorch's fused kernel and against `blocks`.

    Packing keys pays off over many queries only, calls that are small cost more to describe than to compute, and
    without wide registers PyTorch's own matrix products win. A few queries of many heads, as a decoder asks, are read
    without packing (`few.h`), on one thread two to four times faster than PyTorch's kernel reads them. On several
    threads small calls are left to PyTorch, whose threads are awake already; ours would have to be started.
    """
    g = problem.geometry
    rows = g.batch * g.heads * g.queries
    if g.queries <= FEW:
        if is_traced():  # asking for the number of threads would break a graph
            return False
        least = FEW_WORTH if torch.get_num_threads() == 1 else FEW_SHARED
        large = rows * (g.keys * problem.q_BHQD.shape[-1] + FEW_ROW) >= least
        return large and problem.q_BHQD.dtype == torch.float32 and native.find().isa not in (None, "portable")
    large = g.queries >= FEWEST_QUERIES and rows * g.keys >= FEWEST_SCORES
    return large and native.find().isa not in (None, "portable")


def output(problem: Problem, v_BGKV: Float[Tensor, "B G K V"], dropout: float = 0.0) -> Float[Tensor, "B H Q V"]:
    """(B, H, Q, V) in the value's dtype. Values that are NaN or Inf are left to `blocks`, which reads them by rule."""
    if dropout:
        raise ValueError("backend 'native' cannot compute this attention: it has no dropout; use 'auto' or 'blocks'")
    g = problem.geometry
    pieces = []
    for _, found in passes(problem, v_BGKV, Wanted(), slice(0, g.queries)):
        if found.status & native.ODD_VALUES:
            return blocks.output(problem, v_BGKV)
        assert found.output is not None
        pieces.append(found.output)
    return torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0]


def passes(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted, rows: slice) -> Iterator[tuple[slice, Found]]:
    """What the core finds over some rows, in as few pieces as their mask allows."""
    g = problem.geometry
    score, sinks = problem.score, problem.normalizer.sinks  # type: ignore[attr-defined]
    assert isinstance(score, Dot) and score.scale is not None
    seen, step = intervals(problem), rows.stop - rows.start
    if seen is None and problem.mask is not None:
        b, h = variants(problem)
        step = max(48, LIST_BYTES * 8 // (b * h * g.keys) // 48 * 48)
    for start in range(rows.start, rows.stop, max(1, step)):
        part = slice(start, min(start + step, rows.stop))
        mask: dict[str, Any] = {}
        if seen is not None:
            mask["spans"] = tuple(t if t.shape[2] == 1 else t[:, :, part] for t in seen)
        elif problem.mask is not None:
            mask["lists"] = lists(problem, part)
        yield (
            part,
            native.run(
                problem.q_BHQD[:, :, part],
                problem.k_BGKD,
                v_BGKV,
                wanted,
                scale=score.scale,
                softcap=score.softcap,
                sinks=sinks,
                first_row=start,
                all_rows=g.queries,
                **mask,
                **_bias(problem.bias, part),
            ),
        )


def _bias(bias: Bias | None, rows: slice) -> dict[str, Any]:
    if bias is None:
        return {}
    table = bias.by_distance()
    if table is not None:
        return {"table": table[None]}
    assert isinstance(bias, Given)
    return {"bias": bias.table if bias.table.shape[2] == 1 else bias.table[:, :, rows]}


def intervals(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """The mask as intervals, int32, if it is one of those."""
    found = None if problem.mask is None else spans(problem.mask, problem.geometry)
    return None if found is None else (found[0].to(torch.int32), found[1].to(torch.int32))
