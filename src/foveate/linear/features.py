"""Feature maps: linear attention compares phi(q) with phi(k) where softmax attention takes exp(q.k).

A feature map is a function (..., D) -> (..., F) of each row by itself. Those below that are dataclasses are computed a
chunk at a time and can be stored; any other callable, such as a learned module, is called once, on all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..describe import describable

__all__ = ["Elu", "Favor", "FeatureMap", "Hedgehog", "Identity", "Relu", "favor", "resolve"]


class FeatureMap:
    """Base of the maps that foveate knows: frozen dataclasses that treat every head alike."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is computed from."""
        return ()

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows F"]:
        raise NotImplementedError


@describable
@dataclass(frozen=True)
class Identity(FeatureMap):
    """phi(x) = x: weights may be negative."""

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        return x


@describable
@dataclass(frozen=True)
class Elu(FeatureMap):
    """phi(x) = elu(x) + 1 (Katharopoulos et al. 2020)."""

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        return torch.nn.functional.elu(x) + 1


@describable
@dataclass(frozen=True)
class Relu(FeatureMap):
    """phi(x) = max(x, 0)."""

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        return torch.relu(x)


@describable
@dataclass(frozen=True, eq=False)
class Favor(FeatureMap):
    """FAVOR+: positive random features of the softmax kernel (Choromanski et al. 2021, lemma 1).

    phi(x) = exp(w.x' - |x'|^2 / 2) / sqrt(F), x' = x D^(-1/4), for the F rows w of `projection` (F, D); so that over
    the draw of `projection` phi(q).phi(k) is exp(q.k / sqrt(D)) on average.
    """

    projection: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.projection,)

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows F"]:
        w = self.projection.to(x.device, x.dtype)
        x = x * x.shape[-1] ** -0.25
        return torch.exp(x @ w.mT - x.square().sum(-1, keepdim=True) / 2) * w.shape[0] ** -0.5

    def redraw(self, seed: int) -> Favor:
        """Other features of the same number."""
        features, width = self.projection.shape
        return favor(width, features, seed=seed)


def favor(width: int, features: int | None = None, *, seed: int = 0) -> Favor:
    """FAVOR+ for head width `width`, with orthogonal projections of Gaussian length.

    Args:
        width: D.
        features: F, default D log D rounded up: the error falls with 1/sqrt(F).
        seed: of the draw; the same seed gives the same features everywhere.
    """
    if width < 1 or (features is not None and features < 1):
        raise ValueError(f"favor takes a width and a number of features of at least 1; got {width} and {features}")
    count = max(1, math.ceil(width * math.log(width))) if features is None else features
    draw = torch.Generator().manual_seed(seed)
    squares = torch.randn(-(-count // width), width, width, generator=draw, dtype=torch.float64)
    q, r = torch.linalg.qr(squares)  # rows are orthogonal within each square block
    rows = (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).mT.flatten(0, 1)  # by the sign uniform over rotations
    lengths = torch.randn(count, width, generator=draw, dtype=torch.float64).norm(dim=-1, keepdim=True)
    return Favor(rows[:count] * lengths)


class Hedgehog(nn.Module):
    """A learned map, phi(x) = [softmax(W x), softmax(-W x)], one W per head (Zhang et al. 2024). F is 2 D.

    W starts as the identity. Train it so that the weights of linear attention become those of softmax attention.
    """

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width).repeat(heads, 1, 1))

    def forward(self, x: Float[Tensor, "*batch H R D"]) -> Float[Tensor, "*batch H R F"]:
        y = x @ self.weight.to(x.dtype).mT
        return torch.cat([torch.softmax(y, -1), torch.softmax(-y, -1)], -1)


Map = Callable[[Tensor], Tensor]
Given = str | Map
_NAMED: dict[str, FeatureMap] = {"elu": Elu(), "relu": Relu(), "identity": Identity()}


def resolve(feature_map: Given | tuple[Given, Given] | Any, width: int) -> tuple[Map, Map]:
    """The maps of queries and of keys, for a name, a callable or a pair of these.

    Raises:
        ValueError: an unknown name, or something that is not callable.
    """
    pair: Any = feature_map if isinstance(feature_map, tuple) else (feature_map, feature_map)
    if len(pair) != 2:
        raise ValueError(f"feature_map takes one map, or one for queries and one for keys; got {len(pair)}")
    return _resolve(pair[0], width), _resolve(pair[1], width)


def _resolve(one: Any, width: int) -> Map:
    if isinstance(one, str) and one == "favor":
        return favor(width)
    if isinstance(one, str) and one in _NAMED:
        return _NAMED[one]
    if isinstance(one, str) or not callable(one):
        names = ", ".join(repr(name) for name in (*_NAMED, "favor"))
        shown = repr(one) if isinstance(one, str) else type(one).__name__
        raise ValueError(f"unknown feature map {shown}; expected {names} or a function (..., D) -> (..., F)")
    if isinstance(one, Favor) and one.projection.shape[-1] != width:
        raise ValueError(f"these FAVOR+ features are for width {one.projection.shape[-1]}; the queries have {width}")
    return one
