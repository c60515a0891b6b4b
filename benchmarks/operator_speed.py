"""Speed of the compiled core beside PyTorch's fused kernel: statistics, output, both, and masks and biases by rule.

    python benchmarks/operator_speed.py [--threads 1] [--repeats 7] [--only NAME] [--json FILE]

One line a figure: the ratio of times, its goal, what is compared, medians. Both sides take turns in one process, so
that a busy machine slows both; the ratio is the median over pairs. With one thread the clock is the processor's, else
the wall's. Memory is the highest resident size a process of its own reaches, less that with only its inputs made.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import foveate as fv
from figures import figure as say
from memory import forget_peak, peak

HEADS, WIDTH = 8, 64
MEMORY_GOAL = 64.0  # MB


@dataclass(frozen=True)
class Figure:
    name: str
    peer: str
    goal: float
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def reducers() -> list[Any]:
    grids = fv.stats.Pooled(64, 64, "max"), fv.stats.Pooled(64, 64, "mean")
    return [fv.stats.LogSumExp(), fv.stats.Entropy(), fv.stats.TopK(8), fv.stats.Received(), *grids]


def inputs(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, n, WIDTH, dtype=dtype) for _ in range(3))
    return q, k, v


def of_statistics(n: int, dtype: torch.dtype, goal: float, both: bool = False) -> Figure:
    q, k, v = inputs(n, dtype)
    weights = fv.AttentionMap(q, k)

    def ours() -> Any:
        return weights.read(v, *reducers()) if both else weights.reduce(*reducers())

    name = f"{'output and all' if both else 'all'} statistics, {str(dtype).removeprefix('torch.')}, n = {n:,}"
    return Figure(name, "SDPA", goal, ours, lambda: F.scaled_dot_product_attention(q, k, v))


def of_output(
    name: str, n: int, goal: float, peer: str, make: Callable[[int], dict[str, Any]], dense: Tensor
) -> Figure:
    q, k, v = inputs(n)
    return Figure(
        f"{name}, n = {n:,}",
        peer,
        goal,
        lambda: fv.attention(q, k, v, **make(n))[0],
        lambda: F.scaled_dot_product_attention(q, k, v, dense),
    )


def alibi(n: int) -> Tensor:
    """(heads, 2n - 1), by distance: the slopes of Press et al. (2022)."""
    slopes = 2.0 ** -torch.arange(1, HEADS + 1)
    return -slopes[:, None] * (torch.arange(2 * n - 1) - (n - 1)).abs()


def documents(n: int) -> Tensor:
    return torch.arange(n) // (n // 16)


def figures() -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Each by a key and made when it is its turn, so that their inputs do not pile up."""
    f32, bf16 = torch.float32, torch.bfloat16
    yield "statistics-4k", lambda: of_statistics(4096, f32, 0.6)
    yield "statistics-16k", lambda: of_statistics(16384, f32, 0.55)
    yield "both-4k", lambda: of_statistics(4096, f32, 1.1, both=True)
    yield "statistics-4k-bf16", lambda: of_statistics(4096, bf16, 0.8)
    yield "both-4k-bf16", lambda: of_statistics(4096, bf16, 0.8, both=True)

    def window() -> Figure:
        gap = torch.arange(8192) - torch.arange(8192)[:, None]
        mask = fv.masks.window(256)
        return of_output(
            "window 256", 8192, 0.08, "SDPA with a bool mask", lambda n: {"mask": mask}, (gap.abs() <= 256)[None, None]
        )

    def distance() -> Figure:
        n = 4096
        gap = torch.arange(n) - torch.arange(n)[:, None]
        table = alibi(n)
        bias = fv.biases.Distances(table)
        return of_output("ALiBi", n, 0.3, "SDPA with the bias", lambda n: {"bias": bias}, table[:, gap + n - 1][None])

    def packed() -> Figure:
        ids = documents(8192)
        mask = fv.masks.documents(ids)
        dense = (ids[:, None] == ids)[None, None]
        return of_output("16 documents of 512", 8192, 0.1, "SDPA with a bool mask", lambda n: {"mask": mask}, dense)

    def plain() -> Figure:
        q, k, v = inputs(4096)
        return Figure(
            "output alone, n = 4,096",
            "SDPA",
            1.1,
            lambda: fv.attention(q, k, v)[0],
            lambda: F.scaled_dot_product_attention(q, k, v),
        )

    def formed() -> Figure:
        n = 4096
        q, k, v = inputs(n)
        gap = torch.arange(n) - torch.arange(n)[:, None] + n - 1
        return Figure(
            f"ALiBi with its bias made, n = {n:,}",
            "SDPA with the bias made",
            0.3,
            lambda: fv.attention(q, k, v, bias=fv.biases.Distances(alibi(n)))[0],
            lambda: F.scaled_dot_product_attention(q, k, v, alibi(n)[:, gap][None]),
        )

    yield "window", window
    yield "alibi-made", formed
    yield "alibi", distance
    yield "documents", packed
    yield "output-4k", plain


