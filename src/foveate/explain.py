"""How one weight comes about, number by number: the mechanism made visible."""

from __future__ import annotations

from typing import Any

import torch

from .scores import Dot
from .shapes import full_precision

__all__ = ["explain"]


def explain(weights: Any, b: int, h: int, i: int, j: int) -> dict[str, Any]:
    """The parts of weight (b, h, i, j) of an `AttentionMap`, canonical indices; see `AttentionMap.explain`."""
    with torch.no_grad(), full_precision(weights.device):
        return _explain(weights, b, h, i, j)


def _explain(weights: Any, b: int, h: int, i: int, j: int) -> dict[str, Any]:
    p = weights.problem
    at = slice(b, b + 1), slice(h, h + 1)
    row, column, everyone = slice(i, i + 1), slice(j, j + 1), slice(0, p.geometry.keys)
    group, d = h // p.shared, p.compute_dtype
    q, k = p.q_BHQD[b, h, i].to(d), p.k_BGKD[b, group, j].to(d)
    raw = (
        p.score.raw(q[None], k[None]) if isinstance(p.score, Dot) else p.score(q[None, None, None], k[None, None, None])
    )
    place = (slice(b, b + 1), slice(h, h + 1), row, column)
    bias = None if p.bias is None else float(p.bias.block(p.geometry, place, q[None, None, None]))
    ok = p.allowed(*at, row, column)
    sinks = p.normalizer.sinks
    lse = p.statistic(*at, row)
    found: dict[str, Any] = {
        "query": q.tolist(),
        "key": k.tolist(),
        "products": (q * k).tolist(),
        "score": float(raw),
        "score_name": getattr(p.score, "name", getattr(p.score, "__name__", "function")),
        "scale": weights.scale,
        "softcap": p.score.softcap if isinstance(p.score, Dot) else None,
        "scaled": float(p.score(q[None, None, None], k[None, None, None])),
        "bias": bias,
        "allowed": ok is None or bool(ok.all()),
        "sink": None if sinks is None else float(sinks[h]),
        "logsumexp": float(lse),
        "weight": float(p.normalizer.weights(p.scores(*at, row, column), lse)),
        "value": None,
        "contribution": None,
        "output": None,
    }
    if weights.value is not None:
        values = weights._v_BGKV[b, group].to(d)
        row_weights = p.normalizer.weights(p.scores(*at, row, everyone), lse)[0, 0]
        found["value"] = values[j].tolist()
        read = torch.where(row_weights[0, :, None] == 0, torch.zeros_like(values), row_weights[0, :, None] * values)
        found["contribution"] = read[j].tolist()
        found["output"] = read.sum(0).tolist()
    return found
