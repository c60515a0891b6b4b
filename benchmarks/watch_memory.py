"""Peak memory of one forward pass of a GPT-2-small shape (random weights, fp32): unwatched, watched, output_attentions.

    python benchmarks/watch_memory.py [--n 4096] [--skip-peer]

Each run is a process of its own; the figure is its peak resident memory, libraries and weights included. Watched
keeps queries and keys of all layers in the model's float32, and once more in fp16; recorded on disk as `foveate record`
does it, with values too, memory is to stay that of the model and its own pass (--n 32768: the model and 2 GB). The
peer is transformers' own `output_attentions=True`, which needs the eager path and keeps all maps: about 12 GB at
n = 4,096.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext

from figures import figure
from memory import peak

TARGET_GB = 1.5
LONG, MODEL_GB, ROOM_GB = 32768, 0.6, 2.0  # 124 M parameters, and positions for so many tokens, in float32
RUNS = {
    "unwatched, sdpa": "plain",
    "watched, q and k kept in fp32": "watched",
    "watched, q and k kept in fp16": "watched16",
    "recorded on disk, q, k and v in fp16": "disk",
    "output_attentions=True, eager": "peer",
}


def one(kind: str, n: int) -> None:
    """Run one forward pass and print its facts as JSON; called in a child process."""
    import torch
    from transformers import GPT2Config, GPT2Model

    import foveate as fv
    from foveate.apps.pieces import in_pieces

    torch.manual_seed(0)
    config = GPT2Config(n_positions=n, use_cache=False)
    model = GPT2Model._from_config(config, attn_implementation="eager" if kind == "peer" else "sdpa").eval()
    ids = torch.randint(0, config.vocab_size, (1, n))
    kept = 0
    with torch.no_grad():
        if kind == "plain":
            model(ids)
        elif kind == "peer":
            kept = sum(a.nbytes for a in model(ids, output_attentions=True).attentions)
        else:
            with tempfile.TemporaryDirectory() as folder:
                place = {"to": f"{folder}/run.fov", "keep": "qkv"} if kind == "disk" else {}
                with (
                    in_pieces(model) if kind == "disk" else nullcontext(),
                    fv.watch(model, dtype=None if kind == "watched" else torch.float16, **place) as seen,
                ):
                    model(ids)
                kept = sum(call.nbytes for call in seen._order)
                assert len(seen) == config.n_layer
    print(json.dumps({"peak": peak(), "kept": kept}))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=4096)
    options.add_argument("--skip-peer", action="store_true", help="do not run output_attentions=True (12 GB at 4,096)")
    options.add_argument("--child", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        one(chosen.child, chosen.n)
        return
    print(f"GPT-2-small shape, n = {chosen.n}: peak memory of one forward pass")
    peaks, failed = {}, False
    for title, kind in RUNS.items():
        if kind == "peer" and chosen.skip_peer:
            continue
        command = [sys.executable, __file__, "--child", kind, "--n", str(chosen.n)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            print(f"  {title:34s} failed ({done.returncode}): {done.stderr.strip()[-200:]}")
            failed = True
            continue
        facts = json.loads(done.stdout.splitlines()[-1])
        peaks[kind] = facts["peak"] / 1e9
        print(f"  {title:34s} {peaks[kind]:6.2f} GB, kept {facts['kept'] / 1e9:5.2f} GB", flush=True)
    peer = ("output_attentions=True", peaks["peer"]) if "peer" in peaks else None
    for kind, kept, goal in (("watched", "fp32", f"<= {TARGET_GB}"), ("watched16", "fp16", None)):
        if kind in peaks:
            title = f"peak memory watched, {chosen.n:,} tokens, {kept} copies"
            figure(title, peaks[kind], "GB", goal=goal, peer=peer)
    if "disk" in peaks:
        goal = f"<= {MODEL_GB + ROOM_GB}" if chosen.n == LONG else None
        bare = ("the same pass, nothing recorded", peaks["plain"]) if "plain" in peaks else None
        figure(f"peak memory recorded on disk, {chosen.n:,} tokens, fp16", peaks["disk"], "GB", goal=goal, peer=bare)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
