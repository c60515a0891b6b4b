"""Statistics of one attention layer without its weights: peak memory and time, beside the dense way and torch's own.

    python benchmarks/statistics_memory.py [--length 8192] [--heads 12] [--threads 1] [--repeats 3]

Each way runs in a process of its own: `statistics` (entropy, the 8 largest weights, attention received, a 64 x 64
thumbnail, in one pass), `dense` (the same from all weights, plain torch), `sdpa` (the output alone). Memory is the
highest resident size the process reached less that with only its inputs made. Times are the best of the repeats;
statistics and sdpa take turns in one process, so that a busy machine slows both; processor time hardly sees it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import foveate as fv
from figures import figure
from memory import peak

WIDTH = 64


def statistics(q: Tensor, k: Tensor) -> Any:
    reducers = (fv.stats.Entropy(), fv.stats.TopK(8), fv.stats.Received(), fv.stats.Pooled(64, 64))
    return fv.AttentionMap(q, k).reduce(*reducers)


def dense(q: Tensor, k: Tensor) -> Any:
    w = torch.softmax(q * WIDTH**-0.5 @ k.mT, -1)
    entropy = torch.special.entr(w).sum(-1)
    thumbnail = F.adaptive_max_pool2d(w, (64, 64))
    return entropy, w.topk(8), w.sum(-2), thumbnail


def sdpa(q: Tensor, k: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, k)


WAYS: dict[str, Callable[[Tensor, Tensor], Any]] = {"statistics": statistics, "dense": dense, "sdpa": sdpa}


def inputs(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    q, k = (torch.randn(1, options.heads, options.length, WIDTH) for _ in range(2))
    for way in WAYS.values():  # libraries are loaded and their threads started before anything is measured
        way(q[:, :1, :64], k[:, :1, :64])
    return q, k


def measure_memory(options: argparse.Namespace) -> dict[str, float]:
    q, k = inputs(options)
    before, start = peak(), time.perf_counter()
    WAYS[options.child](q, k)
    return {"seconds": time.perf_counter() - start, "MB": (peak() - before) / 1e6}


def measure_time(options: argparse.Namespace) -> dict[str, float]:
    """Best wall and processor seconds of `statistics` and of `sdpa`, in turns."""
    q, k = inputs(options)
    best: dict[str, float] = {}
    for _ in range(options.repeats):
        for name in ("statistics", "sdpa"):
            wall, processor = time.perf_counter(), time.process_time()
            WAYS[name](q, k)
            spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
            for clock, seconds in spent.items():
                best[f"{name} {clock}"] = min(seconds, best.get(f"{name} {clock}", seconds))
    return best


def ask(child: str, options: argparse.Namespace) -> dict[str, float]:
    shared = [f"--{name}={getattr(options, name)}" for name in ("length", "heads", "threads", "repeats")]
    done = subprocess.run([sys.executable, __file__, *shared, "--child", child], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{child} failed ({done.returncode}): {done.stderr[-500:]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory and time of the statistics of one attention layer.")
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=[*WAYS, "time"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_time(options) if options.child == "time" else measure_memory(options)))
        return
    n, heads = options.length, options.heads
    print(
        f"one layer, {heads} heads, n = {n}, width {WIDTH}, float32, {options.threads} thread(s); its weights: ", end=""
    )
    print(f"{heads * n * n * 4 / 1e9:.2f} GB")
    peaks = {}
    for name in WAYS:
        found = ask(name, options)
        peaks[name] = found["MB"]
        print(f"{name:12s} peak beyond inputs {found['MB']:8.0f} MB   first run {found['seconds']:6.2f} s", flush=True)
    title, threads = f"statistics of a layer at {n:,} tokens", options.threads
    figure(f"{title}: memory beyond inputs", peaks["statistics"], "MB", peer=("dense", peaks["dense"]), threads=threads)
    best = ask("time", options)
    for clock in ("wall", "processor"):
        ours, theirs = best[f"statistics {clock}"], best[f"sdpa {clock}"]
        print(f"statistics / sdpa forward, {clock} time: {ours / theirs:.2f}")
        figure(f"{title}: best {clock} time", ours, "s", peer=("sdpa forward", theirs), threads=threads)


if __name__ == "__main__":
    main()
