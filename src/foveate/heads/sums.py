"""From one attention call to a few numbers for each text and head, some texts and rows at a time.

The weights of these rows are formed, used by every measure, and let go, so that what is held does not grow with the
length of a text times itself.

Axes: B texts of the batch, b some of them, h heads of the call, R rows picked, K keys, S shares, D offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..normalizers import Softmax
from ..operator.problem import Problem
from .batches import Side
from .measures import MEANS, SINKS
from .patterns import Patterns, patterns
from .profile import OFFSETS
from .sampling import spread_out

__all__ = ["Piece", "Pieces", "Sums", "added"]

ENTRIES = 1 << 18  # weights formed at a time: as many as stay in the cache
CACHED = 1 << 20  # pattern entries kept for the next layer
_SMALL = 1e-37  # adds nothing to an entropy


@dataclass(frozen=True, eq=False)
class Piece:
    """Some texts of a batch, some of their rows, and the patterns of both."""

    texts: slice
    rows: Int[Tensor, " R"]
    patterns: Patterns


@dataclass(eq=False)
class Pieces:
    """A batch as calls of one kind see it, cut into pieces of at most `ENTRIES` weights, the same for all layers.

    At most `most` rows of a text are measured, spread evenly over it.
    """

    queries: Side
    keys: Side
    same: bool
    causal: bool
    heads: int
    most: int
    rows: Int[Tensor, " R"] = field(init=False)
    kept: list[Piece] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        n = self.queries.ids.shape[1]
        self.rows = spread_out(n, self.most)[0] if n > self.most else torch.arange(n)

    def __iter__(self) -> Iterator[Piece]:
        if self.kept is not None:
            return iter(self.kept)
        entries = len(self.keys.lengths) * len(self.rows) * self.keys.ids.shape[1]
        if entries > CACHED:
            return self._cut()
        self.kept = list(self._cut())
        return iter(self.kept)

    def _cut(self) -> Iterator[Piece]:
        texts, keys = len(self.keys.lengths), self.keys.ids.shape[1]
        rows = max(1, min(len(self.rows), ENTRIES // max(1, self.heads * keys)))
        step = max(1, ENTRIES // max(1, self.heads * keys * rows)) if rows == len(self.rows) else 1
        for first in range(0, texts, step):
            some = slice(first, min(first + step, texts))
            for picked in self.rows.split(rows):
                yield Piece(some, picked, self._patterns(some, picked))

    def _patterns(self, some: slice, picked: Tensor) -> Patterns:
        return patterns(self.queries[some], self.keys[some], picked, same=self.same, causal=self.causal)


@dataclass(eq=False)
class Sums:
    """What was added up over the rows of each text of a batch, for the heads of one call; on the CPU, in float64.

    `means` and `counts` are (B, h, measures) in the order of `MEANS`: of rows, or of texts. `best` is the largest
    weight of a link, and `place` its row and key, -1 where it is not above what was asked for.
    """

    means: Float[Tensor, "B h M"]
    counts: Float[Tensor, "B h M"]
    received: Float[Tensor, "B h K"]
    profile: Float[Tensor, "B h D"]
    pairs: Float[Tensor, "B h D"]
    squares: Float[Tensor, "B h"]
    even: Float[Tensor, "B h"]
    best: Float[Tensor, "B h"]
    place: Int[Tensor, "B h 2"]

    @classmethod
    def nothing(cls, texts: int, heads: int, keys: int) -> Sums:
        def zeros(*more: int) -> Tensor:
            return torch.zeros(texts, heads, *more, dtype=torch.float64)

        means, offsets = (zeros(len(MEANS)) for _ in range(2)), (zeros(OFFSETS) for _ in range(2))
        place = torch.full((texts, heads, 2), -1)
        return cls(
            next(means), next(means), zeros(keys), next(offsets), next(offsets), zeros(), zeros(), zeros(), place
        )

    def add(self, name: str, texts: slice, sums: Tensor, counts: Tensor) -> None:
        """Sums (b, h) over rows, and over how many."""
        at = MEANS.index(name)
        self.means[texts, :, at] += sums.double().cpu()
        self.counts[texts, :, at] += counts.double().cpu()


@torch.no_grad()
def added(
    problem: Problem,
    pieces: Pieces,
    *,
    offsets: bool = True,
    least: Float[Tensor, " h"] | None = None,
    take: Callable[[Piece, Float[Tensor, "b h R K"]], None] | None = None,
) -> Sums:
    """All measures of one call, text by text.

    Args:
        offsets: whether to add up weights by offset.
        least: only links of this weight or more are looked for, a number for each head; None: none are.
        take: is given the weights of each piece; rows that are not measured are 0.
    """
    g = problem.geometry
    found = Sums.nothing(g.batch, g.heads, g.keys)
    for piece in pieces:
        w, rows = _weights(problem, piece)
        _means(found, piece, w, rows)
        _shares(found, piece, w, rows)
        if offsets and piece.patterns.offsets is not None:
            _offsets(found, piece, w, rows)
        if least is not None:
            _links(found, piece, w, least)
        if take is not None:
            take(piece, w)
    _received(found, pieces.keys)
    return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """`plain` rows are measured, `seen` counts the keys that they see, `seeable` says which; axes may have size 1."""

    plain: Bool[Tensor, "b h R"]
    seen: Float[Tensor, "b h R"]
    seeable: Bool[Tensor, "b h R K"]


def _weights(problem: Problem, piece: Piece) -> tuple[Float[Tensor, "b h R K"], _Rows]:
    """The weights of a piece, 0 in rows that are not measured."""
    g, device = problem.geometry, problem.q_BHQD.device
    rows = piece.rows
    first, last = int(rows[0]), int(rows[-1])
    picked = slice(first, last + 1) if last - first + 1 == len(rows) else rows.to(device)
    at = piece.texts, slice(0, g.heads), picked, slice(0, g.keys)
    scores, normalizer = problem.scores(*at), problem.normalizer
    fused = type(normalizer) is Softmax and normalizer.sinks is None  # rows that see nothing are NaN, and not plain
    w = torch.softmax(scores, -1) if fused else normalizer.rows(scores)[1]
    allowed = problem.allowed(*at)
    if allowed is None:
        allowed = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    seeable = allowed.expand(*allowed.shape[:2], len(rows), g.keys)
    seen = seeable.sum(-1)
    plain = piece.patterns.rows.to(device)[:, None] & (seen > 0)
    odd = w.sum(-1).isnan()
    if bool(odd.any()):
        plain = plain & ~odd
    if not bool(plain.all()):
        w = w.masked_fill(~plain[..., None], 0.0)
    return w, _Rows(plain, seen, seeable)


def _means(found: Sums, piece: Piece, w: Tensor, rows: _Rows) -> None:
    entropy = w.clamp(min=_SMALL).log_().mul_(w).sum(-1).neg_()
    count, many = rows.plain.sum(-1), rows.plain & (rows.seen > 1)
    found.add("entropy", piece.texts, entropy.sum(-1), count)
    spread = torch.where(many, entropy / rows.seen.clamp(min=2).log(), 0.0)
    found.add("spread", piece.texts, spread.sum(-1), many.sum(-1))
    found.received[piece.texts] += w.sum(-2).double().cpu()
    if piece.patterns.apart is not None:
        apart = (w * piece.patterns.apart.to(w)).sum(-1) / w.sum(-1).clamp(min=1e-30)
        found.add("distance", piece.texts, apart.sum(-1), count)


def _shares(found: Sums, piece: Piece, w: Tensor, rows: _Rows) -> None:
    p = piece.patterns
    sums = w.flatten(2) @ p.shares.to(w).mT
    counts = rows.plain.to(w.dtype) @ p.defined.to(w).mT
    for at, name in enumerate(p.names):
        found.add(name, piece.texts, sums[..., at], counts[..., at])


def _offsets(found: Sums, piece: Piece, w: Tensor, rows: _Rows) -> None:
    """How far the weights are from even ones, by offset; see `profile`."""
    assert piece.patterns.offsets is not None
    seeable = (rows.seeable & rows.plain[..., None]).to(w.dtype)
    even = rows.seen.clamp(min=1).reciprocal()
    y = w - seeable * even[..., None]
    offsets = piece.patterns.offsets.to(w.device)
    for sums, of in ((found.profile, y), (found.pairs, seeable)):
        by_offset = w.new_zeros(*of.shape[:2], OFFSETS).index_add_(2, offsets, of.flatten(2))
        sums[piece.texts] += by_offset.double().cpu()
    found.squares[piece.texts] += y.square_().sum((-1, -2)).double().cpu()
    found.even[piece.texts] += torch.where(rows.plain, even, 0.0).sum(-1).double().cpu()


def _links(found: Sums, piece: Piece, w: Tensor, least: Tensor) -> None:
    """The largest weight of each text and head, and where it is, if it is as large as `least`."""
    linked = w * piece.patterns.links.to(w)[:, None]
    best = linked.amax((-1, -2)).double().cpu()
    better = (best > found.best[piece.texts]) & (best >= least)
    if not bool(better.any()):
        return
    b, h = better.nonzero(as_tuple=True)
    place = linked[b.to(w.device), h.to(w.device)].flatten(1).argmax(-1).cpu()
    keys = w.shape[-1]
    found.best[piece.texts][b, h] = best[b, h]
    found.place[piece.texts][b, h] = torch.stack([piece.rows[place // keys], place % keys], -1)


def _received(found: Sums, keys: Side) -> None:
    """What follows from what each key receives from all rows of a text."""
    rows, texts = found.counts[..., MEANS.index("entropy")], slice(0, len(found.means))
    most = found.received.topk(min(SINKS, found.received.shape[-1]), dim=-1).values.sum(-1)
    found.add("sink", texts, most, rows)
    found.add("gini", texts, *_gini(found.received, keys))


def _gini(received: Float[Tensor, "B h K"], keys: Side) -> tuple[Float[Tensor, "B h"], Float[Tensor, "B h"]]:
    """The Gini coefficient of what real keys receive, and whether it is defined: of two keys or more."""
    n = keys.lengths[:, None, None].double()
    padded = torch.where(keys.real[:, None], received, -1.0).sort(-1).values.clamp(min=0)
    rank = torch.arange(1, padded.shape[-1] + 1) - padded.shape[-1] + n
    total = padded.sum(-1)
    defined = (total > 0) & (n[..., 0] > 1)
    gini = 2 * (rank * padded).sum(-1) / (n[..., 0] * total.clamp(min=1e-300)) - (n[..., 0] + 1) / n[..., 0]
    return torch.where(defined, gini, 0.0), defined.double()
