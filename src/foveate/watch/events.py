"""What an interceptor hands over: one attention call in foveate's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..biases import Bias
from ..masks import Mask

__all__ = ["Event", "NotExpressibleError"]


class NotExpressibleError(Exception):
    """A call whose weights our terms cannot give; the text says why. It is reported as not captured."""


@dataclass(frozen=True)
class Event:
    """One attention call: (B, H, Q, D), (B, G, K, D), (B, G, K, V) and how its weights come about.

    `scale` is the factor on q.k; `kind` is "cross" or "decoder" if the interceptor knows, else None. `output` is
    (B, H, Q, V), what the model computed, if it is at hand. `score` and `normalizer` take the place of scale, softcap
    and sinks for calls of our own operator.
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
    dropout: float = 0.0
    score: Any = None
    normalizer: Any = None
