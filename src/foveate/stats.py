"""Statistics of attention weights as reducers, run over blocks in one pass, never over the whole matrix.

A reducer has four verbs:

    start(geometry, dtype, device) -> state      nothing seen yet; tensors that lead with (batch, heads)
    update(state, block) -> state                a `Block` of weights and log-weights has been seen
    merge(a, b) -> state                         two states of the same map, over different blocks
    result(state) -> anything                    tensors that lead with (batch, heads) get the map's own leading axes

Entries in no block have weight 0. Write your own by these four; `per_query = True` says that axis 2 of the result is
the query's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .native import NAN_ROWS, ODD_VALUES, Found, Wanted
from .normalizers import Normalizer
from .operator import ENGINES, Block, Problem, engine, strips
from .shapes import Geometry, Layout, full_precision, sum_dtype, whole

__all__ = ["Entropy", "LogSumExp", "Partial", "Pooled", "Received", "Reducer", "TopK", "TopKResult", "run"]


@runtime_checkable
class Reducer(Protocol):
    """What `AttentionMap.reduce` takes."""

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> Any: ...
    def update(self, state: Any, block: Block) -> Any: ...
    def merge(self, a: Any, b: Any) -> Any: ...
    def result(self, state: Any) -> Any: ...


@dataclass(frozen=True)
class LogSumExp:
    """Log-sum-exp of each row's scores, natural log: (..., H, Q). -inf where a row sees no key.

    It is softmax's row statistic, sinks included; of a map with another normaliser it is a ValueError.
    """

    per_query: ClassVar[bool] = True
    means: ClassVar[str] = "log-sum-exp"

    @classmethod
    def check(cls, normalizer: Normalizer) -> None:
        if normalizer.means != cls.means:
            raise ValueError(
                f"only a plain softmax has a log-sum-exp; this map's normalizer is {normalizer.name}, whose row "
                f"statistic is the {normalizer.means}: weights.statistic()"
            )

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full((g.batch, g.heads, g.queries), -torch.inf, dtype=sum_dtype(device), device=device)

    def update(self, state: Tensor, block: Block) -> Tensor:
        self.check(block.problem.normalizer)
        state[block.batch, block.heads, block.rows] = block.statistic
        return state

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    def result(self, state: Tensor) -> Tensor:
        return state

    def wanted(self, g: Geometry) -> Wanted:
        return Wanted(lse=True)

    def take(self, state: Tensor | None, found: Found, rows: slice, g: Geometry) -> Tensor:
        return _placed(state, found.lse, rows)


@dataclass(frozen=True)
class Entropy:
    """Entropy of each row's weights in nats, -sum w log w: (..., H, Q). 0 where a row sees no key or only one."""

    per_query: ClassVar[bool] = True

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros((g.batch, g.heads, g.queries), dtype=dtype, device=device)

    def update(self, state: Tensor, block: Block) -> Tensor:
        finite = block.log_weights.clamp_(min=torch.finfo(state.dtype).min)
        state[block.batch, block.heads, block.rows] -= finite.mul_(block.weights).sum(-1)
        return state

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def result(self, state: Tensor) -> Tensor:
        return state.clamp(min=0)

    def wanted(self, g: Geometry) -> Wanted:
        return Wanted(entropy=True)

    def take(self, state: Tensor | None, found: Found, rows: slice, g: Geometry) -> Tensor:
        return _placed(state, found.entropy, rows)


class TopKResult(NamedTuple):
    """`values` and `indices`, (..., H, Q, k), best first. The index is -1 where the weight is 0: no key was seen."""

    values: Tensor
    indices: Tensor


