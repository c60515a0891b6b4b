"""`lookup`: attention over a memory that attention could not hold: the best k of millions of keys, or all of them.

Axes: Q queries, N rows of the memory, D width, V value width, k keys that are read; R some queries, C some rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .. import scores
from ..scores import Score
from ..shapes import as_tensor, full_precision, sum_dtype, to_numpy
from .memory import Memory, paired
from .ranking import best

__all__ = ["Lookup", "Report", "lookup"]

NUMBERS = 1 << 22  # scores held at a time
ROWS = 1024  # queries compared at a time
PANEL = 48  # keys of which matrix products compute all columns alike: equal keys then have equal scores, to the bit


@dataclass(frozen=True)
class Report:
    """How an approximate lookup compares with the exact one, on a sample of its queries.

    `recall`: the share of the exact best keys that were found. `error` and `worst_error`: |output - exact| / |exact|,
    mean and largest. `covered`: the share of the full softmax over the memory that the found keys hold, mean.
    """

    sample: int
    recall: float
    error: float
    worst_error: float
    covered: float


@dataclass(frozen=True, eq=False)
class Lookup:
    """What was read. NumPy if no tensor came in.

    output: (..., V).
    weights: (..., k), a softmax over the keys that were found, best first; None if all keys were read.
    indices: (..., k), their rows in the memory; -1 where an index found fewer.
    scores: (..., k), how they compare with the query.
    logsumexp: (...), natural log, over the whole memory; None if an index was asked.
    covered: (...), the share that the k keys would have of the softmax over the whole memory; None if not known.
    """

    output: Any
    weights: Any
    indices: Any
    scores: Any
    logsumexp: Any
    covered: Any
    _call: _Call = field(repr=False)

    def report(self, sample: int = 256, seed: int = 0) -> Report:
        """Compare with the exact answer for some of the queries, drawn by `seed`; it reads the whole memory.

        Raises:
            ValueError: all keys were read, or the memory was an iterator and is used up.
        """
        return _report(self, sample, seed)


def lookup(
    query: Any,
    memory: Any,
    *,
    k: int | None = 32,
    values: Any | None = None,
    score: str | Score | Callable[[Tensor, Tensor], Tensor] = "scaled_dot",
    scale: float | None = None,
    block: int | None = None,
    index: Any | None = None,
    progress: Callable[[float], None] | None = None,
) -> Lookup:
    """Soft lookup: compare queries with all keys of a memory, read the values of the best k as a weighted sum.

    The memory is read once, block by block; beyond it, memory grows with the block and with Q (k + V), never with N.

    Args:
        query: (..., D) or (D,).
        memory: keys (N, D): a tensor, an array (also one mapped from a file), or an iterable of blocks (n, D).
        k: how many keys are read; None: all, the softmax over the whole memory.
        values: (N, V), as the memory; default the keys themselves.
        score, scale: as in `fv.attention`; "cosine" and "l2" among them.
        block: keys compared at a time; default so that about four million scores are held.
        index: an index of the keys that finds them approximately, instead of reading all: of FAISS (`search`), of
            hnswlib (`knn_query`), or a function `(queries, k) -> rows`. What it finds is compared again, exactly.
        progress: called with the share done, 0 to 1, where the number of keys is known.

    Returns:
        A `Lookup`. Of equal scores the lower row is better, and the same call gives the same answer. Where gradients
        are on and wanted, output and weights are part of the graph, for memories whose rows are at hand.

    Raises:
        ValueError: shapes, k, block or score break a rule, or gradients are wanted where there are none.
    """
    numpy = not any(isinstance(t, Tensor) for t in (query, memory, values))
    q = as_tensor(query if isinstance(query, Tensor | np.ndarray) else np.asarray(query))
    q = q if q.dtype.is_floating_point else q.to(torch.get_default_dtype())
    if q.ndim == 0:
        raise ValueError("query must have at least one axis, (D,); got a single number")
    for name, number in (("k", k), ("block", block)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")
    keys, others = Memory(memory, "memory"), None if values is None else Memory(values, "values")
    width = q.shape[-1]
    settled = scores.named(score).settle(scale, 1, width, width).of_heads(slice(0, 1))
    call = _Call(q.reshape(-1, width), keys, others, settled, k, block, index, tuple(q.shape[:-1]), numpy)
    with full_precision(q.device):
        return call.run(progress)


@dataclass(frozen=True, eq=False)
class _Call:
    """A lookup in canonical form."""

    q_QD: Float[Tensor, "Q D"]
    keys: Memory
    values: Memory | None
    score: Score
    k: int | None
    block: int | None
    index: Any
    lead: tuple[int, ...]
    numpy: bool

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.promote_types(self.q_QD.dtype, torch.float32)

    @property
    def tracked(self) -> bool:
        held = (self.q_QD, self.keys.rows, None if self.values is None else self.values.rows, *self.score.tensors)
        return torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in held)

    def run(self, progress: Callable[[float], None] | None) -> Lookup:
        at_hand = self.keys.at_hand and (self.values is None or self.values.at_hand)
        if self.tracked and (self.k is None or not at_hand):
            raise ValueError("gradients need a k and a memory whose rows are at hand; else use torch.no_grad()")
        if self.index is not None:
            return self._by_index()
        with torch.no_grad():
            tops, sums = self._exact(carry=not at_hand, progress=progress)
        lse = torch.cat([one.logsumexp for one in sums])
        if self.k is None:
            return self._give(torch.cat([one.mean() for one in sums]), None, None, None, lse, torch.ones_like(lse))
        places, found = torch.cat([t.places for t in tops]), torch.cat([t.scores for t in tops])
        covered = torch.exp(torch.logsumexp(found.to(lse.dtype), -1) - lse).clamp(max=1)
        covered = torch.where(lse == -torch.inf, torch.zeros_like(lse), covered)
        if not at_hand:
            weights = torch.softmax(found, -1)
            return self._give(_mix(weights, torch.cat([t.rows for t in tops])), weights, places, found, lse, covered)
        if self.tracked:
            found = self._compare(places)
        weights = torch.softmax(found, -1)
        return self._give(_mix(weights, self._values_at(places)), weights, places, found, lse, covered)

    def _exact(self, carry: bool, progress: Callable[[float], None] | None) -> tuple[list[_Top], list[_Sum]]:
        """One pass over the memory."""
        groups = self.q_QD.to(self.compute_dtype).split(ROWS)
        size = self.block or NUMBERS // max(1, min(ROWS, len(self.q_QD))) // PANEL * PANEL
        tops, sums = [_Top(q, self.k or 0) for q in groups], [_Sum(q) for q in groups]
        total = len(self.keys) if self.keys.at_hand and progress is not None else None

        def seen(rows: int) -> None:
            if progress is not None and total:
                progress(rows / total)

        start = 0
        for k_CD, v_CV in paired(self.keys, self.values, size, seen):
            if k_CD.shape[-1] != self.q_QD.shape[-1] and not self.score.mixes_widths:
                shapes = f"{tuple(self.q_QD.shape)} and {tuple(k_CD.shape)}"
                raise ValueError(f"query and memory must have the same width D; got {shapes}")
            k_CD = k_CD.to(self.q_QD.device, self.compute_dtype)
            v_CV = v_CV.to(self.q_QD.device, self.compute_dtype) if carry or self.k is None else v_CV
            n = len(k_CD)
            k_CD = torch.nn.functional.pad(k_CD, (0, 0, 0, -n % PANEL)) if n % PANEL else k_CD
            for q, top, total_of in zip(groups, tops, sums, strict=True):
                s_RC = self.score(q[None], k_CD[None])[0, :, :n]
                s_RC = s_RC if self.score.fresh else s_RC.clone()
                if self.k is None:
                    total_of.add(s_RC, s_RC.amax(-1), v_CV)
                else:
                    total_of.add(s_RC, top.add(s_RC, start, v_CV if carry else None), None)
            start += n
        return tops, sums

    def _by_index(self) -> Lookup:
        if self.k is None or not self.keys.at_hand or (self.values is not None and not self.values.at_hand):
            raise ValueError("an index goes with a k, and with a memory and values whose rows are at hand")
        places = _ask(self.index, self.q_QD, self.k, len(self.keys)).sort(-1).values
        again = torch.zeros_like(places, dtype=torch.bool)
        again[:, 1:] = places[:, 1:] == places[:, :-1]
        places = places.masked_fill(again, -1)  # a key counts once, however often it was found
        none = places < 0
        found = self._compare(places.clamp(min=0)).masked_fill(none, -torch.inf)
        found, order = found.sort(dim=-1, descending=True, stable=True)
        places = places.gather(-1, order)
        empty = none.all(-1, keepdim=True)
        weights = torch.softmax(found.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
        return self._give(_mix(weights, self._values_at(places.clamp(min=0))), weights, places, found, None, None)

    def _compare(self, places: Tensor) -> Float[Tensor, "Q k"]:
        """Scores of each query with its own keys."""
        k_QkD = self.keys.at(places).to(self.q_QD.device, self.compute_dtype)
        if k_QkD.shape[-1] != self.q_QD.shape[-1] and not self.score.mixes_widths:
            shapes = f"{tuple(self.q_QD.shape)} and {tuple(k_QkD.shape)}"
            raise ValueError(f"query and memory must have the same width D; got {shapes}")
        return self.score(self.q_QD.to(self.compute_dtype)[:, None, None], k_QkD[:, None])[:, 0, 0]

    def _values_at(self, places: Tensor) -> Float[Tensor, "Q k V"]:
        return (self.values or self.keys).at(places).to(self.q_QD.device, self.compute_dtype)

    def _give(self, output: Tensor, *parts: Tensor | None) -> Lookup:
        dtype = self.q_QD.dtype
        weights, indices, found, lse, covered = parts
        wanted = [output.to(dtype), weights, indices, found, lse, covered]
        for i in (1, 3, 4, 5):  # row statistics were summed wide
            wanted[i] = None if (t := wanted[i]) is None else t.to(dtype if i == 1 else self.compute_dtype)
        shown = [None if t is None else t.reshape((*self.lead, *t.shape[1:])) for t in wanted]
        given: list[Any] = [None if t is None else to_numpy(t) if self.numpy else t for t in shown]
        return Lookup(*given, self)  # type: ignore[call-arg]


class _Top:
    """The best k scores so far, and the rows of values if they cannot be read again."""

    def __init__(self, q_RD: Tensor, k: int) -> None:
        self.k = k
        self.scores = q_RD.new_zeros(len(q_RD), 0)
        self.places = torch.zeros(len(q_RD), 0, dtype=torch.int64, device=q_RD.device)
        self.rows = q_RD.new_zeros(len(q_RD), 0, 0)

    def add(self, s_RC: Tensor, start: int, v_CV: Tensor | None) -> Tensor:
        """A block, whose first row is `start`; gives its largest scores (R,).

        What came before stands first, and so stays first where scores tie.
        """
        found, places = best(s_RC, self.k)
        self.scores, order = torch.cat([self.scores, found], -1).sort(dim=-1, descending=True, stable=True)
        self.scores, order = self.scores[:, : self.k].clone(), order[:, : self.k]
        self.places = torch.cat([self.places, places + start], -1).gather(-1, order)
        if v_CV is not None:
            rows = torch.cat([self.rows.reshape(len(found), -1, v_CV.shape[-1]), v_CV[places]], 1)
            self.rows = rows.gather(1, order[..., None].expand(*order.shape, rows.shape[-1]))
        return found[:, 0]


class _Sum:
    """The sum of exp(score) over all keys so far, and of the values times it, against the largest score."""

    def __init__(self, q_RD: Tensor) -> None:
        self.d = sum_dtype(q_RD.device)
        self.peak = torch.full((len(q_RD),), -torch.inf, dtype=self.d, device=q_RD.device)
        self.total = torch.zeros_like(self.peak)
        self.read = torch.zeros(len(q_RD), 1, dtype=self.d, device=q_RD.device)

    def add(self, s_RC: Tensor, top_R: Tensor, v_CV: Tensor | None) -> None:
        """A block and its rows' largest scores. The scores are used up."""
        new = torch.maximum(self.peak, top_R.to(self.d))
        safe = torch.where(new == -torch.inf, torch.zeros_like(new), new)
        e_RC = s_RC.sub_(safe.to(s_RC.dtype)[:, None]).exp_()
        fade = torch.exp(self.peak - safe)
        self.total = self.total * fade + e_RC.sum(-1).to(self.d)
        self.peak = new
        if v_CV is not None:
            self.read = self.read * fade[:, None] + (e_RC @ v_CV).to(self.d)

    @property
    def logsumexp(self) -> Tensor:
        return torch.where(self.total == 0, torch.full_like(self.peak, -torch.inf), self.peak + torch.log(self.total))

    def mean(self) -> Tensor:
        """The softmax-weighted mean of the values; 0 if there were none."""
        return self.read / torch.where(self.total == 0, torch.ones_like(self.total), self.total)[:, None]


