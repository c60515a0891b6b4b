"""Linear attention as a recurrence over a state, one chunk of keys at a time.

    S_t = a_t S_{t-1} + phi(k_t) u_t^T,    o_t = S_t^T phi(q_t),    u_t = v_t

a_t = exp(g_t) is a gate, one number or one per feature; 1 without one. By the delta rule u_t = beta_t (v_t - r_t), r_t
being what the decayed state a_t S_{t-1} gives for phi(k_t); over a chunk that is a triangular system in the u's (Yang
et al. 2024, "Parallelizing linear transformers with the delta rule").

Axes: B batch, H query heads, G key heads, M = H/G, Q queries, K keys, C rows of a chunk, D width, F features, V value
width, W = V, or V + 1 if the weights are normalised: a value of 1 beside each value sums the weights themselves.

Decays are sums of logarithms within one chunk. Where they are steep, exp is taken of numbers <= 0 only, so that nothing
overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..shapes import is_traced, is_tracked, sum_dtype
from .features import FeatureMap

__all__ = ["Parts", "Rows", "chunked", "cumulated", "products", "stepwise", "together"]

GENTLE = 60.0  # up to such a decay over a chunk exp(b_i) exp(-b_j) is safe in float32, taken from the middle
TILE = 16  # rows whose products with a gate per feature are formed number by number
FORGOTTEN = -800.0  # exp of it is 0 even in float64: a gate of -inf without its NaNs


@dataclass(frozen=True, eq=False)
class Parts:
    """What is computed. `gate` (B|1, G|1, K, 1|F) are logarithms, `beta` (B|1, G|1, K), `hidden` (B, K) left out."""

    q_BHQD: Tensor
    k_BGKD: Tensor
    v_BGKV: Tensor
    phi_q: FeatureMap
    phi_k: FeatureMap
    scale: float = 1.0
    normalize: bool = True
    gate: Tensor | None = None
    beta: Tensor | None = None
    hidden: Tensor | None = None

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.promote_types(self.q_BHQD.dtype, torch.float32)

    @property
    def past(self) -> int:
        """Keys that stand before the first query, if queries align to the end."""
        return self.k_BGKD.shape[2] - self.q_BHQD.shape[2]

    def nothing(self) -> Float[Tensor, "B G F W"]:
        """The state before any key."""
        features = self.keys(self.k_BGKD[:, :, :0]).shape[-1]
        width = self.v_BGKV.shape[-1] + self.normalize
        return self.v_BGKV.new_zeros(*self.k_BGKD.shape[:2], features, width, dtype=self.compute_dtype)

    def queries(self, q_BHCD: Tensor) -> Float[Tensor, "B G M C F"]:
        """Features of some queries, the heads that share a key head side by side."""
        f = self.phi_q(q_BHCD.to(self.compute_dtype))
        return (f if self.scale == 1.0 else f * self.scale).unflatten(1, (self.k_BGKD.shape[1], -1))

    def keys(self, k_BGCD: Tensor, hidden_BC: Tensor | None = None) -> Float[Tensor, "B G C F"]:
        f = self.phi_k(k_BGCD.to(self.compute_dtype))
        return f if hidden_BC is None else f.masked_fill(hidden_BC[:, None, :, None], 0.0)

    def values(self, v_BGCV: Tensor, hidden_BC: Tensor | None = None) -> Float[Tensor, "B G C W"]:
        v = v_BGCV.to(self.compute_dtype)
        v = v if hidden_BC is None else v.masked_fill(hidden_BC[:, None, :, None], 0.0)
        return torch.cat([v, torch.ones_like(v[..., :1])], -1) if self.normalize else v


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some keys and what goes with them; `q` None if no query stands there."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    gate: Tensor | None
    beta: Tensor | None
    hidden: Tensor | None


def _chunks(p: Parts, size: int) -> Iterator[Chunk]:
    """Cut with `split`, whose gradient is one `cat`: that of a slice would be as long as the sequence, each time."""
    queries = [min(size, p.q_BHQD.shape[2] - c) for c in range(0, p.q_BHQD.shape[2], size)]
    sizes = [min(size, p.past - c) for c in range(0, p.past, size)] + queries

    def cut(t: Tensor | None, axis: int) -> list[Tensor | None]:
        return [None] * len(sizes) if t is None else list(t.split(sizes, dim=axis))

    q = [None] * (len(sizes) - len(queries)) + list(p.q_BHQD.split(queries, dim=2))
    for parts in zip(q, *(cut(t, 2) for t in (p.k_BGKD, p.v_BGKV, p.gate, p.beta)), cut(p.hidden, 1), strict=True):
        yield Chunk(*parts)


@dataclass(eq=False)
class Rows:
    """Collects the output. Written in place where nothing is differentiated, so that it is held once only."""

    parts: Parts
    totals: list[Tensor] = field(default_factory=list)
    _pieces: list[Tensor] = field(default_factory=list)
    _out: Tensor | None = None
    _filled: int = 0

    def __post_init__(self) -> None:
        p = self.parts
        if not is_tracked(p.q_BHQD, p.k_BGKD, p.v_BGKV, p.gate, p.beta):
            self._out = p.v_BGKV.new_empty(*p.q_BHQD.shape[:3], p.v_BGKV.shape[-1])

    def add(self, read_BGMCW: Tensor) -> None:
        """The rows that come next; where the weights sum to 0 they read 0."""
        read = read_BGMCW.flatten(1, 2)
        if self.parts.normalize:
            total = read[..., -1:]
            self.totals.append(total[..., 0].clone())  # a view would keep all that was read
            read = read[..., :-1] / torch.where(total == 0, torch.ones_like(total), total)
        if self._out is None:
            self._pieces.append(read.to(self.parts.v_BGKV.dtype))
            return
        self._out[:, :, self._filled : self._filled + read.shape[2]] = read
        self._filled += read.shape[2]

    @property
    def output(self) -> Float[Tensor, "B H Q V"]:
        if self._out is not None:
            return self._out
        p = self.parts
        empty = p.v_BGKV.new_zeros(*p.q_BHQD.shape[:2], 0, p.v_BGKV.shape[-1])
        return torch.cat(self._pieces or [empty], dim=2)

    @property
    def total(self) -> Float[Tensor, "B H Q"]:
        """The sums of the rows' weights before normalising."""
        return torch.cat(self.totals, dim=2)


