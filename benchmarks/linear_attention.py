"""Causal linear attention at n and 4 n beside softmax attention: time, its growth, and peak memory.

    python benchmarks/linear_attention.py [--tokens 16384] [--heads 8] [--width 64] [--json]

Each row is measured in a process of its own, at a quarter of the tokens and at all of them, one thread, float32. Memory
is the peak of the process beyond its state before the call, inputs and output included in neither (with a backward:
output and gradients are). To reach: time at 4 times the length at most 4.4 times as long (softmax: about 16).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import torch

import foveate as fv
from figures import figure
from memory import forget_peak, peak

ROWS = {
    "linear, elu": {},
    "linear, favor": {"feature_map": "favor"},
    "gate per head": {"gate": "scalar"},
    "gate per feature": {"gate": "channel"},
    "delta": {"beta": True, "feature_map": "identity"},
    "linear, backward too": {"backward": True},
    "softmax (fused)": None,
}


def call(name: str, tokens: int, heads: int, width: int) -> Any:
    """A function that computes one row once."""
    q, k, v = torch.randn(3, heads, tokens, width, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] | None = None if ROWS[name] is None else dict(ROWS[name])
    if options is None:
        return lambda: fv.attention(q, k, v, mask=fv.masks.causal())[0]
    if options.pop("backward", False):
        q, k, v = (t.requires_grad_() for t in (q, k, v))
        return lambda: fv.linear_attention(q, k, v)[0].sum().backward()
    if "gate" in options:
        last = (width,) if options["gate"] == "channel" else ()
        options["gate"] = -torch.rand(heads, tokens, *last)
    if "beta" in options:
        options["beta"] = torch.rand(heads, tokens)
        k = torch.nn.functional.normalize(k, dim=-1)
    return lambda: fv.linear_attention(q, k, v, **options)[0]


def measure(name: str, tokens: int, heads: int, width: int, repeats: int) -> dict[str, float]:
    """In this process: the least time of some calls, and the peak memory of the first."""
    torch.set_num_threads(1)
    call(name, 256, heads, width)()  # what the libraries need once
    run = call(name, tokens, heads, width)
    before = forget_peak()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        out = run()
        times.append(time.process_time() - start)
        grown = peak() - before - (0 if out is None else out.nbytes)
        memory = grown if len(times) == 1 else memory
        del out
    return {"seconds": min(times), "bytes": max(0, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.row:
        print(json.dumps(measure(a.row, a.tokens, a.heads, a.width, a.repeats)))
        return
    found = {}
    for name in ROWS:
        sizes = {n: alone(name, n, a) for n in (a.tokens // 4, a.tokens)}
        few, many = sizes.values()
        found[name] = many | {"ratio": many["seconds"] / few["seconds"]}
        if not a.json:
            line = f"{name:22} {many['seconds']:8.2f} s   x4 tokens: x{found[name]['ratio']:5.2f}"
            print(f"{line}   {many['bytes'] / 1e6:7.1f} MB beyond inputs and output", flush=True)
    if a.json:
        print(json.dumps(found))
        return
    plain, softmax = found["linear, elu"], found["softmax (fused)"]
    size = f"causal, {a.tokens:,} tokens"
    peer = ("softmax", softmax["ratio"])
    figure(
        f"linear attention, {size}: time for 4 times the length",
        plain["ratio"],
        "x",
        goal="<= 4.4",
        peer=peer,
        threads=1,
    )
    figure(f"linear attention, {size}", plain["seconds"], "s", peer=("softmax", softmax["seconds"]), threads=1)
    memory = plain["bytes"] / 1e6
    figure(f"linear attention, {size}: memory", memory, "MB", peer=("softmax", softmax["bytes"] / 1e6), threads=1)


def alone(name: str, tokens: int, a: argparse.Namespace) -> dict[str, float]:
    options = {"tokens": tokens, "heads": a.heads, "width": a.width, "repeats": a.repeats}
    flags = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, __file__, f"--row={name}", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
