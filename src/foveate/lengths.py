"""How long the rows of a tensor are at most: what says that no score can leave float32's range.

A pass over all keys that a cache holds, for each token that is generated, costs as much as reading them. So a cache
passes over what is new, and notes a bound on the tensor that it hands out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["longest", "note"]

_NOTE = "_foveate_longest"


def longest(t: Tensor) -> Tensor:
    """A number, as a tensor (), that no row's Euclidean length exceeds; NaN or Inf if any entry is (or may be).

    One cheap pass, or what was noted, unless the tensor was changed since.
    """
    noted: tuple[Tensor, int] | None = t.__dict__.get(_NOTE)
    if noted is not None and noted[1] == t._version:
        return noted[0]
    if t.dtype.itemsize >= 4:
        if t.is_contiguous() or t.transpose(-3, -2).is_contiguous():
            return torch.linalg.vector_norm(t)
        return (t * t).sum().sqrt()  # part of a cache or joint projection: the norm crawls there
    return t.abs().amax().to(torch.float32) * math.sqrt(t.shape[-1])


def note(t: Tensor, bound: Tensor) -> None:
    """Have `longest` answer with this bound as long as the tensor stays as it is."""
    if not t.is_inference():  # which does not tell when it changes
        setattr(t, _NOTE, (bound, t._version))