def together(p: Parts, state: Tensor, size: int) -> tuple[Rows, Tensor]:
    """Every query sees every key."""
    hidden = [None] * p.k_BGKD.shape[2] if p.hidden is None else p.hidden.split(size, dim=1)
    for k, v, h in zip(p.k_BGKD.split(size, dim=2), p.v_BGKV.split(size, dim=2), hidden, strict=False):
        state = state + p.keys(k, h).mT @ p.values(v, h)
    rows = Rows(p)
    for q in p.q_BHQD.split(size, dim=2):
        rows.add(_read(p.queries(q), state))
    return rows, state


def chunked(p: Parts, state: Tensor, size: int) -> tuple[Rows, Tensor]:
    """Each query sees the keys up to its own place, the last query all of them. One chunk is the parallel form."""
    rows = Rows(p)
    for c in _chunks(p, size):
        k, u = p.keys(c.k, c.hidden), p.values(c.v, c.hidden)
        b = None if c.gate is None else cumulated(c.gate)
        since = None if b is None else torch.exp(b).to(k.dtype)  # what is left of the state that came in
        if c.beta is not None:
            u = _corrected(k, u, b, since, c.beta.to(k.dtype)[..., None], state)
        if c.q is not None:
            q = p.queries(c.q)
            old = _read(q if since is None else q * since[:, :, None], state)
            rows.add(old + _read(products(q, k, b), u))
        if b is not None and since is not None:
            k = k * torch.exp(b[:, :, -1:] - b).to(k.dtype)
            state = state * since[:, :, -1:].mT
        state = state + k.mT @ u
    return rows, state


