"""Scores with weights to learn, as modules.

With `heads` each head has weights of its own; without, all heads share them.

Axes: H heads, D query width, E key width, N hidden units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import Learned
from .perceptron import Perceptron
from .products import Angle, Bilinear

__all__ = ["Additive", "Concat", "Cosine", "General"]


class Additive(Learned):
    """v.tanh(Wq q + Wk k [+ b]) (Bahdanau et al. 2015, appendix A.1.2). Queries and keys may differ in width."""

    def __init__(
        self, query_width: int, key_width: int, hidden: int, *, heads: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.query_weight = _matrix(heads, hidden, query_width)
        self.key_weight = _matrix(heads, hidden, key_width)
        self.v = _vector(heads, hidden)
        self.bias = nn.Parameter(torch.zeros_like(self.v)) if bias else None

    def form(self) -> Perceptron:
        return Perceptron(self.query_weight, self.key_weight, self.v, self.bias)

    def extra_repr(self) -> str:
        return _shown(self.query_weight, query_width=-1, hidden=-2) + f", key_width={self.key_weight.shape[-1]}"


class Concat(Learned):
    """v.tanh(W [q; k]), W (N, D + E) (Luong et al. 2015, section 3.1, "concat"). Widths may differ."""

    def __init__(self, query_width: int, key_width: int, hidden: int, *, heads: int | None = None) -> None:
        super().__init__()
        self.query_width = query_width
        self.weight = _matrix(heads, hidden, query_width + key_width)
        self.v = _vector(heads, hidden)

    def form(self) -> Perceptron:
        of_query, of_key = self.weight[..., : self.query_width], self.weight[..., self.query_width :]
        return Perceptron(of_query, of_key, self.v, None, "concat")

    def extra_repr(self) -> str:
        return _shown(self.weight, width=-1, hidden=-2)


class General(Learned):
    """q.W k (Luong et al. 2015, section 3.1, "general"), W (D, E). Queries and keys may differ in width."""

    def __init__(self, query_width: int, key_width: int, *, heads: int | None = None) -> None:
        super().__init__()
        self.weight = _matrix(heads, query_width, key_width)

    def form(self) -> Bilinear:
        return Bilinear(self.weight)

    def extra_repr(self) -> str:
        return _shown(self.weight, query_width=-2, key_width=-1)


class Cosine(Learned):
    """cos(q, k) / temperature, with a temperature that is learned and at least 0.01 (Liu et al. 2022, eq. 2)."""

    least = 0.01

    def __init__(self, temperature: float = 0.1, *, heads: int | None = None) -> None:
        super().__init__()
        if not temperature >= self.least:
            raise ValueError(f"temperature must be at least {self.least}; got {temperature}")
        self.log_temperature = nn.Parameter(torch.full(() if heads is None else (heads,), math.log(temperature)))

    def form(self) -> Angle:
        return Angle(self.log_temperature.exp().clamp(min=self.least))


def _matrix(heads: int | None, rows: int, columns: int) -> nn.Parameter:
    bound = math.sqrt(6 / (rows + columns))  # Glorot & Bengio (2010)
    return nn.Parameter(torch.empty(*_lead(heads), rows, columns).uniform_(-bound, bound))


def _vector(heads: int | None, size: int) -> nn.Parameter:
    bound = size**-0.5
    return nn.Parameter(torch.empty(*_lead(heads), size).uniform_(-bound, bound))


def _lead(heads: int | None) -> tuple[int, ...]:
    return () if heads is None else (heads,)


def _shown(weight: Tensor, **axes: int) -> str:
    parts = [f"{name}={weight.shape[axis]}" for name, axis in axes.items()]
    return ", ".join(parts + ([f"heads={weight.shape[0]}"] if weight.ndim == 3 else []))
