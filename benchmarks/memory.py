"""The highest memory of this process, for benchmarks that measure it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak"]


def peak() -> int:
    """Bytes; from /proc where there is one: the other figure begins with that of the process which started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> int:
    """Begin anew from what is held now, where the system can (Linux); gives the peak as it stands, in bytes."""
    fresh = Path("/proc/self/clear_refs")
    if fresh.exists():
        fresh.write_text("5")
    return peak()
