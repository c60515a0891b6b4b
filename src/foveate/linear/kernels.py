"""The weights of linear attention as scores, so that a map shows them like any others.

`Kernel` compares features and nothing else. `Recurrence` is what a gate, the delta rule or a state that came in make of
it: the weight of a key then depends on where it stands and on the keys between. Row i is found by going back from its
query, r_i = phi(q_i), key by key (the transpose of the recurrence in `forms`):

    w_ij = beta_j phi(k_j).r_j,    r_{j-1} = a_j (r_j - w_ij phi(k_j)),

some keys at a time; beta_j = 1 and no subtraction without the delta rule. Every query stays at its own place, and only
exp of numbers <= 0 is taken.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D width, F features; R rows and C columns of a block, b
and h some batches and heads, X = 1 or F.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..describe import describable
from ..normalizers.base import Blocks, Normalizer, safe, spoil
from ..scores import Placed, Score
from ..shapes import Picked, indices, sum_dtype
from .features import FeatureMap
from .forms import cumulated, products

__all__ = ["Kernel", "Recurrence", "Unscaled"]

SPAN = 128  # keys gone back over at a time
SPAN_BY_CHANNEL = 64  # the same where a gate has one number per feature
POINT_ROWS = 64  # rows computed at a time where single entries are asked


@describable
@dataclass(frozen=True)
class Kernel(Score):
    """`scale * phi(q).phi(k)`: what linear attention compares instead of exp(q.k)."""

    query_map: FeatureMap
    key_map: FeatureMap
    scale: float = 1.0

    @property
    def name(self) -> str:
        return "kernel"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.query_map.tensors, *self.key_map.tensors)

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C D"]) -> Float[Tensor, "*batch R C"]:
        f = self.query_map(q)
        return (f if self.scale == 1.0 else f * self.scale) @ self.key_map(k).mT


@describable
@dataclass(frozen=True, eq=False)
class Recurrence(Placed):
    """Weights of gated linear attention, of the delta rule, and of a call that went on from a state.

    `gate` (B|1, G|1, K, 1|F) are logarithms, `beta` (B|1, G|1, K); with either, a query sees no key after it. `total`
    (B, H, Q) divides the rows: the sum of all weights, those of the keys behind a state included.
    """

    kernel: Kernel
    gate: Tensor | None = None
    beta: Tensor | None = None
    total: Tensor | None = None

    @property
    def name(self) -> str:
        return "kernel" + " with gate" * (self.gate is not None) + " and delta rule" * (self.beta is not None)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.kernel.tensors, *(t for t in (self.gate, self.beta, self.total) if t is not None))

    def to(self, device: Any) -> Recurrence:
        gate, beta, total = (None if t is None else t.to(device) for t in (self.gate, self.beta, self.total))
        return Recurrence(self.kernel, gate, beta, total)

    def block(
        self, q_BHQD: Tensor, k_BGKD: Tensor, at: tuple[slice, slice, Picked, Picked]
    ) -> Float[Tensor, "b h R C"]:
        batch, heads, rows, columns = at
        d = torch.promote_types(q_BHQD.dtype, torch.float32)
        group = torch.arange(heads.start, heads.stop, device=k_BGKD.device) // (q_BHQD.shape[1] // k_BGKD.shape[1])
        k = k_BGKD[batch][:, group].to(d)
        r = self.kernel.query_map(q_BHQD[batch, heads, rows].to(d)) * self.kernel.scale
        first, last = _hull(columns)
        if self.gate is None and self.beta is None:
            found = r @ self.kernel.key_map(k[:, :, first:last]).mT
        else:
            gate, beta = (None if t is None else _some(t, batch, group) for t in (self.gate, self.beta))
            places = indices(rows, k.device) + (k.shape[2] - q_BHQD.shape[2])
            found = _back(r, k, self.kernel.key_map, gate, beta, places, (first, last))
        if self.total is not None:
            total = self.total[batch, heads, rows].to(d)[..., None]
            found = found / torch.where(total == 0, torch.ones_like(total), total)
        return found if isinstance(columns, slice) else found[..., columns - first]

    def points(self, q_BHQD: Tensor, k_BGKD: Tensor, at: tuple[Tensor, ...]) -> Float[Tensor, " P"]:
        b, h, i, j = at
        g = q_BHQD.shape[1]
        found = torch.zeros(len(b), dtype=torch.promote_types(q_BHQD.dtype, torch.float32), device=q_BHQD.device)
        for head in torch.unique(b * g + h).tolist():
            here = (b * g + h == head).nonzero()[:, 0]
            where = slice(head // g, head // g + 1), slice(head % g, head % g + 1)
            for rows in torch.unique(i[here]).split(POINT_ROWS):
                some = here[torch.isin(i[here], rows)]
                columns, place = torch.unique(j[some], return_inverse=True)
                tile = self.block(q_BHQD, k_BGKD, (*where, rows, columns))[0, 0]
                found = found.index_put((some,), tile[torch.searchsorted(rows, i[some]), place])
        return found


def _back(
    r: Tensor,
    k: Tensor,
    phi: FeatureMap,
    gate: Tensor | None,
    beta: Tensor | None,
    places: Int[Tensor, " R"],
    span: tuple[int, int],
) -> Float[Tensor, "b h R C"]:
    """The weights at keys of `span`, for rows at `places`; zeros after them."""
    first, last = span
    nothing = r.new_zeros(*r.shape[:3], max(0, last - first))
    if nothing.numel() == 0:
        return nothing
    stop = min(int(places.max()) + 1, k.shape[2])
    if beta is None and gate is not None and stop > last:
        r, stop = r * _decay_since(gate, places, last, stop).to(r.dtype), last
    parts: list[Tensor] = [nothing[..., max(0, stop - first) :]]
    for start, end in _steps(first, stop, SPAN_BY_CHANNEL if gate is not None and gate.shape[-1] > 1 else SPAN):
        f = phi(k[:, :, start:end])
        b = None if gate is None else cumulated(gate[:, :, start:end])
        local = places.clamp(max=end - 1) - start
        w = _compared(r, f, b, local)
        if beta is not None:
            by = beta[:, :, start:end].to(f.dtype)
            system = by[..., None] * products(f[:, :, None], f, b)[:, :, 0].tril(-1)
            w = torch.linalg.solve_triangular(system, w, upper=False, left=False, unitriangular=True) * by[..., None, :]
        r = _before(r, w if beta is not None else None, f, b, local)
        parts.append(w[..., : max(0, last - start)])
    return torch.cat(parts[::-1], -1)


def _compared(r: Tensor, f: Tensor, b: Tensor | None, local: Int[Tensor, " R"]) -> Float[Tensor, "b h R C"]:
    """r_i.f_j, decayed from key j to place i, for j <= i; else 0."""
    n = f.shape[2]
    after = torch.arange(n, device=f.device) > local[:, None]
    if b is None:
        return (r @ f.mT).masked_fill(after, 0.0)
    own = local.clamp(min=0)
    if b.shape[-1] == 1:
        between = (b[:, :, own] - b.mT).masked_fill(after, -torch.inf)
        return (r @ f.mT) * torch.exp(between).to(f.dtype)
    inside = (local < n - 1).nonzero()[:, 0]
    w = r @ (f * torch.exp(b[:, :, -1:] - b).to(f.dtype)).mT
    between = (b[:, :, own[inside], None] - b[:, :, None]).masked_fill(after[inside][..., None], -torch.inf)
    near = (r[:, :, inside, None] * f[:, :, None] * torch.exp(between).to(f.dtype)).sum(-1)
    return w.index_copy(2, inside, near)


def _before(r: Tensor, w: Tensor | None, f: Tensor, b: Tensor | None, local: Int[Tensor, " R"]) -> Tensor:
    """What the rows that stand at or after these keys ask of the state before them."""
    since = None if b is None else torch.exp(b).to(f.dtype)
    passed = r if since is None else r * since[:, :, local.clamp(min=0)]
    if w is not None:
        passed = passed - w @ (f if since is None else f * since)
    return torch.where((local >= 0)[:, None], passed, r)


def _decay_since(gate: Tensor, places: Int[Tensor, " R"], last: int, stop: int) -> Float[Tensor, "b h R X"]:
    """What is left at `places` of what stood at key `last` - 1."""
    b = cumulated(gate[:, :, last:stop])
    b = torch.cat([b.new_zeros(*b.shape[:2], 1, b.shape[-1]), b], 2)
    return torch.exp(b[:, :, (places - last + 1).clamp(min=0)]).to(sum_dtype(gate.device))


def _steps(first: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Spans of keys from the last to the first, cut at the same places whatever is asked."""
    while stop > first:
        start = max(first, (stop - 1) // size * size)
        yield start, stop
        stop = start


def _some(t: Tensor, batch: slice, group: Tensor) -> Tensor:
    """Part of a tensor (B|1, G|1, ...)."""
    t = t[batch] if t.shape[0] > 1 else t
    return t[:, group] if t.shape[1] > 1 else t


def _hull(picked: Picked) -> tuple[int, int]:
    if isinstance(picked, slice):
        return picked.start, picked.stop
    return (int(picked.min()), int(picked.max()) + 1) if picked.numel() else (0, 0)


@describable
@dataclass(frozen=True)
class Unscaled(Normalizer):
    """Scores as they are: weights that sum to anything and may be negative. The statistic is 0 where a key is seen."""

    means: ClassVar[str] = "nothing"

    @property
    def name(self) -> str:
        return "unscaled"

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        found = torch.full_like(empty, -torch.inf)
        for _, s in blocks:
            s = s.detach()
            found = torch.where((s != -torch.inf).any(-1), torch.zeros_like(found), found)
            found = torch.where((torch.isnan(s) | (s == torch.inf)).any(-1), torch.nan, found)
        return found

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        return spoil(safe(s), statistic)

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        return safe(s_BHQK)
