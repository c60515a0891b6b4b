"""Looking around in one layer of a long text, at the door of the page's server: maps, tiles, rows.

    python benchmarks/long_maps.py [--tokens 32768 131072] [--heads 12] [--width 64] [--threads 2]

A causal layer with random queries and keys is recorded on disk and opened as the page opens it. Measured are: the time
until a map of the whole head can be drawn and until it has passed over all rows; tiles of 256 x 256 pixels at random
places and zooms, once the overview is there; the 32 largest weights of random rows in all heads; and the 32 queries
of one head that read a random token most, whose overview is there. No other tool
holds such a map, so there is no peer beside it: the weights of one head alone would be 4 GB at 32,768 tokens, and 69 GB
at 131,072.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import foveate as fv
from figures import figure
from foveate.normalizers import Softmax
from foveate.recording import CallInfo, MemoryCall, Recording
from foveate.scores import Dot
from foveate.views.source import Source
from foveate.views.words import from_pieces

ASKED = 200
GOALS = {32768: {"first": "<= 2", "all": "<= 12", "row": "<= 50"}, 131072: {"tile": "<= 60", "row": "<= 150"}}


def recorded(folder: Path, tokens: int, heads: int, width: int) -> Path:
    """One causal layer on disk. Queries and keys drift, so that there is something to see."""
    draw = torch.Generator().manual_seed(1)
    drift = torch.randn(tokens // 64 + 1, width, generator=draw).cumsum(0).repeat_interleave(64, 0)[:tokens] * 0.3
    q, k = (torch.randn(1, heads, tokens, width, generator=draw) + drift for _ in range(2))
    info = CallInfo("layers.0.attention", "decoder", "layer 0", 0, heads, "Attention")
    parts = {"score": Dot(width**-0.5), "normalizer": Softmax(), "mask": fv.masks.causal()}
    seen = Recording()
    seen._add(MemoryCall(info, 0, q, k, None, parts))
    seen.save(folder / "run.fov")
    return folder / "run.fov"


def p95(ask: Callable[[], object], count: int) -> float:
    """Milliseconds that 95 % of the answers take at most."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.percentile(taken, 95))


def measure(path: Path, tokens: int, threads: int) -> None:
    goals, chance = GOALS.get(tokens, {}), random.Random(1)
    start = time.perf_counter()
    source = Source(fv.load(path), [from_pieces(["token"] * tokens)])
    one = source._overview(0, 0, 3)
    while not one.tile(one.last_zoom, 0, 0, "max").pixels.any():
        one.step()
    figure(f"{tokens:,} tokens: a head's map, first seen", time.perf_counter() - start, "s",
           goal=goals.get("first"), threads=threads)  # fmt: skip
    while one.step():
        pass
    figure(f"{tokens:,} tokens: the same, all rows", time.perf_counter() - start, "s",
           goal=goals.get("all"), threads=threads)  # fmt: skip

    def tile() -> None:
        zoom = chance.randint(0, one.last_zoom)
        last = (tokens - 1) // (256 << zoom)
        one.tile(zoom, chance.randint(0, last), chance.randint(0, last), chance.choice(("max", "mean")))

    figure(
        f"{tokens:,} tokens: a tile at any place, p95", p95(tile, ASKED), "ms", goal=goals.get("tile"), threads=threads
    )
    row = p95(lambda: source.topk(0, 0, chance.randrange(tokens), "reads", "token", 32), ASKED // 4)
    figure(f"{tokens:,} tokens: a row of all heads, p95", row, "ms", goal=goals.get("row"), threads=threads)

    def column() -> None:
        key = chance.randrange(tokens)
        one.column(key, key + 1).topk(32)

    read = p95(column, ASKED // 4)
    figure(f"{tokens:,} tokens: who reads a token in one head, p95", read, "ms", threads=threads)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    options.add_argument("--heads", type=int, default=12)
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    for tokens in chosen.tokens:
        with tempfile.TemporaryDirectory() as folder:
            measure(recorded(Path(folder), tokens, chosen.heads, chosen.width), tokens, chosen.threads)


if __name__ == "__main__":
    main()