def stepwise(p: Parts, state: Tensor) -> tuple[Rows, Tensor]:
    """The same one key after the other, as it is defined."""
    rows = Rows(p)
    for c in _chunks(p, 1):
        k_BGF1, u = p.keys(c.k, c.hidden).mT, p.values(c.v, c.hidden)
        if c.gate is not None:
            state = state * torch.exp(c.gate.to(k_BGF1.dtype)).mT
        if c.beta is not None:
            u = c.beta.to(u.dtype)[..., None] * (u - (k_BGF1 * state).sum(-2, keepdim=True))
        state = state + k_BGF1 * u
        if c.q is not None:
            rows.add(_read(p.queries(c.q), state))
    return rows, state


def cumulated(gate: Float[Tensor, "B G C X"]) -> Float[Tensor, "B G C X"]:
    """Sums of the logarithms up to each key of a chunk, wide enough that their differences are exact."""
    return gate.to(sum_dtype(gate.device)).clamp(min=FORGOTTEN).cumsum(2)


def products(
    q: Float[Tensor, "B G M C F"], k: Float[Tensor, "B G C F"], b: Float[Tensor, "#B #G C X"] | None
) -> Float[Tensor, "B G M C C"]:
    """Sum over the features of q_i k_j exp(b_i - b_j) for j <= i, else 0."""
    if b is None:
        return _read(q, k.mT).tril()
    if b.shape[-1] == 1:
        return _read(q, k.mT) * _between(b, k.dtype)[:, :, None, :, :, 0]
    n = k.shape[2]
    if not is_traced() and bool((b[:, :, 0] - b[:, :, n - 1] <= GENTLE).all()):
        middle = (b[:, :, :1] + b[:, :, n - 1 :]) / 2
        return _read(
            q * torch.exp(b - middle).to(k.dtype)[:, :, None], (k * torch.exp(middle - b).to(k.dtype)).mT
        ).tril()
    tiles = []
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        kt, bt, last = k[:, :, start:stop], b[:, :, start:stop], b[:, :, stop - 1 : stop]
        near = kt[:, :, None] * _between(bt, k.dtype)  # (B, G, rows, columns, F)
        near = torch.einsum("bgmif,bgijf->bgmij", q[..., start:stop, :], near)
        later = q[..., stop:, :] * torch.exp(b[:, :, stop:] - last).to(k.dtype)[:, :, None]
        far = _read(later, (kt * torch.exp(last - bt).to(k.dtype)).mT)
        none = near.new_zeros(*near.shape[:3], start, stop - start)
        tiles.append(torch.cat([none, near, far], -2))
    return torch.cat(tiles, -1)


def _between(b: Float[Tensor, "B G C X"], dtype: torch.dtype) -> Float[Tensor, "B G C C X"]:
    """exp(b_i - b_j) for j <= i, else 0."""
    n = b.shape[2]
    later = torch.ones(n, n, dtype=torch.bool, device=b.device).triu(1)[..., None]
    return torch.exp((b[:, :, :, None] - b[:, :, None]).to(dtype).masked_fill(later, -torch.inf))


def _corrected(
    k: Tensor, v: Tensor, b: Tensor | None, since: Tensor | None, beta: Tensor, state: Tensor
) -> Float[Tensor, "B G C W"]:
    """The u's of the delta rule: u_i + beta_i sum_{j<i} (k_i.k_j, decayed) u_j = beta_i (v_i - the state's)."""
    among = products(k[:, :, None], k, b)[:, :, 0].tril(-1)
    old = (k if since is None else k * since) @ state
    return torch.linalg.solve_triangular(beta * among, beta * (v - old), upper=False, unitriangular=True)


def _read(q: Float[Tensor, "B G M C X"], x: Float[Tensor, "B G X Y"]) -> Float[Tensor, "B G M C Y"]:
    """q @ x, the heads that share x in one product."""
    return (q.flatten(2, 3) @ x).unflatten(2, q.shape[2:4])
