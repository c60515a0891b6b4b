"""How fast to learn at which step."""

from __future__ import annotations

import math

__all__ = ["learning_rate"]


def learning_rate(step: int, steps: int, *, peak: float, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up to `peak`, then half a cosine down to `floor * peak`, where it stays from step `steps` on."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
