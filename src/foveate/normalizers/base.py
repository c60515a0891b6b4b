"""What a normaliser is: a few numbers per row, built block by block, from which any block's weights follow.

That split is what lets a single tile be computed exactly without the rest of the matrix.

Masked scores are -inf. **A row that may see no key has the statistic -inf and weights 0**, and a row that holds NaN or
+inf has the statistic NaN and weights NaN. `safe` and `lead` are what every normaliser does both with.

Axes: b batch, h heads, R rows (some queries), C columns (some keys), S numbers in a row's statistic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..shapes import Geometry, Picked, is_tracked, sum_dtype

__all__ = ["Blocks", "Normalizer", "lead", "safe", "spoil", "top_of"]

Blocks = Iterable[tuple[Picked, Tensor]]  # which keys, and the scores (b, h, R, C) of some rows for them


class Normalizer:
    """Base of all normalisers. Subclasses define `name`, `statistic`, `weights` and `dense`."""

    means: ClassVar[str] = "threshold"  # what the first number of a row's statistic is, in words
    numbers: int | None = None  # S, where a row's statistic is more than one number
    gathers: ClassVar[bool] = False  # whether `statistic` holds a row's scores all at once

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is computed from besides scores, and gradients may flow to."""
        return ()

    @property
    def has_sink(self) -> bool:
        """Whether something other than keys takes a share, so that a row without any score is no error."""
        return False

    def settle(self, g: Geometry) -> Normalizer:
        """This normaliser for one problem; ValueError if it cannot belong to it."""
        return self

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R *S"]:
        """The rows' statistic from blocks that together hold all their keys, in the order of the keys.

        `empty` (b, h, R) gives shape, dtype (that of sums, see `shapes.sum_dtype`) and device, for rows with no block
        at all; `heads` selects these blocks' heads out of parameters (H,).
        """
        raise NotImplementedError

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R *S"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        """The weights of a block, from its scores and its rows' statistic. `columns` are its keys, (C,) or (R, C)."""
        raise NotImplementedError

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        """The plain definition, on all scores at once; every row has a finite one. Only the oracle asks for it."""
        raise NotImplementedError

    def rows(
        self, s: Float[Tensor, "b h R C"], heads: Any = slice(None), columns: Picked = slice(0, 0)
    ) -> tuple[Float[Tensor, "b h R *S"], Float[Tensor, "b h R C"]]:
        """Statistic and weights of whole rows at once."""
        found = self.statistic([(columns, s)], s.new_zeros(s.shape[:3], dtype=sum_dtype(s.device)), heads)
        return found, self.weights(s, found, columns)

    def log_weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R *S"], weights: Float[Tensor, "b h R C"]
    ) -> Float[Tensor, "b h R C"]:
        """Natural log of a block's `weights`, a new tensor; -inf where they are 0."""
        return torch.log(weights)


def safe(x: Tensor) -> Tensor:
    """-inf -> 0, so that `exp(score - x)` of an empty row is exp(-inf - 0) = 0 and not NaN."""
    return torch.where(x == -torch.inf, torch.zeros_like(x), x)


def lead(statistic: Float[Tensor, "b h R *S"]) -> Float[Tensor, "b h R"]:
    """The first number of each row's statistic: -inf where the row sees no key, NaN where it is NaN."""
    return statistic if statistic.ndim == 3 else statistic[..., 0]


def top_of(blocks: Blocks, empty: Float[Tensor, "b h R"]) -> Float[Tensor, "b h R"]:
    """The largest score of each row, a constant: -inf where it sees no key, NaN where one is NaN or +inf."""
    top = torch.full_like(empty, -torch.inf)
    for _, s in blocks:
        if s.shape[-1]:
            top = torch.maximum(top, s.detach().amax(-1).to(top.dtype))
    return torch.where(top == torch.inf, torch.nan, top)


def spoil(weights: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R *S"]) -> Float[Tensor, "b h R C"]:
    """The weights, NaN in rows whose statistic is: for normalisers that would give such rows a plain number."""
    return torch.where(torch.isnan(lead(statistic))[..., None], torch.nan, weights)


def exp(fresh: Tensor) -> Tensor:
    """exp of a tensor nobody else holds."""
    return torch.exp(fresh) if is_tracked(fresh) else fresh.exp_()


def times(fresh: Tensor, factor: Tensor) -> Tensor:
    """A product with a tensor nobody else holds."""
    return fresh * factor if is_tracked(fresh, factor) else fresh.mul_(factor)
