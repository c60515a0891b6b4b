"""`attention`: the public operator. It validates, chooses a backend and calls it.

Axes: B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D head width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from .map import AttentionMap, pose
from .masks import Mask
from .normalizers import Normalizer
from .operator import BACKENDS, choose, tell
from .ragged import by_sequence, is_nested
from .scores import Score
from .shapes import full_precision

__all__ = ["attention"]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    score: str | Score | Callable[[Tensor, Tensor], Tensor] = "scaled_dot",
    scale: float | None = None,
    mask: Mask | Any | None = None,
    bias: Any | None = None,
    normalizer: str | Normalizer = "softmax",
    dropout: float = 0.0,
    backend: str = "auto",
) -> tuple[Any, AttentionMap]:
    """Soft lookup: compare each query with the keys, normalise, read the values as a weighted sum.

    `normalizer(score(q, k) + bias) v` over the keys that `mask` allows: softmax of scaled products, unless said
    otherwise (Vaswani et al. 2017, eq. 1).

    Args:
        query: (..., H, Q, D), or (Q, D), or one query (D,). Tensors, or arrays and lists for a NumPy result.
        key: (..., G, K, D), G divides H: query head h reads key head h // (H / G). Or (K, D).
        value: (..., G, K, V), or (K, V).
        score: "scaled_dot" (q.k / sqrt(D)), "dot", one of `fv.scores`, or a function on blocks
            `(..., R, D), (..., C, E) -> (..., R, C)`.
        scale: replaces the score's own factor.
        mask: one of `fv.masks`, or booleans that broadcast to (..., H, Q, K). True = may attend.
        bias: numbers that broadcast to (..., H, Q, K), added to the scores. An entry at or below its dtype's
            smallest finite number hides its key, so a row of only such entries sees nothing.
        normalizer: "softmax" or one of `fv.normalizers`.
        dropout: probability of dropping a weight when reading, 0 <= dropout < 1. `weights` shows them undropped.
        backend: "auto", or "sdpa" (fused), "blocks" (anything, memory independent of Q x K), "reference" (dense).

    Returns:
        output: (..., H, Q, V) in the inputs' dtype; sums run in float32 or wider.
        weights: an `AttentionMap` (..., H, Q, K): lazy, exact, free until it is looked at.

    Nested tensors (B, H, j, D) of layout torch.jagged are taken sequence by sequence, and the mask and bias are those
    of each sequence: the output is nested like the query, and `weights` a tuple with the map of each sequence.

    A query that may see no key reads zeros. NaN, or scores that overflow, make NaN rows, which
    `weights.nan_rows()` lists. A value with weight 0 is never read, whatever it holds.

    Raises:
        ValueError: shapes, heads, scale, bias or backend break a rule; the text names it.
        TypeError: dtypes that differ, or a mask that is not boolean.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1; got {dropout}")
    if is_nested(query, key, value):
        parts: dict[str, Any] = {"score": score, "scale": scale, "mask": mask, "bias": bias, "normalizer": normalizer}
        each = partial(attention, **parts, dropout=dropout, backend=backend)
        return by_sequence(each, query, key, value)  # type: ignore[return-value]
    weights, v_BGKV = pose(query, key, value, score=score, scale=scale, mask=mask, bias=bias, normalizer=normalizer)
    assert v_BGKV is not None
    problem = weights.problem
    chosen = choose(problem, v_BGKV, backend, dropout)
    with full_precision(v_BGKV.device):
        out_BHQV = BACKENDS[chosen.backend](problem, v_BGKV, dropout)
    weights, out_BHQV = tell(weights, v_BGKV, out_BHQV, dropout)
    return weights.layout.restore(out_BHQV), weights
