"""What an interceptor hands over: one attention call, and what it is in foveate's own terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..biases import Bias
from ..map import AttentionMap
from ..masks import Mask
from ..normalizers import Softmax
from ..scores import Dot

__all__ = ["Call", "Event", "NotExpressibleError", "Put"]

Put = Callable[[Tensor, AttentionMap | None], Any]


class NotExpressibleError(Exception):
    """A call whose weights our terms cannot give; the text says why. It is reported as not captured."""


@dataclass(frozen=True)
class Event:
    """One attention call: (B, H, Q, D), (B, G, K, D), (B, G, K, V) and how its weights come about.

    `scale` is the factor on q.k; `kind` is "cross" or "decoder" if the interceptor knows, else None. `output` is
    (B, H, Q, V), what the model computed, if it is at hand, and `weights` (B, H, Q, K) those that it gave out. `score`
    and `normalizer` take the place of scale, softcap and sinks for calls of our own operator.
    """

    query: Tensor
    key: Tensor
    value: Tensor | None
    scale: float = 1.0
    softcap: float | None = None
    mask: Mask | None = None
    bias: Tensor | Bias | None = None
    sinks: Tensor | None = None
    kind: str | None = None
    output: Tensor | None = None
    weights: Tensor | None = None
    dropout: float = 0.0
    score: Any = None
    normalizer: Any = None

    def map(self, dtype: torch.dtype | None = None) -> AttentionMap:
        """The weights, of the call's own queries and keys, in the query's dtype unless another is given."""
        return AttentionMap(
            self.query,
            self.key,
            score=self.score or Dot(self.scale, self.softcap),
            normalizer=self.normalizer or Softmax(self.sinks),
            mask=self.mask,
            bias=self.bias,
            dtype=dtype,
        )

    def detached(self) -> Event:
        """The same call, whose weights have no gradients."""
        sinks = None if self.sinks is None else self.sinks.detach()
        bias = self.bias.detach() if isinstance(self.bias, Tensor) else self.bias
        return replace(self, query=self.query.detach(), key=self.key.detach(), sinks=sinks, bias=bias)


@dataclass(frozen=True)
class Call:
    """A call that has been made, of `module` (None: of the innermost module that runs).

    `event()` says what it was. `open()` gives the output of its heads, (B, H, Q, V), and a function that makes what the
    caller is given from another output and, where that holds weights as numbers, from the map of other weights (None:
    the weights are as they were). `result` is what the caller is given; None where `open` has yet to compute it.
    """

    module: nn.Module | None
    result: Any
    event: Callable[[], Event]
    open: Callable[[], tuple[Tensor, Put]]