@dataclass(frozen=True)
class TopK:
    """The k largest weights of each row, with their keys."""

    k: int
    per_query: ClassVar[bool] = True

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        if not 1 <= whole(self.k, "the k of TopK") <= max(1, g.keys):
            raise ValueError(f"TopK takes k from 1 to the number of keys, {g.keys}; got {self.k}")
        shape = (g.batch, g.heads, g.queries, self.k)
        values = torch.zeros(shape, dtype=dtype, device=device)
        return values, torch.full(shape, -1, dtype=torch.int64, device=device)

    def update(self, state: tuple[Tensor, Tensor], block: Block) -> tuple[Tensor, Tensor]:
        values, indices = _largest(block.weights, self.k)
        at = (block.batch, block.heads, block.rows)
        best = self.merge((state[0][at], state[1][at]), (values, indices + block.columns.start))
        state[0][at], state[1][at] = best
        return state

    def merge(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        values, indices = torch.cat([a[0], b[0]], -1), torch.cat([a[1], b[1]], -1)
        values, place = values.topk(self.k, dim=-1)
        return values, torch.where(values == 0, -1, indices.gather(-1, place))

    def result(self, state: tuple[Tensor, Tensor]) -> TopKResult:
        return TopKResult(*state)

    def wanted(self, g: Geometry) -> Wanted:
        return Wanted(top=min(self.k, g.keys))

    def take(
        self, state: tuple[Tensor, Tensor] | None, found: Found, rows: slice, g: Geometry
    ) -> tuple[Tensor, Tensor]:
        values, indices = (t[..., : self.k].contiguous() for t in found.top)  # itself, where it is as many
        kept = (None, None) if state is None else state
        return _placed(kept[0], values, rows), _placed(kept[1], indices, rows)


@dataclass(frozen=True)
class Received:
    """How much attention each key receives, summed over the queries: (..., H, K)."""

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros((g.batch, g.heads, g.keys), dtype=sum_dtype(device), device=device)

    def update(self, state: Tensor, block: Block) -> Tensor:
        state[block.batch, block.heads, block.columns] += block.weights.sum(-2)
        return state

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def result(self, state: Tensor) -> Tensor:
        return state

    def wanted(self, g: Geometry) -> Wanted:
        return Wanted(received=True)

    def take(self, state: Tensor | None, found: Found, rows: slice, g: Geometry) -> Tensor:
        return found.received if state is None else state + found.received


@dataclass(frozen=True)
class Pooled:
    """A thumbnail, (..., H, rows, columns): the maximum or the mean of the weights in each cell of a grid.

    Query i falls into row `i * rows // Q`. A grid finer than the map is cut to the map's own size.
    """

    rows: int
    columns: int
    how: Literal["max", "mean"] = "max"

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Geometry]:
        if min(whole(n, "a side of Pooled's grid") for n in (self.rows, self.columns)) < 1:
            raise ValueError(f"Pooled takes a grid of at least 1 x 1; got {self.rows} x {self.columns}")
        if self.how not in ("max", "mean"):
            raise ValueError(f"Pooled takes how='max' or 'mean'; got {self.how!r}")
        shape = (g.batch, g.heads, min(self.rows, g.queries), min(self.columns, g.keys))
        sums = dtype if self.how == "max" else sum_dtype(device)
        return torch.zeros(shape, dtype=sums, device=device), g

    def update(self, state: tuple[Tensor, Geometry], block: Block) -> tuple[Tensor, Geometry]:
        grid, g = state
        part = grid[block.batch, block.heads]
        n_rows, n_columns = part.shape[-2:]
        columns = torch.arange(block.columns.start, block.columns.stop, device=grid.device) * n_columns // g.keys
        for row, cut in _row_bins(block.rows, n_rows, g.queries):
            w = block.weights[:, :, cut]
            if self.how == "max":
                line = w.amax(-2)
                part[:, :, row].scatter_reduce_(-1, columns.expand_as(line), line, "amax")
            else:
                part[:, :, row].index_add_(-1, columns, w.sum(-2).to(grid.dtype))
        return state

    def merge(self, a: tuple[Tensor, Geometry], b: tuple[Tensor, Geometry]) -> tuple[Tensor, Geometry]:
        return (torch.maximum(a[0], b[0]) if self.how == "max" else a[0] + b[0]), a[1]

    def result(self, state: tuple[Tensor, Geometry]) -> Tensor:
        grid, g = state
        if self.how == "max":
            return grid
        rows = _counts(grid.shape[-2], g.queries, grid)
        return grid / (rows[:, None] * _counts(grid.shape[-1], g.keys, grid))

    def wanted(self, g: Geometry) -> Wanted:
        return Wanted(pooled=((min(self.rows, g.queries), min(self.columns, g.keys), self.how),))

    def take(
        self, state: tuple[Tensor, Geometry] | None, found: Found, rows: slice, g: Geometry
    ) -> tuple[Tensor, Geometry]:
        part = found.pooled[self.wanted(g).pooled[0]], g
        return part if state is None else self.merge(state, part)


