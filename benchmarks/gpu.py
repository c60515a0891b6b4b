"""Output and statistics on a CUDA device beside the fastest forward passes there are: times, and peak memory.

    python benchmarks/gpu.py [--lengths 4096 16384 65536] [--widths 64 128] [--heads 16] [--repeats 20] [--results DIR]
    python benchmarks/gpu.py --interpret     # no GPU: tiny shapes in Triton's interpreter, for correctness only

Peers are PyTorch's FlashAttention-2, cuDNN and memory-efficient kernels and FlexAttention, compiled; each ratio is to
the fastest that runs here. bfloat16, one batch, all keys and causal. Times are medians by CUDA events after a warm-up,
a fresh 256 MB written between runs so that no input waits in the cache. Before anything is timed, the statistics of a
small problem are compared with float64. Without a CUDA device it says so, and ends. A dated table goes to DIR.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import foveate as fv
from figures import Figure
from foveate import gpu
from foveate.gpu import Band
from foveate.native import Wanted
from foveate.operator import identities

GRID = 64
SOME = Wanted(lse=True, entropy=True)
ALL = Wanted(lse=True, entropy=True, top=8, received=True, pooled=((GRID, GRID, "max"), (GRID, GRID, "mean")))
GOALS = {"output + logsumexp + entropy": "<= 1.1", "output + everything": "<= 1.7"}
Way = Callable[[], Any]


def peers(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> dict[str, Way]:
    """Forward passes, by name; some may not run here."""

    def fused(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    flex = torch.compile(flex_attention, dynamic=False)
    n, seen = q.shape[2], None
    if causal:
        seen = create_block_mask(lambda b, h, i, j: i >= j, None, None, n, n, device=q.device.type)
    return {
        "FlashAttention-2": partial(fused, SDPBackend.FLASH_ATTENTION),
        "cuDNN": partial(fused, SDPBackend.CUDNN_ATTENTION),
        "memory-efficient": partial(fused, SDPBackend.EFFICIENT_ATTENTION),
        "FlexAttention": partial(flex, q, k, v, block_mask=seen),
    }


def ours(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> dict[str, Way]:
    scale, band = q.shape[-1] ** -0.5, Band(None, 0, 0) if causal else None

    def kernels(values: Tensor | None, wanted: Wanted) -> Any:
        return gpu.run(q, k, values, wanted, scale=scale, band=band)

    def by_identity() -> Any:
        kernel = identities.KERNELS["flash"]
        lse = kernel(q, k, v, scale, causal)[1]
        return identities.received(q, k, lse, kernel, scale, causal)

    return {
        "output": partial(kernels, v, Wanted()),
        "output + logsumexp + entropy": partial(kernels, v, SOME),
        "output + everything": partial(kernels, v, ALL),
        "statistics: logsumexp + entropy": partial(kernels, None, SOME),
        "statistics: 8 largest": partial(kernels, None, Wanted(top=8)),
        "statistics: received + thumbnails": partial(kernels, None, Wanted(received=True, pooled=ALL.pooled)),
        "statistics: everything": partial(kernels, None, ALL),
        "output + logsumexp + received, by identities": by_identity,
    }


def measure(way: Way, repeats: int) -> tuple[float, float]:
    """Median milliseconds, and peak bytes beyond what was held before."""
    for _ in range(3):
        way()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way()
    peak = torch.cuda.max_memory_allocated() - before
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    pairs = []
    for _ in range(repeats):
        flush.zero_()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        way()
        stop.record()
        pairs.append((start, stop))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(stop) for start, stop in pairs), float(peak)


def attempt(ways: dict[str, Way], repeats: int) -> Iterator[tuple[str, tuple[float, float] | str]]:
    for name, way in ways.items():
        try:
            yield name, measure(way, repeats)
        except Exception as error:  # a peer that this GPU, dtype or build does not have; or a kernel of ours that fails
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"


def compare(n: int, width: int, heads: int, repeats: int, causal: bool) -> Iterator[str]:
    """Rows of the table, and the figures with goals as they come."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, width, dtype=torch.bfloat16, device="cuda") for _ in range(3))
    kind = f"{'causal' if causal else 'all keys'}, n = {n:,}, width {width}"
    found = dict(attempt(peers(q, k, v, causal), repeats))
    times = {name: result[0] for name, result in found.items() if not isinstance(result, str)}
    best = min(times, key=times.__getitem__) if times else None
    found |= dict(attempt(ours(q, k, v, causal), repeats))
    for name, result in found.items():
        if isinstance(result, str):
            yield f"| {kind} | {name} | failed: {result.replace('|', '/')} | | | |"
            continue
        ratio = result[0] / times[best] if best else float("nan")
        figure = Figure(f"{name}, {kind}", ratio, "x", GOALS.get(name), (best, 1.0) if best else None)
        if name in GOALS:
            print(figure, flush=True)
        goal = "" if figure.goal is None else f"{figure.goal}{', met' if figure.met else ', **missed**'}"
        yield f"| {kind} | {name} | {result[0]:.3f} | {result[1] / 1e6:,.0f} | {ratio:.2f} | {goal} |"


