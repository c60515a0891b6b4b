"""Measures of the heads of one text, step by step over more and more of its rows; `heads.measures` says what each is.

A long text is measured from rows spread evenly over it, first few, then more: the order is the same every time.

Axes: H heads, R rows, K keys of the sequence, M measures, w cells of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foveate.heads.measures import SINKS
from foveate.heads.sampling import spread_out
from foveate.operator.problem import Problem
from foveate.views.rowpass import ENTRIES, Part, RowPass, pass_over

__all__ = ["MEASURES", "HeadMeasures", "HeadSurvey"]

MEASURES = ("entropy", "spread", "distance", "first", "sink", "previous", "duplicate", "induction")
_PER_ROW = tuple(name for name in MEASURES if name != "sink")


@dataclass(frozen=True)
class HeadMeasures:
    """`values` (H, M) in the order of `names`, NaN where undefined, from `measured` of `rows` rows; and what a
    thumbnail (H, h, w) shows: the largest weight seen in each cell.
    """

    names: tuple[str, ...]
    values: Float[Tensor, "H M"]
    measured: int
    rows: int
    picture: Float[Tensor, "H h w"]

    @classmethod
    def unknown(cls, heads: int, rows: int) -> HeadMeasures:
        """Before any row is measured."""
        nothing = torch.full((heads, len(MEASURES)), torch.nan, dtype=torch.float64)
        return cls(MEASURES, nothing, 0, rows, torch.zeros(heads, 1, 1, dtype=torch.float64))


class HeadSurvey:
    """Measures of all heads of a call for one sequence, made step by step over more and more of its rows.

    Args:
        problem: gives the call, of `heads` heads; asked at each step, so that between them nobody need hold it.
        tokens: what stands at each key, if the queries are of the same text: anything that is equal where the tokens
            are. None: nobody knows, or it is another text.
        size: cells along the sides of the thumbnails, at most.
    """

    def __init__(
        self,
        problem: Callable[[], Problem],
        heads: int,
        part: Part,
        tokens: Sequence[Hashable] | None = None,
        size: int = 32,
    ) -> None:
        self._problem, self.part = problem, part
        self.rows, self.keys = part.rows.stop - part.rows.start, part.columns.stop - part.columns.start
        self._numbers = None if tokens is None or part.place is None else _numbered(tokens, self.keys)
        self.size = max(1, min(size, max(self.rows, self.keys)))
        self.steps = spread_out(self.rows) if self.keys else []
        self.taken = 0  # steps
        self.keep: Callable[[HeadSurvey], None] = lambda _: None  # called whenever twice the rows are measured
        self.sums = torch.zeros(heads, len(_PER_ROW), dtype=torch.float64)
        self.counts = torch.zeros(heads, len(_PER_ROW), dtype=torch.float64)
        self.received = torch.zeros(heads, self.keys, dtype=torch.float64)
        self.picture = torch.zeros(heads, self.size, self.size, dtype=torch.float64)

    @property
    def measured(self) -> int:
        return sum(len(rows) for rows in self.steps[: self.taken])

    @property
    def done(self) -> bool:
        return self.taken == len(self.steps)

    @torch.no_grad()
    def step(self) -> None:
        """Measure some rows more; nothing where all are."""
        if self.done:
            return
        within = self.steps[self.taken]
        rows = within + self.part.rows.start
        cells = min(self.size, self.keys)
        problem = self._problem()
        found = pass_over(problem, self.part, rows, cells)
        self._count(problem, found, rows)
        self.received += found.received
        lines = (within * self.size // self.rows)[None, :, None].expand_as(found.best)
        wide = torch.zeros(*self.picture.shape[:2], cells, dtype=torch.float64)
        wide.scatter_reduce_(1, lines, found.best.nan_to_num(0.0), "amax")
        self.picture = torch.maximum(self.picture, _stretched(wide, self.size))
        self.taken += 1
        if self.done or self.taken.bit_count() == 1:
            self.keep(self)

    def result(self) -> HeadMeasures:
        """What is known so far."""
        means = self.sums / torch.where(self.counts > 0, self.counts, torch.nan)
        known = dict(zip(_PER_ROW, means.unbind(-1), strict=True))
        rows = self.counts[:, _PER_ROW.index("entropy")]
        most = self.received.topk(min(SINKS, self.keys), dim=-1).values.sum(-1)
        known["sink"] = most / torch.where(rows > 0, rows, torch.nan)
        values = torch.stack([known[name] for name in MEASURES], -1)
        return HeadMeasures(MEASURES, values, self.measured, self.rows, _filled(self.picture, self._lines()))

    def state(self) -> dict[str, Tensor]:
        """All that is known, as tensors from which it can go on."""
        picked = {name: getattr(self, name) for name in ("sums", "counts")}
        small = {name: getattr(self, name).float() for name in ("received", "picture")}
        return {"taken": torch.tensor([self.taken]), **picked, **small}

    def shapes(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """What a state of this survey looks like."""
        return {name: (t.dtype, tuple(t.shape)) for name, t in self.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of these `shapes`; nothing where its numbers cannot be."""
        taken = int(state["taken"])
        numbers = [t for name, t in state.items() if name != "taken"]
        if 1 <= taken <= len(self.steps) and all(bool((torch.isfinite(t) & (t >= 0)).all()) for t in numbers):
            self.taken = taken
            for name in ("sums", "counts", "received", "picture"):
                setattr(self, name, state[name].double())

    def _lines(self) -> Tensor:
        """Which lines of the thumbnails a measured row falls into."""
        some = torch.cat([torch.zeros(0, dtype=torch.int64), *self.steps[: self.taken]])
        lines = torch.zeros(self.size, dtype=torch.bool)
        lines[some * self.size // max(1, self.rows)] = True
        return lines

    def _count(self, problem: Problem, found: RowPass, rows: Tensor) -> None:
        """Add the rows' measures to the sums."""
        plain = (found.seen > 0) & ~torch.isnan(found.entropy)
        many = plain & (found.seen > 1)
        self._add("entropy", found.entropy, plain)
        self._add("spread", found.entropy / found.seen.clamp(min=2).log(), many)
        start = self.part.columns.start
        columns = torch.full_like(rows, start)
        self._add("first", self._points(problem, rows, columns, found.statistic), plain)
        if found.distance is None:
            return
        self._add("distance", found.distance, plain)
        own = self.part.places(rows)
        inside = (own > 0) & (own <= self.keys)
        before = self._points(problem, rows, start + (own - 1).clamp(0, self.keys - 1), found.statistic)
        self._add("previous", before, plain & inside)
        if self._numbers is not None:
            for name, (shares, there) in self._matches(problem, rows, own, found.statistic).items():
                self._add(name, shares, plain & there)

    def _add(self, name: str, of_rows: Float[Tensor, "H R"], which: Tensor) -> None:
        at = _PER_ROW.index(name)
        self.sums[:, at] += torch.where(which, of_rows, 0.0).sum(-1)
        self.counts[:, at] += which.sum(-1)

    def _points(
        self, problem: Problem, rows: Int[Tensor, " R"], columns: Int[Tensor, " R"], statistic: Tensor
    ) -> Float[Tensor, "H R"]:
        """The weight of each row at one key of its own."""
        heads, count, device = problem.geometry.heads, len(rows), problem.q_BHQD.device
        h = torch.arange(heads).repeat_interleave(count)
        at = torch.full_like(h, self.part.batch), h, rows.repeat(heads), columns.repeat(heads)
        b, h, q, k = (t.to(device) for t in at)
        known = statistic.flatten(0, 1).to(device)
        w = problem.normalizer.weights(problem.at(b, h, q, k)[None, None, :, None], known[None, None], k[:, None])
        return w.reshape(heads, count).double().cpu()

    def _matches(
        self, problem: Problem, rows: Tensor, own: Tensor, statistic: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Shares of earlier places of the same token, and of those after them, (H, R); and which rows have any.

        Rows of the same token share their places, so weights of rows x occurrences are formed, some at a time.
        """
        assert self._numbers is not None
        heads = problem.geometry.heads
        found = {name: torch.zeros(heads, len(rows), dtype=torch.float64) for name in ("duplicate", "induction")}
        there = {name: torch.zeros(len(rows), dtype=torch.bool) for name in found}
        token = torch.where((own >= 0) & (own < self.keys), self._numbers[own.clamp(0, self.keys - 1)], -1)
        for one in token.unique().tolist():
            of_token = torch.nonzero(token == one)[:, 0]
            last = int(own[of_token].max())
            places = torch.nonzero(self._numbers[:last] == one)[:, 0]
            if one < 0 or not len(places):
                continue
            wanted = {"duplicate": places, "induction": places[places + 1 < last] + 1}
            for some in of_token.split(max(1, ENTRIES // (heads * len(places)))):
                for name, columns in wanted.items():
                    if len(columns):
                        shares, any_there = self._earlier(problem, rows[some], own[some], columns, statistic[:, some])
                        found[name][:, some], there[name][some] = shares, any_there
        return {name: (found[name], there[name]) for name in found}

    def _earlier(
        self, problem: Problem, rows: Tensor, own: Tensor, columns: Tensor, statistic: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How much of each row falls on those of `columns` that lie before it, and whether one does."""
        batch, heads = slice(self.part.batch, self.part.batch + 1), slice(0, problem.geometry.heads)
        device = problem.q_BHQD.device
        picked, at = (columns + self.part.columns.start).to(device), rows.to(device)
        scores = problem.scores(batch, heads, at, picked)
        weights = problem.normalizer.weights(scores, statistic[None].to(device), picked)[0].double().cpu()
        earlier = columns < own[:, None]
        return torch.where(earlier, weights, 0.0).sum(-1), earlier.any(-1)


def _numbered(tokens: Sequence[Hashable], keys: int) -> Int[Tensor, " K"]:
    """A number for each key, the same where the token is."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(token, len(numbers)) for token in tokens[:keys]], dtype=torch.int64)


def _stretched(wide: Float[Tensor, "H h w"], size: int) -> Float[Tensor, "H h s"]:
    """Cells repeated to `size` of them, where there are fewer keys than cells."""
    cells = wide.shape[-1]
    return wide if cells == size else wide[..., torch.arange(size) * cells // size]


def _filled(picture: Float[Tensor, "H h w"], lines: Tensor) -> Float[Tensor, "H h w"]:
    """Lines without a measured row look like the nearest that has one."""
    marks = torch.nonzero(lines)[:, 0]
    if not len(marks) or len(marks) == len(lines):
        return picture
    nearest = (torch.arange(len(lines))[:, None] - marks).abs().argmin(-1)
    return picture[:, marks[nearest]]
