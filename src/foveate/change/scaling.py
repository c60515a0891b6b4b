"""Heads' outputs multiplied: by 0 (knocked out), by a number, or by a tensor through which gradients flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .errors import ChangeError
from .intervention import Intervention
from .naming import Pair, pairs_of

__all__ = ["Scaling", "factors_of"]


class Scaling(Intervention):
    """Multiplies the output of heads."""

    def __init__(self, model: nn.Module, given: Mapping[Pair, float | Tensor]) -> None:
        super().__init__(model, list(given))
        self.given = dict(given)

    def factors(self, name: str, batch: int, total: int) -> dict[int, float | Tensor]:
        found: dict[int, float | Tensor] = {}
        for pair, head in self.heads_of(name, total).items():
            factor = self.given[pair]
            if isinstance(factor, Tensor) and factor.ndim == 1 and len(factor) not in (1, batch):
                raise ChangeError(f"{pair}: {len(factor)} factors, one for each sequence, and a batch of {batch}")
            found[head] = found[head] * factor if head in found else factor
        return found


def factors_of(heads: Any, factor: Any) -> dict[Pair, float | Tensor]:
    """Pair -> factor, from a mapping, or from pairs and one factor for all of them.

    Raises:
        ValueError: both or neither, or a factor that is no finite number or floating tensor () or (B,).
    """
    if isinstance(heads, Mapping) == (factor is not None):
        raise ValueError("scale takes {(where, head): factor, ...}, or heads and one factor for all of them")
    given: dict[Any, Any] = dict(heads) if isinstance(heads, Mapping) else dict.fromkeys(pairs_of(heads), factor)
    return {pair: _factor(given[key]) for key in given for pair in pairs_of([key])}


def _factor(factor: Any) -> float | Tensor:
    rule = "a factor is a finite number, or a floating tensor () or, one for each sequence, (batch,)"
    if isinstance(factor, Tensor):
        if factor.ndim > 1 or not factor.is_floating_point():
            raise ValueError(f"{rule}; got {factor.dtype} of shape {tuple(factor.shape)}")
        return factor
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not math.isfinite(factor):
        raise ValueError(f"{rule}; got {factor!r}")
    return float(factor)
