"""Normalisers: from scores to weights.

softmax(...)       exp(s) / sum exp(s), with sinks, off by one, at a temperature
sigmoid(bias)      each score by itself
proportional()     s / sum s, for scores that are not negative
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..shapes import Geometry, whole
from . import given as given  # so that recordings know it
from .base import Blocks, Normalizer, lead, safe
from .chosen import Hard, TopKSoftmax
from .plain import Proportional, Sigmoid
from .soft import Softmax, Tempered
from .sparse import Entmax15, Sparsemax

__all__ = [
    "Blocks",
    "Normalizer",
    "Softmax",
    "entmax15",
    "hard",
    "lead",
    "proportional",
    "resolve",
    "safe",
    "sigmoid",
    "softmax",
    "sparsemax",
    "top_k",
]


def softmax(sinks: Tensor | None = None, *, temperature: float = 1.0, off_by_one: bool = False) -> Normalizer:
    """exp(s / temperature) over its sum; Vaswani et al. (2017), eq. 1.

    Args:
        sinks: (H,), one learned logit per query head, which takes a share and reads nothing (GPT-OSS, 2025).
        temperature: above 1 spreads the weights, below 1 sharpens them. Sinks are not divided by it.
        off_by_one: add 1 to the sum, so that a row may attend to nothing (Miller 2023, "attention is off by one").

    Raises:
        ValueError: both sinks and off_by_one, or a temperature that is not above 0.
    """
    if sinks is not None and off_by_one:
        raise ValueError("softmax takes sinks or off_by_one, which is a sink of 0; not both")
    plain = Softmax(torch.zeros(()) if off_by_one else sinks)
    return plain if temperature == 1 else Tempered(plain, float(temperature))


def top_k(k: int) -> TopKSoftmax:
    """Softmax over the k largest scores of each row, 0 elsewhere (Gupta et al. 2021).

    Where the k-th largest score occurs again, the first keys that have it are kept.

    Raises:
        ValueError: k is no whole number, or below 1.
    """
    return TopKSoftmax(whole(k, "k"))


def sparsemax() -> Sparsemax:
    """max(s - t, 0), t such that the weights sum to 1 (Martins & Astudillo 2016, eq. 3).

    Keys with equal scores get equal weights.
    """
    return Sparsemax()


def entmax15() -> Entmax15:
    """max((s - t) / 2, 0)^2, t such that the weights sum to 1 (Peters et al. 2019).

    Keys with equal scores get equal weights.
    """
    return Entmax15()


def hard(straight_through: bool = False) -> Hard:
    """Weight 1 on the key with the largest score, the first of several (Xu et al. 2015).

    Derivatives with respect to scores are 0; with `straight_through`, those of a softmax (Bengio et al. 2013).
    """
    return Hard(straight_through)


def sigmoid(bias: float | str | Tensor = 0.0) -> Sigmoid:
    """sigmoid(s + bias), each key by itself (Ramapuram et al. 2024). Weights of a row need not sum to 1.

    `bias`: a number, a tensor (H,), or "-log n", minus the log of the number of keys K, masked ones included.
    """
    return Sigmoid(bias if isinstance(bias, str | Tensor) else float(bias))


def proportional() -> Proportional:
    """s / sum(s), for scores that are not negative (Katharopoulos et al. 2020, eq. 3)."""
    return Proportional()


NAMED: dict[str, Callable[[], Normalizer]] = {
    "softmax": softmax,
    "sparsemax": sparsemax,
    "entmax15": entmax15,
    "hard": hard,
    "sigmoid": sigmoid,
    "proportional": proportional,
}


def resolve(normalizer: Any, g: Geometry) -> Normalizer:
    """The normaliser for a name or an object, settled for one problem.

    Raises:
        ValueError: an unknown name, or parameters that do not fit, such as sinks that are not one per head.
    """
    if isinstance(normalizer, str):
        if normalizer == "top_k":
            raise ValueError("normalizer 'top_k' needs to know how many; pass fv.normalizers.top_k(k)")
        if normalizer not in NAMED:
            names = ", ".join(repr(name) for name in NAMED)
            raise ValueError(f"unknown normalizer {normalizer!r}; expected {names} or one of fv.normalizers")
        normalizer = NAMED[normalizer]()
    if not isinstance(normalizer, Normalizer):
        raise ValueError(f"normalizer must be 'softmax' or one of fv.normalizers; got {type(normalizer).__name__}")
    return normalizer.settle(g)
