"""Look up 64 queries in 1,000,000 keys of width 64: time and peak memory beside a plain topk and FAISS.

    python benchmarks/lookup.py [--keys 1000000] [--queries 64] [--k 32] [--json]

Each row is measured in a process of its own, one thread, float32; memory is the peak beyond the keys. "mapped" reads
the keys from a file on disk, whose pages, 256 MB, the system counts too. The flat index of FAISS is exact as well, and
holds a copy of the keys (not counted).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foveate as fv
from figures import figure
from memory import forget_peak, peak

ROWS = ["fv.lookup", "fv.lookup, mapped", "fv.lookup, all keys", "torch topk", "torch softmax, all keys", "faiss flat"]
WIDTH = 64


def call(name: str, keys: int, queries: int, k: int, folder: str) -> Callable[[], Any]:
    draw = torch.Generator().manual_seed(0)
    memory, query = torch.randn(keys, WIDTH, generator=draw), torch.randn(queries, WIDTH, generator=draw)
    if name == "fv.lookup, mapped":
        place = Path(folder) / "keys"
        memory.numpy().tofile(place)
        mapped = np.memmap(place, dtype=np.float32, mode="r", shape=(keys, WIDTH))
        return lambda: fv.lookup(query, mapped, k=k)
    if name == "faiss flat":
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(WIDTH)
        index.add(memory.numpy())
        return lambda: index.search(query.numpy(), k)
    if name == "torch topk":
        return lambda: (query @ memory.mT * WIDTH**-0.5).topk(k)
    if name == "torch softmax, all keys":
        return lambda: torch.softmax(query @ memory.mT * WIDTH**-0.5, -1) @ memory
    return lambda: fv.lookup(query, memory, k=None if "all" in name else k)


def measure(name: str, a: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = call(name, a.keys, a.queries, a.k, folder)
        call(name, 10_000, 2, a.k, folder)() if "mapped" not in name else None
        before, times = forget_peak(), []
        for _ in range(a.repeats):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return {"seconds": min(times), "bytes": peak() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.row:
        print(json.dumps(measure(a.row, a)))
        return
    found = {}
    for name in ROWS:
        flags = [f"--{key}={getattr(a, key)}" for key in ("keys", "queries", "k", "repeats")]
        command = [sys.executable, __file__, f"--row={name}", *flags]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        found[name] = json.loads(done.stdout)
        if not a.json:
            one = found[name]
            print(f"{name:24} {one['seconds']:7.3f} s {one['bytes'] / 1e6:9.1f} MB beyond the keys", flush=True)
    if a.json:
        print(json.dumps(found))
        return
    ours, plain, faiss = (found[name] for name in ("fv.lookup", "torch topk", "faiss flat"))
    size = f"lookup of {a.queries} queries in {a.keys:,} keys"
    figure(size, ours["seconds"], "s", peer=("FAISS flat", faiss["seconds"]), threads=1)
    figure(f"{size}: memory", ours["bytes"] / 1e6, "MB", peer=("torch topk", plain["bytes"] / 1e6), threads=1)


if __name__ == "__main__":
    main()