@dataclass(frozen=True, eq=False)
class Partial:
    """The states of some reducers over some rows of a map. Merge the parts, then ask for the result."""

    reducers: tuple[Reducer, ...]
    states: tuple[Any, ...]
    layout: Layout
    dtype: torch.dtype
    geometry: Geometry

    def merge(self, other: Partial) -> Partial:
        """The states over both parts' rows.

        Raises:
            ValueError: the parts come from maps of other sizes or from other reducers.
        """
        if self.geometry != other.geometry or self.reducers != other.reducers:
            raise ValueError("only parts of one map with the same reducers can be merged")
        trios = zip(self.reducers, self.states, other.states, strict=True)
        merged = tuple(reducer.merge(a, b) for reducer, a, b in trios)
        return Partial(self.reducers, merged, self.layout, self.dtype, self.geometry)

    def result(self) -> Any:
        """One result for one reducer, a tuple of results for several."""
        pairs = zip(self.reducers, self.states, strict=True)
        found = tuple(self._shown(reducer.result(state), reducer) for reducer, state in pairs)
        return found[0] if len(found) == 1 else found

    def _shown(self, result: Any, reducer: Reducer) -> Any:
        if isinstance(result, TopKResult):
            return TopKResult(*(self._shown(t, reducer) for t in result))
        lead = (self.geometry.batch, self.geometry.heads)
        if not isinstance(result, Tensor) or tuple(result.shape[:2]) != lead:
            return result
        if result.dtype == torch.float64:
            result = result.to(self.dtype)
        return self.layout.restore(result, per_query=getattr(reducer, "per_query", False))


@torch.no_grad()
def run(
    problem: Problem,
    layout: Layout,
    reducers: Sequence[Reducer],
    rows: slice | None = None,
    progress: Callable[[float], None] | None = None,
) -> Partial:
    """Run reducers over the blocks of a problem, or of some of its rows."""
    if not reducers:
        raise ValueError("give at least one reducer, such as fv.stats.Entropy()")
    for reducer in reducers:
        if isinstance(reducer, type):
            raise TypeError(f"reduce takes reducers, not their classes; write {reducer.__name__}(...)")
        if not isinstance(reducer, Reducer):
            raise TypeError(f"a reducer has start, update, merge and result; {type(reducer).__name__} does not")
    found = in_one_pass(problem, None, reducers, rows, progress)
    if found is not None:
        return Partial(tuple(reducers), found[1], layout, problem.compute_dtype, problem.geometry)
    g, dtype, device = problem.geometry, problem.compute_dtype, problem.q_BHQD.device
    states = [reducer.start(g, dtype, device) for reducer in reducers]
    total = g.batch * g.heads * (g.queries if rows is None else rows.stop - rows.start)
    done = 0
    with full_precision(device):
        for strip in strips(problem, rows):
            for block in strip.blocks():
                states = [reducer.update(state, block) for reducer, state in zip(reducers, states, strict=True)]
            done += math.prod(part.stop - part.start for part in (strip.batch, strip.heads, strip.rows))
            if progress is not None:
                progress(done / total)
    return Partial(tuple(reducers), tuple(states), layout, dtype, g)