def _mix(weights: Float[Tensor, "Q k"], rows: Float[Tensor, "Q k V"]) -> Float[Tensor, "Q V"]:
    return (weights[:, None] @ rows)[:, 0]


def _ask(index: Any, q_QD: Tensor, k: int, keys: int) -> Tensor:
    """The rows (Q, k) that an index finds; -1 where it finds none."""
    queries = np.ascontiguousarray(q_QD.detach().float().cpu().numpy())
    if hasattr(index, "search"):
        rows = index.search(queries, k)[1]
    elif hasattr(index, "knn_query"):
        rows = index.knn_query(queries, k=k)[0]
    elif callable(index):
        rows = index(queries, k)
    else:
        raise TypeError(f"an index has search or knn_query, or is a function (queries, k); got {type(index).__name__}")
    given = np.asarray(rows)
    rows = torch.as_tensor(given.astype(np.int64), device=q_QD.device)
    if rows.ndim != 2 or len(rows) != len(q_QD):
        raise ValueError(f"an index gives rows (queries, k) = {(len(q_QD), k)}; got {tuple(rows.shape)}")
    if (rows.cpu().numpy() != given).any() or bool(((rows < -1) | (rows >= keys)).any()):
        raise ValueError(f"an index gives whole row numbers from 0 to {keys - 1}, and -1 for none")
    return rows


def _report(found: Lookup, sample: int, seed: int) -> Report:
    call = found._call
    if call.k is None:
        raise ValueError("all keys were read; there is nothing to compare with")
    some = torch.randperm(len(call.q_QD), generator=torch.Generator().manual_seed(seed))[:sample].sort().values
    asked = replace(call, q_QD=call.q_QD.detach()[some], index=None, lead=(len(some),), numpy=False)
    with torch.no_grad(), full_precision(call.q_QD.device):
        exact = asked.run(None)
    output, indices, scored = (
        torch.as_tensor(t).detach().reshape(len(call.q_QD), -1)[some]
        for t in (found.output, found.indices, found.scores)
    )
    hits = (indices[:, :, None] == exact.indices[:, None]).any(1)
    gap = (output - exact.output).double().norm(dim=-1) / exact.output.double().norm(dim=-1)
    covered = torch.exp(torch.logsumexp(scored.double(), -1) - exact.logsumexp.double())
    return Report(len(some), float(hits.double().mean()), float(gap.mean()), float(gap.max()), float(covered.mean()))