def memory_ways(n: int) -> dict[str, Callable[[], Any]]:
    q, k, v = inputs(n)
    mask, packs, bias = fv.masks.window(256), fv.masks.documents(documents(n)), fv.biases.Distances(alibi(n))
    return {
        "statistics": lambda: fv.AttentionMap(q, k).reduce(*reducers()),
        "both": lambda: fv.AttentionMap(q, k).read(v, *reducers()),
        "window": lambda: fv.attention(q, k, v, mask=mask),
        "documents": lambda: fv.attention(q, k, v, mask=packs),
        "alibi": lambda: fv.attention(q, k, v, bias=bias),
        "sdpa": lambda: F.scaled_dot_product_attention(q, k, v),
    }


def measure_memory(which: str) -> float:
    """MB that one way takes beyond its inputs at n = 16,384, its result included."""
    memory_ways(256)[which]()  # libraries are loaded before anything is measured
    way = memory_ways(16384)[which]
    before = forget_peak()
    way()
    return (peak() - before) / 1e6


def compare(figure: Figure, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    figure.ours(), figure.theirs()
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for name, work in (("ours", figure.ours), ("theirs", figure.theirs)):
            start = clock()
            work()
            times[name].append(clock() - start)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
    return {"ratio": ratio} | {f"{name}_ms": statistics.median(spent) * 1e3 for name, spent in times.items()}


def report(options: argparse.Namespace) -> list[dict[str, Any]]:
    clock = time.process_time if options.threads == 1 else time.perf_counter
    rows: list[dict[str, Any]] = []
    for key, make in figures():
        if options.only not in key:
            continue
        figure = make()
        found = compare(figure, options.repeats, clock)
        rows.append({"name": figure.name, "peer": figure.peer, "goal": figure.goal} | found)
        say(
            figure.name, found["ratio"], "x", goal=f"<= {figure.goal}", peer=(figure.peer, 1.0), threads=options.threads
        )
        print(f"    {found['ours_ms']:.1f} ms, {figure.peer} {found['theirs_ms']:.1f} ms", flush=True)
    for which in memory_ways(256):
        if options.only not in f"memory-{which}":
            continue
        command = [sys.executable, __file__, "--threads", str(options.threads), "--child", which]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"name": f"memory, {which}, n = 16,384", "goal": MEMORY_GOAL, "MB": float(done.stdout)})
        goal = None if which == "sdpa" else f"<= {MEMORY_GOAL}"
        say(f"beyond the inputs, {which}, n = 16,384", rows[-1]["MB"], "MB", goal=goal, threads=options.threads)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the compiled core beside PyTorch's fused kernel.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="only figures whose key holds this")
    parser.add_argument("--json", type=Path, help="write the result, with date and machine, to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(measure_memory(options.child))
        return
    told = fv.config()
    print(f"{told}; torch {torch.__version__}, float32 unless said, {HEADS} heads, width {WIDTH}")
    rows = report(options)
    if options.json:
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        about = {"date": when, "machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        options.json.write_text(json.dumps(about | asdict(told) | {"figures": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
