"""How one weight comes about, number by number: the mechanism made visible."""

from __future__ import annotations

from typing import Any

import torch

from .normalizers import Softmax, lead
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
    row, column = slice(i, i + 1), slice(j, j + 1)
    group, d = h // p.shared, p.compute_dtype
    q, k = p.q_BHQD[b, h, i].to(d), p.k_BGKD[b, group, j].to(d)
    scaled = p.raw(*at, row, column)
    product = isinstance(p.score, Dot)
    bias = None if p.bias is None else float(p.bias.block(p.geometry, (*at, row, column), q[None, None, None]))
    ok = p.allowed(*at, row, column)
    plain = isinstance(p.normalizer, Softmax)
    sinks = p.normalizer.sinks if plain else None
    found_BHR = p.statistic(*at, row)
    found: dict[str, Any] = {
        "query": q.tolist(),
        "key": k.tolist(),
        "products": (q * k).tolist() if product else None,
        "score": float(p.score.raw(q[None], k[None]) if product else scaled),
        "score_name": p.score.name,
        "scale": p.score.scale if product else None,
        "softcap": p.score.softcap if product else None,
        "scaled": float(scaled),
        "bias": bias,
        "allowed": ok is None or bool(ok.all()),
        "sink": None if sinks is None else float(sinks[h]),
        "normalizer": p.normalizer.name,
        "logsumexp": float(found_BHR) if plain else None,
        "statistic": float(lead(found_BHR)),
        "statistic_name": p.normalizer.means,
        "weight": float(p.normalizer.weights(p.scores(*at, row, column), found_BHR, column)),
        "value": None,
        "contribution": None,
        "output": None,
    }
    return found if weights.value is None else found | _read(weights, b, h, i, j, found_BHR)


def _read(weights: Any, b: int, h: int, i: int, j: int, found_BHR: torch.Tensor) -> dict[str, Any]:
    """What the row reads from the values: the value of key j, its share, and the sum over all keys."""
    p, everyone = weights.problem, slice(0, weights.problem.geometry.keys)
    values = weights._v_BGKV[b, h // p.shared].to(p.compute_dtype)
    s = p.scores(slice(b, b + 1), slice(h, h + 1), slice(i, i + 1), everyone)
    w = p.normalizer.weights(s, found_BHR, everyone)[0, 0, 0, :, None]
    read = torch.where(w == 0, torch.zeros_like(values), w * values)
    return {"value": values[j].tolist(), "contribution": read[j].tolist(), "output": read.sum(0).tolist()}
