"""Reopen a 2 GB recording (32 layers of fp16 q, k, v) and read one 1024 x 128 slice of one head's queries.

    python benchmarks/reopen.py [--gigabytes 2] [--folder DIR]

Each read runs in a fresh process, after its imports, and is timed from the path to the numbers; the figure is the
median over layers and processes. `--cold` drops the page cache of the file first (posix_fadvise). The peer is the
safetensors library's own loader: on the same file, and on one file that holds the whole recording.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import figure

GOAL_MS = 5.0
LAYERS, HEADS, WIDTH = 32, 16, 128


def build(folder: Path, gigabytes: float) -> None:
    """Write the recording, and the same tensors as one library-made file."""
    import torch
    from safetensors.torch import save_file

    from foveate import masks
    from foveate.normalizers import softmax
    from foveate.recording import CallInfo, MemoryCall, Notes, RecordingWriter
    from foveate.scores import Dot

    n = int(gigabytes * 1e9 / (LAYERS * 3 * HEADS * WIDTH * 2))
    start = time.perf_counter()
    writer = RecordingWriter(folder / "run.fov", Notes(model="benchmark"))
    whole = {}
    spent = 0.0
    for layer in range(LAYERS):
        q, k, v = (torch.randn(1, HEADS, n, WIDTH).half() for _ in range(3))
        options = {"mask": masks.causal(), "score": Dot(None), "normalizer": softmax(), "dtype": torch.float16}
        info = CallInfo(f"layers.{layer}.attn", "decoder", f"layer {layer}", layer, HEADS, "Attention")
        start = time.perf_counter()
        writer.append(MemoryCall(info, 0, q, k, v, options))
        spent += time.perf_counter() - start
        whole.update({f"{layer}.query": q, f"{layer}.key": k, f"{layer}.value": v})
    writer.close(Notes(model="benchmark"))
    size = sum(t.nbytes for t in whole.values())
    print(f"wrote {size / 1e9:.2f} GB, n = {n}, at {size / spent / 1e6:.0f} MB/s with fsync and checksums")
    save_file(whole, folder / "whole.safetensors")


def read(kind: str, folder: Path, layer: int, cold: bool) -> float:
    """Milliseconds from a path to a slice."""
    import safetensors
    import torch

    import foveate as fv

    if cold:
        paths = [folder / "whole.safetensors", *(folder / "run.fov" / "calls").iterdir()]
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
    start = time.perf_counter()
    if kind == "foveate":
        part = fv.load(folder / "run.fov").read(f"layers.{layer}.attn", "query")[0, 3, 1000:2024]
    else:
        file = folder / ("whole.safetensors" if kind == "whole" else f"run.fov/calls/{layer:05d}.safetensors")
        name = f"{layer}.query" if kind == "whole" else "query"
        with safetensors.safe_open(file, "pt") as opened:
            part = (
                opened.get_slice(name)[0, 3, 1000:2024] if kind != "load" else opened.get_tensor(name)[0, 3, 1000:2024]
            )
    bytes(part.view(torch.uint8).numpy().data[:])  # touch every number
    spent = (time.perf_counter() - start) * 1e3
    assert tuple(part.shape) == (1024, WIDTH)
    return spent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gigabytes", type=float, default=2.0)
    options.add_argument("--folder", type=Path, help="keep the files there; default: a temporary folder")
    options.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        kind, folder, layer, cold = chosen.child
        print(json.dumps(read(kind, Path(folder), int(layer), cold == "True")))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if not (folder / "run.fov").exists():
            build(folder, chosen.gigabytes)
        titles = {
            "foveate": "fv.load and read a slice",
            "slice": "safetensors safe_open, get_slice, one call's file",
            "load": "safetensors safe_open, get_tensor, one call's file",
            "whole": "safetensors safe_open, get_slice, one file of all",
        }
        for cold in (False, True):
            print("page cache dropped:" if cold else "page cache warm:")
            medians = {}
            for kind, title in titles.items():
                times = []
                for layer in (1, 9, 17, 25, 31):
                    child = [sys.executable, __file__, "--child", kind, str(folder), str(layer), str(cold)]
                    done = subprocess.run(child, capture_output=True, text=True, check=True)
                    times.append(json.loads(done.stdout.splitlines()[-1]))
                medians[kind] = statistics.median(times)
                print(f"  {title:52s} {medians[kind]:7.2f} ms   (worst {max(times):.2f})", flush=True)
            title = f"reopen {chosen.gigabytes:g} GB and read a slice, page cache {'dropped' if cold else 'warm'}"
            figure(title, medians["foveate"], "ms", goal=f"<= {GOAL_MS:g}", peer=("safetensors", medians["slice"]))


if __name__ == "__main__":
    main()
