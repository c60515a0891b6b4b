"""Time of a forward pass watched / unwatched, GPT-2-small shape, n = 1,024, an fp16 copy of queries and keys kept.

    python benchmarks/watch_time.py [--n 1024] [--rounds 15] [--busy]

Rounds alternate the order of the three, so that a busy machine slows all alike; the figure is the median of the
rounds' ratios. The peer is `output_attentions=True` (the eager path, all maps kept) over unwatched sdpa. On a machine
that others use too, wall time says little: `--busy` takes one thread and counts its processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import GPT2Config, GPT2Model

import foveate as fv
from figures import figure

GOAL = 1.05


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--busy", action="store_true", help="one thread, processor time")
    chosen = options.parse_args()
    clock = time.perf_counter
    if chosen.busy:
        torch.set_num_threads(1)
        clock = time.process_time
    config = GPT2Config(n_positions=max(1024, chosen.n), use_cache=False)
    torch.manual_seed(0)
    fused = GPT2Model._from_config(config, attn_implementation="sdpa").eval()
    eager = GPT2Model._from_config(config, attn_implementation="eager").eval()
    ids = torch.randint(0, config.vocab_size, (1, chosen.n))

    def watched() -> None:
        with fv.watch(fused, dtype=torch.float16):
            fused(ids)

    runs: dict[str, Callable[[], object]] = {
        "unwatched": lambda: fused(ids),
        "watched": watched,
        "output_attentions=True": lambda: eager(ids, output_attentions=True),
    }
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for run in runs.values():
            run()
        for i in range(chosen.rounds):
            order = list(runs) if i % 2 else list(reversed(runs))
            seconds = {name: timed(runs[name], clock) for name in order}
            for name, s in seconds.items():
                ratios[name].append(s / seconds["unwatched"])
            ratios["unwatched"][-1] = seconds["unwatched"]
    print(f"GPT-2-small shape, n = {chosen.n}, {torch.get_num_threads()} threads, median of {chosen.rounds} rounds")
    print(f"  unwatched, sdpa                {statistics.median(ratios['unwatched']):.3f} s")
    peer = "output_attentions=True"
    figure(
        f"time watched / unwatched, {chosen.n:,} tokens",
        statistics.median(ratios["watched"]),
        "x",
        goal=f"<= {GOAL}",
        peer=(peer, statistics.median(ratios[peer])),
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