BUILT_IN = (LogSumExp, Entropy, TopK, Received, Pooled)
MOST_BEST = 64  # more than these of a row are found faster block by block
STEPS = 8  # in which a pass that must report its progress is made


@torch.no_grad()
def in_one_pass(
    problem: Problem,
    v_BGKV: Tensor | None,
    reducers: Sequence[Reducer],
    rows: slice | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor | None, tuple[Any, ...]] | None:
    """Output (where there are values) and the reducers' states, both at once, by a compiled kernel.

    None: it cannot, or it met NaN, which makes rows NaN, and which blocks then treat by rule.
    """
    g = problem.geometry
    if not all(type(r) in BUILT_IN and getattr(r, "k", 1) <= MOST_BEST for r in reducers):
        return None
    for reducer in reducers:
        reducer.start(g, problem.compute_dtype, torch.device("meta"))  # says what is wrong with it
    states: list[Any] = [None] * len(reducers)
    wanted = Wanted.union([reducer.wanted(g) for reducer in reducers])  # type: ignore[attr-defined]
    span = slice(0, g.queries) if rows is None else rows
    if span.stop <= span.start:
        return None
    name = engine(problem, v_BGKV, wanted, span).backend
    if name not in ENGINES:
        return None
    step = span.stop - span.start
    step = step if progress is None or name != "native" else max(512, -(-step // STEPS))
    outputs: list[Tensor] = []
    for start in range(span.start, span.stop, step):
        stop = min(start + step, span.stop)
        for part, found in ENGINES[name].passes(problem, v_BGKV, wanted, slice(start, stop)):
            if found.status & (NAN_ROWS | ODD_VALUES):
                return None
            if part.start == span.start and part != slice(0, g.queries):
                states = [reducer.start(g, problem.compute_dtype, problem.q_BHQD.device) for reducer in reducers]
            pairs = zip(reducers, states, strict=True)
            states = [reducer.take(state, found, part, g) for reducer, state in pairs]  # type: ignore[attr-defined]
            if found.output is not None:
                outputs.append(found.output)
        if progress is not None:
            progress((stop - span.start) / (span.stop - span.start))
    return (torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0] if outputs else None), tuple(states)


def _placed(state: Tensor | None, part: Tensor, rows: slice) -> Tensor:
    """The part in its rows of a state; itself, where it is the whole."""
    if state is None:
        return part
    state[:, :, rows] = part
    return state


def _largest(w: Tensor, k: int, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """`w.topk(k)`, or fewer where w is narrower; by chunk maxima: the k best lie in the k chunks of largest maximum."""
    n = w.shape[-1]
    if n < 2 * chunk * k or bool(torch.isnan(w[..., 0]).any()):
        values, indices = w.topk(min(k, n), dim=-1)
        return values, indices
    whole = n // chunk * chunk
    chunks = w[..., :whole].unflatten(-1, (-1, chunk))
    best = chunks.amax(-1).topk(k, dim=-1).indices
    near = chunks.gather(-2, best[..., None].expand(*best.shape, chunk)).flatten(-2)
    where = (best[..., None] * chunk + torch.arange(chunk, device=w.device)).flatten(-2)
    near = torch.cat([near, w[..., whole:]], -1)
    tail = torch.arange(whole, n, device=w.device).expand(*w.shape[:-1], n - whole)
    values, place = near.topk(k, dim=-1)
    return values, torch.cat([where, tail], -1).gather(-1, place)


def _row_bins(rows: slice, bins: int, size: int) -> list[tuple[int, slice]]:
    """(bin, its part of a block's rows) for row i in bin i * bins // size."""
    found = []
    start = rows.start
    while start < rows.stop:
        row = start * bins // size
        stop = min(rows.stop, -(-(row + 1) * size // bins))
        found.append((row, slice(start - rows.start, stop - rows.start)))
        start = stop
    return found


def _counts(bins: int, size: int, like: Tensor) -> Tensor:
    place = torch.arange(size, device=like.device) * bins // max(1, size)
    return torch.bincount(place, minlength=bins).to(like.dtype)
