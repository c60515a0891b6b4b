"""What `fv.attention` adds to a small call: its time over SDPA's, float32, batch 1, 8 heads of width 64.

    python benchmarks/small_calls.py [--threads 1] [--repeats 2000]

Both sides take turns, so that a busy machine slows both; medians. `sdpa` names the same kernel as SDPA itself, so its
line is the pure overhead of checking, choosing and making the map; `auto` is what a user gets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

import foveate as fv
from figures import figure

GOAL = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2000, help="calls of each at n = 128 (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for n in (128, 1024):
        q, k, v = torch.randn(3, 1, 8, n, 64, generator=torch.Generator().manual_seed(0))
        calls: dict[str, Callable[[], object]] = {
            "SDPA": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v),
            "auto": lambda q=q, k=k, v=v: fv.attention(q, k, v),
            "sdpa": lambda q=q, k=k, v=v: fv.attention(q, k, v, backend="sdpa"),
        }
        spent = medians(calls, max(20, given.repeats * 128 * 128 // (n * n)))
        for name in ("auto", "sdpa"):
            said = f"fv.attention, backend {name!r}, n = {n:,}"
            figure(said, spent[name] / spent["SDPA"], "x", goal=f"<= {GOAL}", peer=("SDPA", 1.0), threads=given.threads)
        print(f"  SDPA {spent['SDPA'] * 1e6:,.0f} us, auto {spent['auto'] * 1e6:,.0f}, sdpa {spent['sdpa'] * 1e6:,.0f}")


@torch.no_grad()
def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each call, taken in turns."""
    for call in calls.values():
        for _ in range(5):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(spent) for name, spent in times.items()}


if __name__ == "__main__":
    main()