def check(device: str, dtype: torch.dtype, n: int, width: int) -> None:
    """Every statistic of a small problem against float64, before anything is timed. SystemExit if one is off."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, width, dtype=dtype, device=device) for _ in range(3))
    for causal in (False, True):
        grids = ((4, 4, "max"), (4, 4, "mean"))
        wanted = Wanted(lse=True, entropy=True, top=4, received=True, pooled=grids)
        got = gpu.run(q, k, v, wanted, scale=width**-0.5, band=Band(None, 0, 0) if causal else None)
        s = q.double() @ k.double().mT * width**-0.5
        s = s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(1), -torch.inf) if causal else s
        w = torch.softmax(s, -1)
        cells = w.unflatten(-1, (4, -1)).unflatten(-3, (4, -1))
        pairs = {
            "output": (got.output, w @ v.double()),
            "logsumexp": (got.lse, s.logsumexp(-1)),
            "entropy": (got.entropy, torch.special.entr(w).sum(-1)),
            "4 largest": (got.top[0], w.topk(4).values),
            "received": (got.received, w.sum(-2)),
            "maxima": (got.pooled[grids[0]], cells.amax((-1, -3))),
            "sums": (got.pooled[grids[1]], cells.sum((-1, -3))),
        }
        for name, (ours, exact) in pairs.items():
            assert ours is not None
            error = float((ours.double() - exact).abs().max() / exact.abs().max())
            most = max(
                1e-5, 2 * torch.finfo(dtype).eps if name == "output" else 0.0
            )  # an output is rounded to its dtype
            print(f"{'causal' if causal else 'all keys'}, {dtype}, {name}: error {error:.1e} of the largest number")
            if not error <= most:
                raise SystemExit(f"{name} is wrong: {error:.1e} > {most:.1e}")


def interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, which is at the first launch
    hindrance = gpu.obstacle(torch.device("cpu"))
    if hindrance is not None:
        raise SystemExit(f"nothing was checked: {hindrance}")
    check("cpu", torch.float32, 20, 16)
    print("The kernels are right in Triton's interpreter. Their speed is unmeasured: that takes a CUDA device.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Output and statistics on a CUDA device, beside forward passes.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of the table")
    parser.add_argument("--interpret", action="store_true", help="tiny shapes without a GPU, for correctness only")
    options = parser.parse_args()
    if options.interpret:
        return interpret()
    if not torch.cuda.is_available():
        print("No CUDA device here: the speed of the GPU kernels is unmeasured. --interpret checks their results.")
        return None
    hindrance = gpu.obstacle(torch.device("cuda"))
    if hindrance is not None:
        raise SystemExit(f"the kernels cannot run: {hindrance}")
    for dtype in (torch.float32, torch.bfloat16):
        check("cuda", dtype, 512, 64)
    words = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {fv.config().cuda}"
    today = datetime.date.today().isoformat()
    lines = [
        f"# On a GPU, {today}",
        "",
        f"{words}; bfloat16, {options.heads} heads. `python benchmarks/gpu.py` writes this file.",
        "",
    ]
    lines += ["| problem | way | ms | MB beyond inputs | of the fastest peer | goal |", "|---|---|---|---|---|---|"]
    options.results.mkdir(parents=True, exist_ok=True)
    page = options.results / f"gpu-{today}.md"
    for n in options.lengths:
        for width in options.widths:
            for causal in (False, True):
                lines += compare(n, width, options.heads, options.repeats, causal)
                page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"written to {page}")
    return None


if __name__ == "__main__":
    main()
