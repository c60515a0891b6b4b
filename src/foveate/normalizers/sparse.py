"""Sparsemax and 1.5-entmax: exact zeros beyond a threshold.

Both have closed forms once the support (the keys above the threshold) is known. It is found by sorting a row, as a
constant; the threshold is then computed from the scores in it, so derivatives of any order come from autograd. Keys of
equal scores get equal weights; a key exactly at the threshold has weight 0 and no derivative.

Axes: b batch, h heads, R rows (some queries), C columns (some keys).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..describe import describable
from ..shapes import Picked, is_traced, is_tracked
from .base import Blocks, Normalizer, safe

__all__ = ["Entmax15", "Sparsemax"]


class Thresholded(Normalizer):
    """Weights that are a power of how far a score lies above the row's threshold, which is the statistic.

    Scores are halved for entmax (`factor`); x below is a score times the factor, minus the row's largest such.
    """

    gathers: ClassVar[bool] = True
    factor: ClassVar[float] = 1.0

    def candidates(self, z: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        """The thresholds that rows of only the n largest would have, n = 1 .. C, from sorted x."""
        raise NotImplementedError

    def _sorted(self, z: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R 1"]:
        """The threshold on x, from sorted x: that of the n largest, n as large as leaves the n-th above it."""
        t = self.candidates(z)
        return t.gather(-1, ((z >= t).sum(-1, keepdim=True) - 1).clamp(min=0))

    def threshold(self, x: Float[Tensor, "b h R C"], inside: Bool[Tensor, "b h R C"]) -> Float[Tensor, "b h R"]:
        """The threshold on x, from those inside the support; differentiable."""
        raise NotImplementedError

    def power(self, above: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        """Weights from how far x lies above the threshold, 0 or more."""
        raise NotImplementedError

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        parts = [s for _, s in blocks if s.shape[-1]]
        if not parts:
            return torch.full_like(empty, -torch.inf)
        s = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        top = s.detach().amax(-1)
        c = safe(top)
        x = (s - c[..., None]) * self.factor
        found = self._sorted(_near(x.detach()).to(empty.dtype))
        if is_tracked(x):
            inside = x.detach() > found
            found = self.threshold(x.to(empty.dtype), inside)[..., None]
        found = c.to(empty.dtype) + found[..., 0] / self.factor
        odd = torch.where(top == -torch.inf, top, torch.nan).to(found.dtype)
        return torch.where(
            torch.isfinite(top) & (found < c), found, odd
        )  # NaN where c is so large that 1 is lost in it

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        """(s - c) + (c - threshold), c the block's own row maximum: that rounds less than s - threshold would."""
        if s.shape[-1] == 0:
            return s
        top, threshold = s.detach().amax(-1), safe(statistic)
        c = torch.where(top == -torch.inf, threshold.detach().to(s.dtype), top)
        room = (c.to(threshold.dtype) - threshold).to(s.dtype)[..., None]
        return self.power(torch.relu(((s - c[..., None]) + room) * self.factor))

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        """The published algorithms, differentiated through the sort."""
        x = (s_BHQK - s_BHQK.amax(-1, keepdim=True).detach()) * self.factor
        z = x.clamp(min=-2).sort(dim=-1, descending=True).values
        return self.power(torch.relu(x - self._sorted(z)))


def _near(x: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R n"]:
    """The largest x of each row, sorted: all that can be in a support, as what lies 1 or more below the largest cannot.

    The largest is 0; -2 stands for all that lies below that.
    """
    if not is_traced():
        most = int((x > -1).sum(-1).amax()) if x.numel() else 0
        if most < x.shape[-1] // 4:
            return x.topk(max(1, most), dim=-1).values.clamp(min=-2)
    return x.clamp(min=-2).sort(dim=-1, descending=True).values


@describable
@dataclass(frozen=True)
class Sparsemax(Thresholded):
    """max(s - t, 0) with the threshold t at which the weights sum to 1 (Martins & Astudillo 2016, eq. 3).

    The support is found by sorting, as there.
    """

    @property
    def name(self) -> str:
        return "sparsemax"

    def candidates(self, z: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        n = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
        return (z.cumsum(-1) - 1) / n

    def threshold(self, x: Float[Tensor, "b h R C"], inside: Bool[Tensor, "b h R C"]) -> Float[Tensor, "b h R"]:
        total = torch.where(inside, x, torch.zeros_like(x)).sum(-1)
        return (total - 1) / inside.sum(-1).clamp(min=1)

    def power(self, above: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        return above


@describable
@dataclass(frozen=True)
class Entmax15(Thresholded):
    """max((s - t) / 2, 0)^2 with the threshold t at which the weights sum to 1 (Peters et al. 2019).

    The support is found by sorting, as there.
    """

    factor: ClassVar[float] = 0.5

    @property
    def name(self) -> str:
        return "entmax15"

    def candidates(self, z: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        """From mean and variance of the n largest; the mean, which is above the n-th, where no threshold will do."""
        n = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
        mean = z.cumsum(-1) / n
        room = 1 - (z.square().cumsum(-1) - n * mean.square())
        possible = room > 0
        return mean - torch.where(possible, (torch.where(possible, room, 1.0) / n).sqrt(), 0.0)

    def threshold(self, x: Float[Tensor, "b h R C"], inside: Bool[Tensor, "b h R C"]) -> Float[Tensor, "b h R"]:
        n = inside.sum(-1).clamp(min=1)
        nothing = torch.zeros_like(x)
        mean = torch.where(inside, x, nothing).sum(-1) / n
        spread = torch.where(inside, x - mean[..., None], nothing).square().sum(-1)
        return mean - ((1 - spread).clamp(min=0) / n).sqrt()

    def power(self, above: Float[Tensor, "b h R C"]) -> Float[Tensor, "b h R C"]:
        return above.square()
