"""Does what we understood of a call give what the model computed? One row per module says."""

from __future__ import annotations

import torch

from ..map import AttentionMap
from ..normalizers import Softmax
from ..scores import Dot
from .events import Event

__all__ = ["reproduces"]

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-3}


def reproduces(event: Event) -> bool:
    """Whether the last query's weights, read from the values, give the last row of the output.

    True where there is nothing to compare: no output at hand, dropout, an empty call.
    """
    out, v = event.output, event.value
    if out is None or v is None or event.dropout or event.query.shape[-2] == 0 or event.key.shape[-2] == 0:
        return True
    whole = AttentionMap(
        event.query.detach(),
        event.key.detach(),
        score=event.score or Dot(event.scale, event.softcap),
        normalizer=event.normalizer or Softmax(None if event.sinks is None else event.sinks.detach()),
        mask=event.mask,
        bias=event.bias,
        dtype=torch.promote_types(event.query.dtype, torch.float32),
    )
    w = whole[0, :, event.query.shape[-2] - 1]  # (H, K)
    if not bool((w.sum(-1) > 0).all()):
        return True  # nothing visible, or NaN: the model has its own convention there
    values = v[0].detach().to(w.dtype).repeat_interleave(w.shape[0] // v.shape[1], dim=0)
    mine = (w[:, None, :] @ values)[:, 0]
    off = (mine - out[0, :, -1].detach().to(w.dtype)).abs().max()
    size = values.abs().max()
    return bool(off <= _TOLERANCE.get(out.dtype, 3e-2) * size) or not bool(torch.isfinite(off))
