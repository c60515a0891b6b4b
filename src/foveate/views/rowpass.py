"""One pass over some rows of a call, all heads at once: what measures of heads and small pictures are made of.

The compiled core does it without forming a weight where it can; any other call is passed over in blocks.

Axes: H heads, R rows picked, K keys of the sequence, S numbers of a row's statistic, w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foveate import native as core
from foveate.native import NAN_ROWS, Wanted
from foveate.operator import native
from foveate.operator.problem import Problem
from foveate.scores import Dot

__all__ = ["Part", "RowPass", "pass_over"]

ENTRIES = 1 << 22  # weights held at a time where the compiled core cannot help


@dataclass(frozen=True)
class Part:
    """One sequence of a call: its place in the batch, and its queries and keys. `place` is where query 0 of the call
    stands among the sequence's keys; None where the keys are another text.
    """

    batch: int
    rows: slice
    columns: slice
    place: int | None

    def places(self, rows: Int[Tensor, " R"]) -> Int[Tensor, " R"]:
        """The key that each row's own token is, counted from the sequence's first."""
        assert self.place is not None
        return rows + self.place


@dataclass(frozen=True, eq=False)
class RowPass:
    """What was found in some rows; on the CPU, in float64. Rows that are NaN are NaN in `entropy`.

    `seen` counts the keys that a row sees, `distance` is the mean of |i - j| (None where the keys are another text),
    `received` is summed over the rows, `best` is the largest weight of each row in each of `w` cells of keys.
    """

    statistic: Float[Tensor, "H R *S"]
    seen: Float[Tensor, "H R"]
    entropy: Float[Tensor, "H R"]
    distance: Float[Tensor, "H R"] | None
    received: Float[Tensor, "H K"]
    best: Float[Tensor, "H R w"]


@torch.no_grad()
def pass_over(problem: Problem, part: Part, rows: Int[Tensor, " R"], cells: int) -> RowPass:
    """Pass over rows of the call, in rising order. Key j of the sequence's K falls into cell `j * cells // K`."""
    found = _by_core(problem, part, rows, cells)
    return _by_blocks(problem, part, rows, cells) if found is None else found


def _by_core(problem: Problem, part: Part, rows: Tensor, cells: int) -> RowPass | None:
    """None where the core cannot: a bias, other scores or masks, keys after the query, a NaN."""
    if native.obstacle(problem) is not None or problem.bias is not None:
        return None
    intervals = native.intervals(problem)
    if intervals is None and problem.mask is not None:
        return None
    g, batch = problem.geometry, slice(part.batch, part.batch + 1)
    low, high = _spans(intervals, part.batch, rows, g.heads, g.keys)
    if bool(((low < part.columns.start) | (high > part.columns.stop)).logical_and(low < high).any()):
        return None
    first, count = part.columns.start, part.columns.stop - part.columns.start
    low, high = ((t - first).clamp(0, count) for t in (low, high))
    values = None
    if part.place is not None:
        if bool((high > part.places(rows) + 1).any()):
            return None
        places = torch.stack([torch.arange(count), torch.ones(count)], 1).float()
        values = places.expand(1, problem.k_BGKD.shape[1], count, 2)
    assert isinstance(problem.score, Dot) and problem.score.scale is not None
    found = core.run(
        problem.q_BHQD[batch][:, :, rows].float(),
        problem.k_BGKD[batch][:, :, part.columns].float(),
        values,
        Wanted(lse=True, entropy=True, received=True, pooled=((len(rows), cells, "max"),)),
        scale=problem.score.scale,
        softcap=problem.score.softcap,
        sinks=problem.normalizer.sinks,  # type: ignore[attr-defined]
        spans=(low[None], high[None]),
    )
    if found.status & NAN_ROWS:
        return None
    distance = None if found.output is None else _behind(found.output[0].double(), part.places(rows))
    seen = (high - low).double().expand(g.heads, -1)
    best = found.pooled[len(rows), cells, "max"][0].double()
    return RowPass(found.lse[0], seen, found.entropy[0].double(), distance, found.received[0], best)


def _spans(
    intervals: tuple[Tensor, Tensor] | None, batch: int, rows: Tensor, heads: int, keys: int
) -> tuple[Tensor, Tensor]:
    """The keys [low, high) of each row picked, (H|1, R), int32; [0, 0) where it sees none."""
    if intervals is None:
        return torch.zeros(1, len(rows), dtype=torch.int32), torch.full((1, len(rows)), keys, dtype=torch.int32)
    low, high = (t[batch if t.shape[0] > 1 else 0] for t in intervals)
    low, high = ((t[:, rows] if t.shape[1] > 1 else t.expand(-1, len(rows))) for t in (low, high))
    return torch.broadcast_tensors(low, high)


def _behind(read: Float[Tensor, "H R 2"], own: Int[Tensor, " R"]) -> Float[Tensor, "H R"]:
    """How far behind its own place a row reads on average, from the sums of the places it reads and of its weights."""
    place, total = read.unbind(-1)
    return (own - place / total.clamp(min=1e-30)).where(total > 0, 0.0).clamp(min=0)


def _by_blocks(problem: Problem, part: Part, rows: Tensor, cells: int) -> RowPass:
    g, batch, every = problem.geometry, slice(part.batch, part.batch + 1), slice(0, problem.geometry.heads)
    step = max(1, ENTRIES // max(1, g.heads * g.keys))
    count = part.columns.stop - part.columns.start
    received = torch.zeros(g.heads, count, dtype=torch.float64)
    key = torch.arange(count, device=problem.q_BHQD.device)
    pieces: list[tuple[Tensor, ...]] = []
    for some in rows.split(step):
        at = batch, every, some
        statistic = problem.statistic(*at)
        scores = problem.scores(*at, part.columns)
        weights = problem.normalizer.weights(scores, statistic, part.columns)
        logs = problem.normalizer.log_weights(scores, statistic, weights).clamp_(min=torch.finfo(weights.dtype).min)
        w = weights[0].double()
        entropy = -(logs[0].double() * w).sum(-1)
        own = some + part.place if part.place is not None else some
        apart = (key - own.to(key.device)[:, None]).abs().double()
        distance = (w * apart).sum(-1) / w.sum(-1).clamp(min=1e-30)
        seen = (scores[0] > -torch.inf).sum(-1).double()
        received += w.nan_to_num(0.0).sum(1).cpu()
        best = torch.zeros(*w.shape[:2], cells, dtype=torch.float64, device=w.device)
        best.scatter_reduce_(-1, (key * cells // max(1, count)).expand_as(w), w.nan_to_num(0.0), "amax")
        pieces.append(tuple(t.cpu() for t in (statistic[0], seen, entropy, distance, best)))
    statistic, seen, entropy, distance, best = (torch.cat(parts, 1) for parts in zip(*pieces, strict=True))
    return RowPass(statistic, seen, entropy, distance if part.place is not None else None, received, best)
