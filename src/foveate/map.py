"""`AttentionMap`: attention weights as a view. It holds queries, keys and a description, O(n d), and computes what is
looked at, exactly, when it is looked at.

Axes: B batch, H heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import biases, masks, normalizers, scores
from .biases import Bias, Given
from .explain import explain
from .indexing import Pick, cover, is_pointwise, picks, spread
from .masks import Mask
from .normalizers import Normalizer, lead
from .operator import BACKENDS, Problem, choose, statistics
from .scores import Function, Placed, Score
from .shapes import Geometry, Layout, Picked, canonical, full_precision, is_tracked, sum_dtype, to_numpy, to_tensors
from .stats import LogSumExp, Partial, Reducer, in_one_pass, run

__all__ = ["AttentionMap", "pose"]

DENSE_LIMIT = 1 << 30  # bytes that indexing or dense() may give out at once
TILE_NUMBERS = 1 << 21  # scores computed at a time while filling a tile


class AttentionMap:
    """A lazy, exact matrix of attention weights, (..., H, Q, K).

    Index it with ints, slices, an ellipsis and index arrays; the result is a tensor (an array, if arrays came in)
    of just that part. Index arrays follow the rules of `torch` (of NumPy for arrays; but an ellipsis that stands for
    no axis changes nothing).

    Args:
        query: (..., H, Q, D), (Q, D) or (D,).
        key: (..., G, K, D) or (K, D), G divides H; of another width only if the score takes it.
        value: (..., G, K, V) or None; kept for `explain`, never needed for the weights.
        score, scale, mask, bias, normalizer: as in `fv.attention`.
        dtype: of the numbers given out; default the query's. Statistics are float32 or wider.
    """

    problem: Problem
    layout: Layout
    dtype: torch.dtype

    def __init__(
        self,
        query: Any,
        key: Any,
        *,
        value: Any | None = None,
        score: str | Score | Callable[[Tensor, Tensor], Tensor] = "scaled_dot",
        scale: float | None = None,
        mask: Mask | Any | None = None,
        bias: Any | None = None,
        normalizer: str | Normalizer = "softmax",
        dtype: torch.dtype | None = None,
    ) -> None:
        made, v_BGKV = pose(query, key, value, score=score, scale=scale, mask=mask, bias=bias, normalizer=normalizer)
        self._set(made.problem, made.layout, dtype or made.dtype, v_BGKV)

    def _set(self, problem: Problem, layout: Layout, dtype: torch.dtype, v_BGKV: Tensor | None) -> None:
        self.problem, self.layout, self.dtype, self._v_BGKV = problem, layout, dtype, v_BGKV
        self._kept: tuple[Any, Tensor] | None = None  # what the tensors were, and their rows' statistic

    @classmethod
    def _of(cls, problem: Problem, layout: Layout, dtype: torch.dtype, v_BGKV: Tensor | None) -> AttentionMap:
        made = cls.__new__(cls)
        made._set(problem, layout, dtype, v_BGKV)
        return made

    # what it is

    @property
    def shape(self) -> torch.Size:
        g = self.problem.geometry
        full = (*self.layout.lead, g.heads, g.queries, g.keys)
        return torch.Size(full if self.layout.axes == 2 else full[len(full) - 1 - self.layout.axes :])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def device(self) -> torch.device:
        return self.problem.q_BHQD.device

    @property
    def query(self) -> Tensor:
        return self._shown(self.problem.q_BHQD)

    @property
    def key(self) -> Tensor:
        return self._shown(self.problem.k_BGKD, query=False)

    @property
    def value(self) -> Tensor | None:
        return None if self._v_BGKV is None else self._shown(self._v_BGKV, query=False)

    @property
    def mask(self) -> Mask | None:
        return self.problem.mask

    @property
    def bias(self) -> Tensor | Bias | None:
        """The bias: a tensor in canonical shape (B|1, H|1, Q|1, K|1), or one that follows from a rule, or None."""
        bias = self.problem.bias
        return bias.table if isinstance(bias, Given) else bias

    @property
    def score(self) -> Score | Callable[[Tensor, Tensor], Tensor]:
        score = self.problem.score
        return score.call if isinstance(score, Function) else score

    @property
    def scale(self) -> float | None:
        return self.problem.score.scale

    @property
    def normalizer(self) -> Normalizer:
        return self.problem.normalizer

    def _shown(self, t: Tensor, query: bool = True) -> Tensor:
        return replace(self.layout, numpy=False).restore(t, per_query=query)

    @property
    def nbytes(self) -> int:
        """Bytes kept alive: the memory behind queries, keys, values, bias and mask. The weights are not held."""
        p = self.problem
        held = [p.q_BHQD, p.k_BGKD, self._v_BGKV, *_tensors_in(p.bias), *_tensors_in(p.mask)]
        held += [*p.score.tensors, *p.normalizer.tensors]
        if self._kept is not None:
            held.append(self._kept[1])
        return _bytes_behind([t for t in held if t is not None])

    def __repr__(self) -> str:
        parts = [f"shape={tuple(self.shape)}", str(self.dtype).removeprefix("torch.")]
        parts.append(f"score={self.problem.score.name}")
        if self.mask is not None:
            parts.append(f"mask={self.mask}")
        if self.problem.bias is not None:
            parts.append(f"bias={self.problem.bias}")
        if self.normalizer.name != "softmax":
            parts.append(f"normalizer={self.normalizer.name}")
        parts.append(f"holds {_size(self.nbytes)} (dense: {_size(self.shape.numel() * self.dtype.itemsize)})")
        return f"AttentionMap({', '.join(parts)})"

    def to(self, device: Any | None = None, dtype: torch.dtype | None = None) -> AttentionMap:
        """The same map elsewhere, or with its tensors in another dtype; `.to(torch.float64)` works too.

        Raises:
            TypeError: the dtype is not a floating one.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"weights are real numbers; got {dtype}")
        p = self.problem
        bias = None if p.bias is None else p.bias.to(device, dtype)
        q, k = p.q_BHQD.to(device=device, dtype=dtype), p.k_BGKD.to(device=device, dtype=dtype)
        v = None if self._v_BGKV is None else self._v_BGKV.to(device=device, dtype=dtype)
        score = p.score.to(device) if isinstance(p.score, Placed) else p.score
        return self._of(replace(p, q_BHQD=q, k_BGKD=k, score=score, bias=bias), self.layout, dtype or self.dtype, v)

    # looking

    def __getitem__(self, index: Any) -> Any:
        chosen = picks(index, tuple(self.shape))
        if is_pointwise(chosen):
            return self._give(self._points(chosen))
        spread_out = spread(chosen, numpy=self.layout.numpy)
        if spread_out is not None:
            return self._give(self._points(spread_out))
        spans, local = cover(chosen)
        part = self._give(self._part(spans))
        if self.layout.numpy:
            local = tuple(i.numpy() if isinstance(i, Tensor) else i for i in local)
        return part[local]

    def dense(self, limit: int = DENSE_LIMIT) -> Any:
        """All weights at once.

        Raises:
            MemoryError: they would take more than `limit` bytes.
        """
        return self._give(self._part([range(n) for n in self.shape], limit))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("weights are computed when asked for, so an array of them is always a new one")
        a = to_numpy(torch.as_tensor(self.dense()))
        return a if dtype is None else a.astype(dtype)

    def _give(self, t: Tensor) -> Any:
        return to_numpy(t) if self.layout.numpy else t

    def _part(self, spans: list[Any], limit: int = DENSE_LIMIT) -> Tensor:
        """The weights at the outer product of some indices per axis; a tensor with one axis per entry."""
        sizes = [len(s) for s in spans]
        size = int(np.prod(sizes, dtype=np.int64)) * self.dtype.itemsize
        if size > limit:
            raise MemoryError(
                f"these weights would take {size / 1e9:.3g} GB, more than the limit of {limit / 1e9:.3g} GB; look at "
                "a part, weights[..., r0:r1, c0:c1], or at a statistic, weights.reduce(fv.stats.Pooled(64, 64)); or "
                "raise the limit, weights.dense(limit=...)"
            )
        batch, heads, rows, columns = self._canonical(spans)
        together = max(1, TILE_NUMBERS // max(1, _count(rows) * self.problem.geometry.keys))
        planes = [self._planes(b, h, rows, columns) for b in batch for h in _runs(heads, together)]
        if not planes:
            return torch.zeros(sizes, dtype=self.dtype, device=self.device)
        return (torch.cat(planes) if len(planes) > 1 else planes[0]).reshape(sizes)

    def _canonical(self, spans: list[range | Tensor]) -> tuple[list[int], list[int], Picked, Picked]:
        """Indices per shown axis -> indices per canonical axis; leading axes are raveled into the batch."""
        n = len(spans)
        rows = spans[n - 2] if n >= 2 else range(1)
        heads = [int(h) for h in spans[n - 3]] if n >= 3 else [0]
        batch = [0]
        for size, span in zip(self.layout.lead, spans[: max(0, n - 3)], strict=True):
            batch = [b * size + int(i) for b in batch for i in span]
        return batch, heads, _picked(rows), _picked(spans[n - 1])

    def _planes(self, b: int, heads: slice, rows: Picked, columns: Picked) -> Tensor:
        """Weights of some heads at rows x columns, (heads, rows, columns), computed some rows at a time."""
        p, at, lse = self.problem, (slice(b, b + 1), heads), self._known()
        keys = p.geometry.keys
        whole = columns == slice(0, keys) if isinstance(columns, slice) else False
        wide = (heads.stop - heads.start) * (keys if lse is None else _count(columns))
        pieces = []
        for r in _split(rows, max(1, TILE_NUMBERS // max(1, wide))):
            s = p.scores(*at, r, columns)
            if whole and s.numel():
                w = p.whole(*at, r, columns, s)[1]
            else:
                kept = None if lse is None or s.requires_grad else lse[b : b + 1, heads, r]
                w = p.normalizer.weights(s, p.statistic(*at, r) if kept is None else kept, columns)
            pieces.append(w[0].to(self.dtype))
        return torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]

    def _points(self, chosen: list[Pick]) -> Tensor:
        """Weights of single entries, by index arrays and ints that broadcast against each other."""
        p, g = self.problem, self.problem.geometry
        arrays = [torch.as_tensor(c, device=self.device) for c in chosen]
        try:
            arrays = list(torch.broadcast_tensors(*arrays))
        except RuntimeError:
            shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
            raise IndexError(f"index arrays must broadcast against each other; got {shapes}") from None
        shape = arrays[0].shape
        flat = [a.reshape(-1) for a in arrays]
        n = len(flat)
        zero = torch.zeros_like(flat[-1])
        k, q, h = flat[-1], flat[-2] if n >= 2 else zero, flat[-3] if n >= 3 else zero
        b = zero
        for size, a in zip(self.layout.lead, flat[: max(0, n - 3)], strict=True):
            b = b * size + a
        places, inverse = torch.unique((b * g.heads + h) * max(1, g.queries) + q, return_inverse=True)
        known = self._statistics_at(places)[inverse]
        step = max(1, TILE_NUMBERS // p.q_BHQD.shape[-1])
        points = zip(*(t.split(step) for t in (b, h, q, k, known)), strict=True)
        found = []
        for *at, x in points:
            w = p.normalizer.weights(p.at(*at)[None, None, :, None], x[None, None], at[3][:, None])
            found.append(w.reshape(-1))
        return torch.cat(found).reshape(shape).to(self.dtype)

    def _statistics_at(self, places: Tensor) -> Tensor:
        """Row statistics at sorted, distinct places in the raveled (B, H, Q)."""
        p, g, lse = self.problem, self.problem.geometry, self._known()
        if lse is not None and not p.tracked:
            return lse.flatten(0, 2)[places]
        head_of, pieces = places // max(1, g.queries), []
        for head in torch.unique(head_of).tolist():
            at = slice(head // g.heads, head // g.heads + 1), slice(head % g.heads, head % g.heads + 1)
            for rows in (places[head_of == head] % g.queries).split(1024):
                pieces.append(p.statistic(*at, rows)[0, 0])
        if pieces:
            return torch.cat(pieces)
        numbers = () if p.normalizer.numbers is None else (p.normalizer.numbers,)
        return torch.zeros((0, *numbers), dtype=sum_dtype(self.device), device=self.device)

    def _stamp(self) -> tuple[Any, ...]:
        """Changes when somebody writes into the tensors this map looks at."""
        p = self.problem
        held = (p.q_BHQD, p.k_BGKD, *p.score.tensors, *p.normalizer.tensors)
        held += (*_tensors_in(p.bias), *_tensors_in(p.mask))
        return tuple(None if t.is_inference() else t._version for t in held)

    def _known(self) -> Tensor | None:
        """The kept row statistic, if it is still that of the tensors and nothing must be differentiated."""
        kept = self._kept
        return None if kept is None or self.problem.tracked or kept[0] != self._stamp() else kept[1]

    def _settled(self) -> Tensor:
        """The rows' statistic (B, H, Q), or (B, H, Q, S). Kept, so that later tiles need no pass over their rows."""
        stamp, found = self._stamp(), self._known()
        if found is None:
            plain = self.normalizer.means == LogSumExp.means
            found = self.partial(LogSumExp()).states[0] if plain else statistics(self.problem)
            self._kept = (stamp, found)
        return found

    def statistic(self) -> Any:
        """What the normaliser knows of each row, (..., H, Q), or (..., H, Q, S) where that is several numbers.

        `weights.normalizer.means` says in words what it is: softmax's log-sum-exp, sparsemax's threshold, ... It is
        -inf where a row sees no key, and NaN where the row is NaN. Kept, so that later tiles need no pass over their
        rows.
        """
        return self.layout.restore(self._settled().clone())

    def logsumexp(self) -> Any:
        """The rows' log-sum-exp, natural log, (..., H, Q): `statistic`, in the compute dtype, where that is what it is.

        Raises:
            ValueError: the normaliser is not a softmax.
        """
        LogSumExp.check(self.normalizer)
        return self.layout.restore(self._settled().to(self.problem.compute_dtype, copy=True))

    def nan_rows(self) -> Any:
        """Which rows are NaN (a NaN in their query or keys, or scores beyond the float range): bool (..., H, Q)."""
        return self.layout.restore(torch.isnan(lead(self._settled())))

    def explain(self, *index: int) -> dict[str, Any]:
        """How one weight comes about: `explain(b, h, q, k)`, one int per axis of the map.

        Returns a dict of `query`, `key`, `products` (lists of D numbers), `score` (their sum), `scale`, `softcap`,
        `scaled`, `bias`, `allowed`, `sink`, `logsumexp`, `weight`; and, where values are kept, `value`, `contribution`
        (weight x value) and `output` (the whole row's weighted sum), lists of V numbers, else None. For a score that is
        no product of query and key, `products` and `scale` are None and `score` is the number it gives. For one that is
        normalised by no plain softmax, `logsumexp` is None; `normalizer`, `statistic_name` and `statistic` say by what.
        """
        if len(index) != self.ndim:
            raise IndexError(f"explain takes one int for each of the {self.ndim} axes; got {len(index)}")
        chosen = picks(tuple(index), tuple(self.shape))
        batch, heads, rows, columns = self._canonical(cover(chosen)[0])
        assert isinstance(rows, slice) and isinstance(columns, slice)
        return explain(self, batch[0], heads[0], rows.start, columns.start)

    # statistics

    def partial(
        self,
        *reducers: Reducer,
        rows: slice | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Partial:
        """One pass over some rows (default: all), as states that merge with those of other rows.

        `progress`, if given, is called with the share done, 0 to 1. Merge parts that share no row.
        """
        span = None
        if rows is not None:
            start, stop, step = rows.indices(self.problem.geometry.queries)
            if step != 1:
                raise ValueError(f"rows must be a slice without a step; got {rows}")
            span = slice(start, max(start, stop))
        return run(self.problem, self.layout, reducers, span, progress)

    def reduce(self, *reducers: Reducer, progress: Callable[[float], None] | None = None) -> Any:
        """Statistics of all weights in one pass, block by block, in memory that does not grow with Q x K.

        Returns one result for one reducer, a tuple of results in the same order for several.

        Raises:
            ValueError: no reducer, or one whose parameters do not fit this map.
        """
        return self.partial(*reducers, progress=progress).result()

    def read(self, value: Any, *reducers: Reducer) -> tuple[Any, Any]:
        """The output, weights x values (..., G, K, V), and statistics of the weights, all in one pass where it can be.

        Returns the output (..., H, Q, V) as `fv.attention` gives it, and what `reduce` returns (None for no reducer).
        """
        q, k, v = to_tensors(query=self.query, key=self.key, value=value)[0]
        v_BGKV = canonical(q, k, v, any_widths=self.problem.score.mixes_widths)[2]
        tracked = self.problem.tracked or is_tracked(v_BGKV)  # the pass has no gradients, and the output may need them
        both = None if tracked else in_one_pass(self.problem, v_BGKV, reducers)
        if both is None or both[0] is None:
            with full_precision(self.device):
                out_BHQV = BACKENDS[choose(self.problem, v_BGKV).backend](self.problem, v_BGKV, 0.0)
            return self.layout.restore(out_BHQV), self.reduce(*reducers) if reducers else None
        states = both[1]
        found = Partial(reducers, states, self.layout, self.problem.compute_dtype, self.problem.geometry)
        return self.layout.restore(both[0]), found.result() if reducers else None


def pose(query: Any, key: Any, value: Any | None, **parts: Any) -> tuple[AttentionMap, Tensor | None]:
    """Validate what a caller gives and bring it to canonical form: the map, and the values (B, G, K, V)."""
    named = {"query": query, "key": key} | ({} if value is None else {"value": value})
    tensors, numpy = to_tensors(**named)
    score = scores.named(parts["score"])
    q, k, v, layout = canonical(
        tensors[0], tensors[1], None if value is None else tensors[2], numpy, any_widths=score.mixes_widths
    )
    g = Geometry(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    problem = Problem(
        q,
        k,
        score.settle(parts["scale"], g.heads, q.shape[-1], k.shape[-1]),
        normalizers.resolve(parts["normalizer"], g),
        _settle_mask(parts["mask"], layout, g),
        biases.resolve(parts["bias"], layout, g, q),
    )
    return AttentionMap._of(problem, layout, q.dtype, None), v


def _settle_mask(mask: Any, layout: Layout, g: Geometry) -> Mask | None:
    if mask is None:
        return None
    return (mask if isinstance(mask, Mask) else masks.tensor(mask)).settle(layout, g)


def _picked(span: range | Tensor) -> Picked:
    if isinstance(span, range):
        if span.step == 1:
            return slice(span.start, max(span.start, span.stop))
        return torch.tensor(list(span), dtype=torch.int64)
    return span


def _count(picked: Picked) -> int:
    return picked.numel() if isinstance(picked, Tensor) else picked.stop - picked.start


def _runs(places: list[int], most: int) -> list[slice]:
    """Ints as slices of neighbours, each of at most `most`."""
    found: list[slice] = []
    for i in places:
        if found and found[-1].stop == i and i - found[-1].start < most:
            found[-1] = slice(found[-1].start, i + 1)
        else:
            found.append(slice(i, i + 1))
    return found


def _split(rows: Picked, step: int) -> list[Picked]:
    if isinstance(rows, slice):
        cuts = range(rows.start, rows.stop, step)
        return [slice(r, min(r + step, rows.stop)) for r in cuts] or [slice(0, 0)]
    return list(rows.split(step)) if rows.numel() else [slice(0, 0)]


def _size(n: int) -> str:
    """A number of bytes, readable: `64 B`, `6.29 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= factor:
            return f"{n / factor:.3g} {unit}"
    return f"{n} B"


def _tensors_in(thing: Any) -> Iterator[Tensor]:
    """The tensors in the fields of a mask or normaliser."""
    if isinstance(thing, Tensor):
        yield thing
    elif is_dataclass(thing) and not isinstance(thing, type):
        for field in fields(thing):
            yield from _tensors_in(getattr(thing, field.name))


def _bytes_behind(tensors: list[Tensor]) -> int:
    """Size of the distinct storages behind some tensors."""
    if torch._C._functorch.maybe_current_level() is not None:
        return sum(t.nbytes for t in tensors)
    storages = (t.untyped_storage() for t in tensors)
    return sum({(s.device, s.data_ptr()): s.nbytes() for s in storages}.values())
