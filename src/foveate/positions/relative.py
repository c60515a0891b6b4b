"""Positions added to the scores: biases that depend on how far a key is from its query.

None of them forms Q x K numbers. Where a distance alone decides, they settle to `Distances`, O(H (Q + K)).

Axes: H heads, Q queries, K keys, D head width, N = Q + K - 1 distances, R rows and C columns of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..biases import Bias, Block, Distances
from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, indices

__all__ = ["RelativeBuckets", "RelativeKeys", "alibi", "alibi_slopes"]


def distances(g: Geometry, device: torch.device) -> Int[Tensor, " N"]:
    """Key position less query position, for each entry of a `Distances` table. Positions align to the end."""
    return torch.arange(max(0, g.queries + g.keys - 1), device=device) - (g.keys - 1)


class _ByDistance(Bias):
    """A rule that gives one number for each head and distance, once it knows how many there are."""

    def table(self, distance_N: Int[Tensor, " N"]) -> Float[Tensor, "heads N"]:
        raise NotImplementedError

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Bias:
        (source,) = self.tensors
        if source.device != q_BHQD.device:
            raise ValueError(f"the bias must be on the device of the query, {q_BHQD.device}; got {source.device}")
        return Distances(self.table(distances(g, q_BHQD.device))).settle(layout, g, q_BHQD)


# ALiBi


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """2^(-8 h / H) for h = 1 ... H; where H is no power of two, those of the next lower one, then every other one of
    twice that (Press et al. 2022, and their code)."""
    if heads < 1:
        raise ValueError(f"alibi needs at least one head; got {heads}")
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * h / whole) for h in range(1, whole + 1)]
    slopes += [2 ** (-4 * h / whole) for h in range(1, 2 * whole, 2)]
    return torch.tensor(slopes[:heads], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Alibi(_ByDistance):
    slopes: Tensor
    bidirectional: bool = True

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.slopes,)

    def table(self, distance_N: Int[Tensor, " N"]) -> Float[Tensor, "heads N"]:
        signed = distance_N.to(self.slopes.dtype)
        return self.slopes[:, None] * (-signed.abs() if self.bidirectional else signed)

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Bias:
        slopes = self.slopes.to(q_BHQD.device, torch.promote_types(q_BHQD.dtype, torch.float32))
        if len(slopes) not in (1, g.heads):
            raise ValueError(f"alibi needs one slope for each of the {g.heads} heads; got {len(slopes)}")
        return _ByDistance.settle(Alibi(slopes, self.bidirectional), layout, g, q_BHQD)

    def __str__(self) -> str:
        return "alibi"


def alibi(heads: int | Tensor | list[float], *, bidirectional: bool = True) -> Bias:
    """Attention with linear biases (Press et al. 2022): -slope |i - j|, a slope for each head.

    `heads` is their number, which gives the paper's slopes, or the slopes themselves, (H,); gradients flow to those.
    `bidirectional=False` writes slope (j - i) instead: the same to the left of the query, so that under a causal mask
    both agree; to the right it grows, as in code that leaves the future to the mask.

    Raises:
        ValueError: no head.
    """
    slopes = alibi_slopes(heads) if isinstance(heads, int) else as_tensor(heads)
    if slopes.ndim != 1 or slopes.numel() == 0:
        raise ValueError(f"alibi takes a number of heads or slopes (heads,); got shape {tuple(slopes.shape)}")
    return Alibi(slopes if slopes.dtype.is_floating_point else slopes.double(), bidirectional)


# T5's buckets


def buckets_of(distance: Int[Tensor, "*shape"], buckets: int, most: int, bidirectional: bool) -> Int[Tensor, "*shape"]:
    """The bucket of each distance (key less query): half of them for single distances, half for spans that grow
    logarithmically up to `most` (Raffel et al. 2020, section 2.1)."""
    side = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        side = (distance > 0) * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    single = buckets // 2
    # in float32, as in the published models: float64 puts a few distances on the other side of a border
    grown = torch.log(distance.clamp(min=1).float() / single) / math.log(most / single) * (buckets - single)
    far = (single + grown.to(torch.int64)).clamp(max=buckets - 1)
    return side + torch.where(distance < single, distance, far)


@dataclass(frozen=True, eq=False)
class Bucketed(_ByDistance):
    weight: Tensor  # (buckets, heads)
    max_distance: int
    bidirectional: bool

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def table(self, distance_N: Int[Tensor, " N"]) -> Float[Tensor, "heads N"]:
        places = buckets_of(distance_N, self.weight.shape[0], self.max_distance, self.bidirectional)
        return self.weight[places].T

    def __str__(self) -> str:
        return "relative buckets"


class RelativeBuckets(nn.Module):
    """T5's relative positions (Raffel et al. 2020): a learned number for each bucket of distances and each head.

    Give the module, or what it returns, as `bias=`. `weight` has the layout of T5's `relative_attention_bias`.
    """

    def __init__(self, heads: int, buckets: int = 32, *, max_distance: int = 128, bidirectional: bool = True) -> None:
        super().__init__()
        single = (buckets // 2 if bidirectional else buckets) // 2
        if heads < 1 or single < 1 or (bidirectional and buckets % 2):
            kind = "an even number of at least 4" if bidirectional else "at least 2"
            raise ValueError(f"heads must be at least 1 and buckets {kind}; got {heads} and {buckets}")
        if max_distance <= single:
            raise ValueError(
                f"max_distance must exceed the {single} distances with buckets of their own; got {max_distance}"
            )
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.weight = nn.Parameter(torch.randn(buckets, heads) * 0.1)

    def forward(self) -> Bias:
        """The bias, for a call of attention."""
        return Bucketed(self.weight, self.max_distance, self.bidirectional)

    def extra_repr(self) -> str:
        buckets, heads = self.weight.shape
        return f"heads={heads}, buckets={buckets}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"


# Shaw's relative keys


@describable
@dataclass(frozen=True, eq=False)
class KeysByDistance(Bias):
    """scale (query . vector of the distance): `table` (H|1, 2 reach + 1, D), the middle one for distance 0."""

    table: Tensor
    scale: float | None = None  # None: 1 / sqrt(D)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.table,)

    @property
    def _factor(self) -> float:
        return self.table.shape[-1] ** -0.5 if self.scale is None else self.scale

    def _places(self, distance: Tensor) -> Tensor:
        reach = self.table.shape[1] // 2
        return distance.clamp(-reach, reach) + reach

    def block(self, g: Geometry, at: Block, q_bhRD: Float[Tensor, "b h R D"]) -> Float[Tensor, "b h R C"]:
        rows, columns = (indices(p, self.table.device) for p in at[2:])
        table = (self.table if self.table.shape[0] == 1 else self.table[at[1]]).to(q_bhRD.dtype)
        products_bhRN = q_bhRD @ (table * self._factor).mT
        places_RC = self._places(columns - (rows[:, None] + g.offset))
        return products_bhRN.gather(-1, places_RC.expand(*products_bhRN.shape[:3], -1))

    def points(self, g: Geometry, at: tuple[Tensor, ...], q_PD: Float[Tensor, "P D"]) -> Float[Tensor, " P"]:
        _, h, i, j = at
        table = self.table.to(q_PD.dtype)[h if self.table.shape[0] > 1 else torch.zeros_like(h)]
        vectors = table[torch.arange(len(i), device=i.device), self._places(j - i - g.offset)]
        return (q_PD * vectors).sum(-1) * self._factor

    def settle(self, layout: Layout, g: Geometry, q_BHQD: Tensor) -> Bias:
        heads, n, width = self.table.shape if self.table.ndim == 3 else (0, 0, 0)
        if heads not in (1, g.heads) or width != q_BHQD.shape[-1] or n % 2 == 0:
            raise ValueError(
                f"relative keys must have shape (heads or 1, 2 reach + 1, D), here ({g.heads} or 1, odd, "
                f"{q_BHQD.shape[-1]}); got {tuple(self.table.shape)}"
            )
        if self.table.device != q_BHQD.device:
            raise ValueError(f"the bias must be on the device of the query, {q_BHQD.device}; got {self.table.device}")
        return self

    def to(self, device: Any, dtype: torch.dtype | None) -> Bias:
        wide = self.table.dtype if dtype is None else torch.promote_types(dtype, torch.float32)
        return KeysByDistance(self.table.to(device=device, dtype=wide), self.scale)

    def __str__(self) -> str:
        return "relative keys"


class RelativeKeys(nn.Module):
    """Relative positions as vectors beside the keys (Shaw et al. 2018, eq. 4): scale (q . a[clip(j - i)]).

    Distances beyond `reach` count as `reach`. One table for all heads, as in the paper, or one each. The paper's
    relative values (its eq. 3) are not part of a bias. Give the module, or what it returns, as `bias=`.
    """

    def __init__(self, width: int, reach: int, *, heads: int = 1, scale: float | None = None) -> None:
        super().__init__()
        if width < 1 or reach < 0 or heads < 1:
            raise ValueError(f"width and heads must be at least 1, reach at least 0; got {width}, {heads} and {reach}")
        self.scale = scale
        self.table = nn.Parameter(torch.randn(heads, 2 * reach + 1, width) * width**-0.5)

    def forward(self) -> Bias:
        """The bias, for a call of attention."""
        return KeysByDistance(self.table, self.scale)

    def extra_repr(self) -> str:
        heads, n, width = self.table.shape
        return f"width={width}, reach={n // 2}, heads={heads}"
