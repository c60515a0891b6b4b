"""Small pieces every training run here shares: the learning-rate schedule, the log, the time left."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["Progress", "learning_rate"]


def learning_rate(step: int, steps: int, *, peak: float, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up to `peak`, then half a cosine down to `floor * peak` at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


class Progress:
    """Appends JSON lines to `path` and prints one readable line per report."""

    def __init__(self, path: Path, steps: int, *, first: int = 0, seconds: float = 0.0) -> None:
        self.path, self.steps, self.first = path, steps, first
        self.before, self.start = seconds, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        """Wall time spent on training, including the runs that this one resumed."""
        return self.before + time.monotonic() - self.start

    def report(self, step: int, **values: Any) -> None:
        """Log the values after `step` steps, with the time left at the pace of this run."""
        done = max(1, step - self.first)
        left = (time.monotonic() - self.start) / done * (self.steps - step)
        record = {"step": step, "seconds": round(self.seconds, 1), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"step {step}/{self.steps}  {shown}  {left / 60:.1f} min left", file=sys.stderr, flush=True)
