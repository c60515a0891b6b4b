"""The canonical attention problem, and one block of its scores.

Axes: B batch, H query heads, G key/value heads, M = H/G heads that share a key head, Q queries, K keys, D width, E
width of keys (D, unless the score takes another), R rows (some queries), C columns (some keys), S numbers of a row's
statistic; b, h: some batches and heads.

This is the only place where score, bias and mask meet; the operator, the map and every statistic call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..biases import Bias
from ..masks import Coverage, Mask
from ..normalizers import Normalizer, lead
from ..scores import Placed, Score
from ..shapes import Geometry, Picked, full_precision, is_traced, is_tracked, sum_dtype

__all__ = ["Block", "Problem", "Strip", "columns_of", "statistics", "strips"]

BLOCK_NUMBERS = 1 << 20  # scores held at a time by the block loop, at most: 4 MB in float32
GOOD_NUMBERS = 1 << 18  # as many as stay in the cache, and as the C library reuses without asking for pages again
MOST_ROWS, FEWEST_ROWS = 1024, 16  # rows of a strip
MASK_STEP = 256  # columns per question when looking for the live keys of a strip


@dataclass(frozen=True, eq=False)
class Problem:
    """What attention is, in O(n d). Scores are computed in float32, or float64 if the inputs are.

    Batches and heads are picked by slices; rows and columns by slices or index tensors (`Picked`).
    """

    q_BHQD: Float[Tensor, "B H Q D"]
    k_BGKD: Float[Tensor, "B G K E"]
    score: Score
    normalizer: Normalizer
    mask: Mask | None = None
    bias: Bias | None = None

    @property
    def geometry(self) -> Geometry:
        b, h, q, _ = self.q_BHQD.shape
        return Geometry(b, h, q, self.k_BGKD.shape[2])

    @property
    def shared(self) -> int:
        """M, the number of query heads that share one key head."""
        return self.q_BHQD.shape[1] // self.k_BGKD.shape[1]

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.promote_types(self.q_BHQD.dtype, torch.float32)

    @property
    def tracked(self) -> bool:
        biases = () if self.bias is None else self.bias.tensors
        return is_tracked(self.q_BHQD, self.k_BGKD, *biases, *self.score.tensors, *self.normalizer.tensors)

    def prepared(self) -> Problem:
        """The same problem with queries and keys already in the compute dtype, so that blocks need no casts."""
        d = self.compute_dtype
        return replace(self, q_BHQD=self.q_BHQD.to(d), k_BGKD=self.k_BGKD.to(d))

    def allowed(self, batch: slice, heads: slice, rows: Picked, columns: Picked) -> Bool[Tensor, "b h R C"] | None:
        """Who may attend in a block; axes may have size 1 where the mask does not vary. None: everyone may."""
        ok: Tensor | None = None
        g = self.geometry
        if self.mask is not None:
            some = min(_n(rows), _n(columns)) > 0
            known = self.mask.coverage(g, _hull(rows), _hull(columns)) if some else Coverage.SOME
            if known is not Coverage.ALL:
                ok = self.mask.block(g, (batch, heads, rows, columns), self.q_BHQD.device)
        hidden = None if self.bias is None else self.bias.hidden(g, (batch, heads, rows, columns))
        if hidden is not None:
            ok = ~hidden if ok is None else ok & ~hidden
        return ok

    def scores(self, batch: slice, heads: slice, rows: Picked, columns: Picked) -> Float[Tensor, "b h R C"]:
        """One block of scores, bias added, masked entries -inf."""
        with full_precision(self.q_BHQD.device):
            s = self.raw(batch, heads, rows, columns)
            in_place = self.score.fresh and not self.tracked
            if self.bias is not None:
                q = self.q_BHQD[batch, heads, rows].to(s.dtype)
                bias = self.bias.block(self.geometry, (batch, heads, rows, columns), q).to(s.dtype)
                s = s.add_(bias) if in_place else s + bias
            ok = self.allowed(batch, heads, rows, columns)
            if ok is None:
                return s
            return s.masked_fill_(~ok, -torch.inf) if in_place else s.masked_fill(~ok, -torch.inf)

    def raw(self, batch: slice, heads: slice, rows: Picked, columns: Picked) -> Tensor:
        """Scores without bias or mask; heads that share a key head are folded into its rows."""
        if isinstance(self.score, Placed):
            return self.score.block(self.q_BHQD, self.k_BGKD, (batch, heads, rows, columns))
        d = self.compute_dtype
        q = self.q_BHQD[batch, heads, rows].to(d)
        k = self._keys(batch, heads, columns).to(d)
        b, h, r, width = q.shape
        score = self.score.of_heads(heads)
        if k.shape[1] == h:
            return score(q, k)
        m = h // k.shape[1]
        if score.per_head:
            return score(q, k.repeat_interleave(m, dim=1))
        return score(q.reshape(b, h // m, m * r, width), k).reshape(b, h, r, k.shape[2])

    def _keys(self, batch: slice, heads: slice, columns: Picked) -> Tensor:
        m = self.shared
        if m == 1:
            return self.k_BGKD[batch, heads, columns]
        first, last = heads.start // m, (heads.stop - 1) // m
        whole = heads.start % m == 0 and heads.stop % m == 0
        if first == last or whole:
            return self.k_BGKD[batch, first : last + 1, columns]
        index = torch.arange(heads.start, heads.stop, device=self.k_BGKD.device) // m
        return self.k_BGKD[batch, index][:, :, columns]

    def at(
        self, b: Int[Tensor, " points"], h: Int[Tensor, " points"], q: Int[Tensor, " points"], k: Int[Tensor, " points"]
    ) -> Float[Tensor, " points"]:
        """Scores of single entries, for index tensors (points,) on each axis; masked entries -inf."""
        d = self.compute_dtype
        queries = self.q_BHQD[b, h, q].to(d)[:, None, None]
        keys = self.k_BGKD[b, h // self.shared, k].to(d)[:, None, None]
        with full_precision(queries.device):
            if isinstance(self.score, Placed):
                s = self.score.points(self.q_BHQD, self.k_BGKD, (b, h, q, k))
            else:
                s = self._of_pairs(queries, keys, h)
        ok = torch.ones_like(s, dtype=torch.bool)
        if self.mask is not None:
            ok = self.mask.predicate(self.geometry)(b, h, q, k).expand_as(ok)
        if self.bias is not None:
            s = s + self.bias.points(self.geometry, (b, h, q, k), queries[:, 0, 0]).to(d)
            hidden = self.bias.hidden_points(self.geometry, (b, h, q, k))
            ok = ok if hidden is None else ok & ~hidden
        return s.masked_fill(~ok, -torch.inf)

    def _of_pairs(self, queries: Tensor, keys: Tensor, h: Tensor) -> Tensor:
        """The scores of pairs (P, 1, 1, D) and (P, 1, 1, E), of the heads `h` (P,)."""
        if not self.score.per_head:
            return self.score(queries, keys)[:, 0, 0, 0]
        order = torch.argsort(h, stable=True)
        heads, counts = torch.unique(h, return_counts=True)
        split = zip(heads.tolist(), order.split(counts.tolist()), strict=True)
        found = [self.score.of_heads(slice(i, i + 1))(queries[at], keys[at])[:, 0, 0, 0] for i, at in split]
        return torch.cat(found)[torch.argsort(order)] if found else queries[:, 0, 0, 0]

    def live(self, rows: Picked) -> list[slice]:
        """Spans of keys, in order, outside which no row of `rows` may attend, in any batch or head."""
        found: list[slice] = []
        for start, stop in self._live(rows):
            if found and found[-1].stop == start:
                found[-1] = slice(found[-1].start, stop)
            else:
                found.append(slice(start, stop))
        return found

    def lives_in_more(self, rows: Picked, most: int) -> bool:
        """Whether `rows` have more than `most` live keys; asks no more about the mask than it must."""
        total = 0
        return any((total := total + stop - start) > most for start, stop in self._live(rows))

    def _live(self, rows: Picked) -> Iterator[tuple[int, int]]:
        keys = self.geometry.keys
        if self.mask is None or _n(rows) == 0 or keys == 0 or type(self.mask).coverage is Mask.coverage:
            return iter([(0, keys)])
        return self._halved(self.mask, _hull(rows), 0, keys)

    def _halved(self, mask: Mask, rows: tuple[int, int], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, stop) that are not known to be dead, halved down to MASK_STEP keys."""
        known = mask.coverage(self.geometry, rows, (start, stop))
        if known is Coverage.NONE:
            return
        if known is Coverage.ALL or stop - start <= MASK_STEP:
            yield start, stop
            return
        middle = start + (stop - start + MASK_STEP) // (2 * MASK_STEP) * MASK_STEP
        yield from self._halved(mask, rows, start, middle)
        yield from self._halved(mask, rows, middle, stop)

    def statistic(self, batch: slice, heads: slice, rows: Picked) -> Float[Tensor, "b h R *S"]:
        """The normaliser's row statistic, in float64 where the device has it.

        A row whose every score overflowed to -inf, though keys were allowed, is NaN and not empty.
        """
        if self.normalizer.gathers and _n(rows) > 1:
            step = max(1, GOOD_NUMBERS // max(1, _n(batch) * _n(heads) * self.geometry.keys))
            parts = [self._statistic(batch, heads, r) for r in _pieces(rows, step)]
            return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        return self._statistic(batch, heads, rows)

    def _statistic(self, batch: slice, heads: slice, rows: Picked) -> Tensor:
        blocks = ((c, self.scores(batch, heads, rows, c)) for c in columns_of(self, heads, rows))
        n = (_n(batch), _n(heads), _n(rows))
        empty = torch.zeros(n, dtype=sum_dtype(self.q_BHQD.device), device=self.q_BHQD.device)
        return self._mark_overflow(self.normalizer.statistic(blocks, empty, heads), batch, heads, rows)

    def whole(
        self, batch: slice, heads: slice, rows: Picked, columns: Picked, scores: Float[Tensor, "b h R C"]
    ) -> tuple[Float[Tensor, "b h R *S"], Float[Tensor, "b h R C"]]:
        """Statistic and weights of rows whose scores, of all keys or of all live ones, are at hand."""
        found, weights = self.normalizer.rows(scores, heads, columns)
        marked = self._mark_overflow(found, batch, heads, rows)
        return marked, weights if marked is found else self.normalizer.weights(scores, marked, columns)

    def _mark_overflow(self, found: Tensor, batch: slice, heads: slice, rows: Picked) -> Tensor:
        lost = lead(found) == -torch.inf
        if not is_traced() and not bool(lost.any()):
            return found
        any_key = torch.zeros_like(lost)
        for c in columns_of(self, heads, rows):
            ok = self.allowed(batch, heads, rows, c)
            any_key = any_key | (True if ok is None else ok.any(-1))
        lost = (lost & any_key).reshape(*lost.shape, *(1,) * (found.ndim - 3))
        return torch.where(lost, torch.full_like(found, torch.nan), found)


@dataclass(frozen=True, eq=False)
class Block:
    """One block of weights on its way through a reducer.

    `weights` (b, h, R, C) and `log_weights` of the same shape; `batch`, `heads`, `rows`, `columns` are slices that
    say where it lies in (B, H, Q, K). Entries outside all blocks have weight 0.
    """

    problem: Problem
    batch: slice
    heads: slice
    rows: slice
    columns: slice
    scores: Float[Tensor, "b h R C"]
    statistic: Float[Tensor, "b h R *S"]

    @property
    def weights(self) -> Float[Tensor, "b h R C"]:
        if "weights" not in self.__dict__:
            found = self.problem.normalizer.weights(self.scores, self.statistic, self.columns)
            self.__dict__["weights"] = found
        return self.__dict__["weights"]

    @property
    def log_weights(self) -> Float[Tensor, "b h R C"]:
        """Natural log of the weights, a new tensor; -inf where they are 0."""
        return self.problem.normalizer.log_weights(self.scores, self.statistic, self.weights)


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of some heads (whole groups that share their key heads), over all their live keys."""

    problem: Problem
    batch: slice
    heads: slice
    rows: slice

    def blocks(self) -> Iterator[Block]:
        """The strip's blocks. Scores are computed once if one block holds them all, else twice and never kept."""
        p, at = self.problem, (self.batch, self.heads, self.rows)
        columns = columns_of(p, self.heads, self.rows)
        if len(columns) == 1:
            s = p.scores(*at, columns[0])
            statistic, weights = p.whole(*at, columns[0], s)
            if not _holds_nan(statistic):
                block = Block(p, *at, columns[0], s, statistic)
                block.__dict__["weights"] = weights
                yield block
                return
        else:
            statistic = p.statistic(*at)
        if _holds_nan(statistic):  # such a row is NaN everywhere, also where it may not look
            columns = columns_of(p, self.heads, self.rows, slice(0, p.geometry.keys))
        for c in columns or [slice(0, 0)]:
            yield Block(p, *at, c, p.scores(*at, c), statistic)


def _holds_nan(t: Tensor) -> bool:
    return not is_traced() and bool(torch.isnan(t).any())


def columns_of(problem: Problem, heads: slice, rows: Picked, span: slice | None = None) -> list[slice]:
    """Blocks of keys for these rows, each small enough to hold its scores; of the live keys if no span is given."""
    spans = problem.live(rows) if span is None else [span]
    step = max(MASK_STEP, BLOCK_NUMBERS // max(1, _n(heads) * _n(rows)))
    return [slice(c, min(c + step, s.stop)) for s in spans for c in range(s.start, s.stop, step)]


def strips(problem: Problem, rows: slice | None = None) -> Iterator[Strip]:
    """The whole problem, or some rows of it, strip by strip, in memory that does not grow with Q x K."""
    p = problem.prepared()
    g, m = p.geometry, p.shared
    span = slice(0, g.queries) if rows is None else rows
    cuts: list[slice] = []
    r = span.start
    while r < span.stop:
        step = MOST_ROWS
        while step > FEWEST_ROWS and p.lives_in_more(slice(r, min(r + step, span.stop)), GOOD_NUMBERS // (m * step)):
            step //= 2
        cuts.append(slice(r, min(r + step, span.stop)))
        r += step
    groups, batches = 1, 1
    if len(cuts) == 1:  # small: several heads at once, and then several batches
        fit = max(1, GOOD_NUMBERS // max(1, m * g.queries * g.keys))
        groups = min(p.k_BGKD.shape[1], fit)
        batches = max(1, fit // groups) if groups == p.k_BGKD.shape[1] else 1
    for b in range(0, g.batch, batches):
        for h in range(0, g.heads, groups * m):
            for cut_rows in cuts:
                batch = slice(b, min(b + batches, g.batch))
                yield Strip(p, batch, slice(h, min(h + groups * m, g.heads)), cut_rows)


@torch.no_grad()
def statistics(problem: Problem) -> Float[Tensor, "B H Q *S"]:
    """The statistic of every row."""
    g, numbers, device = problem.geometry, problem.normalizer.numbers, problem.q_BHQD.device
    shape = (g.batch, g.heads, g.queries, *(() if numbers is None else (numbers,)))
    found = torch.full(shape, -torch.inf, dtype=sum_dtype(device), device=device)
    for strip in strips(problem):
        at = strip.batch, strip.heads, strip.rows
        found[at] = strip.problem.statistic(*at)
    return found


def _n(picked: Picked) -> int:
    return picked.numel() if isinstance(picked, Tensor) else picked.stop - picked.start


def _pieces(picked: Picked, step: int) -> list[Picked]:
    """Picked ones, at most `step` at a time; at least one piece."""
    if isinstance(picked, Tensor):
        return list(picked.split(step))
    return [slice(i, min(i + step, picked.stop)) for i in range(picked.start, picked.stop, step)]


def _hull(picked: Picked) -> tuple[int, int]:
    if isinstance(picked, Tensor):
        return int(picked.min()), int(picked.max()) + 1
    return picked.start, picked.stop
