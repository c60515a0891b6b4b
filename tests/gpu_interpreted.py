"""The Triton kernels, run by Triton's interpreter on the CPU. `test_gpu.py` runs this file in a process of its own,
where TRITON_INTERPRET=1 and FOVEATE_NATIVE=0 are set from the start.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from foveate import gpu, masks, stats
from foveate.gpu import Band, Tiles
from foveate.native import NAN_ROWS, ODD_VALUES, Wanted
from foveate.operator import engine

Q, K = 19, 37
GRID = (3, 5)
EVERYTHING = Wanted(lse=True, entropy=True, top=3, received=True, pooled=((*GRID, "max"), (*GRID, "mean")))
TILES = Tiles(16, 16, 16, 16, 4, 1, picked=32)

CASES: dict[str, dict[str, Any]] = {
    "all keys": {"dtype": torch.float32, "width": 11, "grid": (3, 5), "heads": (4, 2)},
    "causal": {"dtype": torch.float32, "mask": masks.causal(), "grid": (19, 37)},
    "causal, keys run out": {"dtype": torch.float32, "mask": masks.causal(), "keys": 7, "grid": (3, 5)},
    "from the start": {"dtype": torch.float16, "mask": masks.causal("start"), "softcap": 2.0},
    "window": {"dtype": torch.bfloat16, "mask": masks.window(5, 2), "depth": 5},
    "two windows": {"dtype": torch.float32, "mask": masks.window(25, 20) & masks.causal("start"), "scale": -0.3},
    "sinks": {"dtype": torch.float32, "mask": masks.window(3, 0), "sinks": torch.tensor([0.5, 3.0])},
}


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.gpu.launch.tiles", lambda width, dtype: TILES)


def plainly(q: Tensor, k: Tensor, allowed: Tensor, softcap: float | None, sinks: Tensor | None, scale: float) -> Tensor:
    """Weights in float32 by softmax, zeros in rows that see nothing."""
    s = q.float() @ k.float().repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT * scale
    s = s if softcap is None else softcap * torch.tanh(s / softcap)
    s = s.masked_fill(~allowed, -torch.inf)
    if sinks is not None:
        s = torch.cat([s, sinks[:, None, None].expand(*s.shape[:3], 1)], -1)
    return torch.softmax(s, -1).nan_to_num(0.0)[..., : k.shape[2]]


def pooled(w: Tensor, grid: tuple[int, int], how: str) -> Tensor:
    rows, columns = (torch.arange(n) * cells // n for n, cells in zip(w.shape[-2:], grid, strict=True))
    cells = [[w[..., rows == r, :][..., columns == c] for c in range(grid[1])] for r in range(grid[0])]
    take = (lambda t: t.amax((-2, -1))) if how == "max" else (lambda t: t.mean((-2, -1)))
    return torch.stack([torch.stack([take(cell) for cell in row], -1) for row in cells], -2)


@pytest.mark.parametrize("name", CASES)
def test_output_and_every_statistic_at_once(name: str) -> None:
    usual = {"width": 16, "depth": 13, "keys": K, "heads": (2, 1), "grid": (4, 4), "mask": None}
    case = usual | {"softcap": None, "sinks": None} | CASES[name]
    scale = case.get("scale", case["width"] ** -0.5)
    h, g = case["heads"]
    sizes = {n: case[n] for n in ("keys", "width", "depth")}
    q, k, v = oracle.inputs((1,), heads=h, groups=g, queries=Q, dtype=case["dtype"], **sizes)
    options = {"scale": scale, "softcap": case["softcap"], "sinks": case["sinks"]}
    weights = fv.AttentionMap(
        q,
        k,
        score=fv.scores.scaled_dot(softcap=case["softcap"]),
        scale=scale,
        mask=case["mask"],
        normalizer=fv.normalizers.softmax(sinks=case["sinks"]),
    )
    grid = tuple(min(a, b) for a, b in zip(case["grid"], (Q, case["keys"]), strict=True))
    wanted = [stats.LogSumExp(), stats.Entropy(), stats.TopK(3), stats.Received()]
    assert engine(weights.problem, v, EVERYTHING).backend == "triton"
    out, found = weights.read(v, *wanted, stats.Pooled(*grid), stats.Pooled(*grid, "mean"))
    lse, entropy, top, received, biggest, mean = found
    allowed = torch.ones(1, h, Q, case["keys"], dtype=torch.bool)
    if case["mask"] is not None:
        allowed = oracle.table(case["mask"], (1,), h, Q, case["keys"])
    exact = oracle.weights(q, k, allowed=allowed, **options).nan_to_num(0.0)
    plain = plainly(q, k, allowed, **options)
    low = plain.to(case["dtype"])
    oracle.as_good_as(out, low @ v.repeat_interleave(h // g, dim=1), oracle.output(exact, v))
    oracle.as_good_as(entropy, torch.special.entr(plain).sum(-1), torch.special.entr(exact).sum(-1))
    oracle.as_good_as(received, plain.sum(-2), exact.sum(-2))
    oracle.as_good_as(top.values, plain.topk(3).values, exact.topk(3).values)
    at = exact.gather(-1, top.indices.clamp(min=0))
    oracle.as_good_as(top.values, plain.topk(3).values, torch.where(top.indices < 0, 0.0, at))
    oracle.as_good_as(biggest, pooled(plain, grid, "max"), pooled(exact, grid, "max"))
    oracle.as_good_as(mean, pooled(plain, grid, "mean"), pooled(exact, grid, "mean"))
    sums = torch.exp(weights.to(torch.float64).logsumexp() - lse.double())
    seen = allowed.any(-1) if case["sinks"] is None else torch.ones_like(allowed[..., 0])
    assert (lse[~seen] == -torch.inf).all() and (sums[seen] - 1).abs().max() < 4e-6


def test_parts_make_up_the_whole() -> None:
    q, k, _ = oracle.inputs((1,), heads=2, groups=1, queries=Q, keys=K, width=16, dtype=torch.float32)
    weights = fv.AttentionMap(q, k, mask=masks.window(11, 3))
    wanted = stats.Entropy(), stats.TopK(2), stats.Received(), stats.Pooled(4, 4), stats.Pooled(4, 4, "mean")
    parts = weights.partial(*wanted, rows=slice(0, 7)).merge(weights.partial(*wanted, rows=slice(7, Q)))
    for half, whole in zip(parts.result(), weights.reduce(*wanted), strict=True):
        torch.testing.assert_close(half, whole)


def test_the_largest_weights_of_sharp_rows() -> None:
    """Their scores are computed a second time, and rounded otherwise than in the row's sum: the largest must not be."""
    q, k, _ = oracle.inputs((1,), heads=2, groups=1, queries=Q, keys=K, width=16, dtype=torch.float32)
    everything = torch.ones(1, 2, Q, K, dtype=torch.bool)
    plain, exact = plainly(q, k, everything, None, None, 0.9), oracle.weights(q, k, scale=0.9)
    found = fv.AttentionMap(q, k, scale=0.9).reduce(stats.TopK(3))
    oracle.as_good_as(found.values, plain.topk(3).values, exact.topk(3).values)


@pytest.mark.parametrize("k", [1, 5, 16])
def test_equal_and_ordered_weights(k: int) -> None:
    """Ties within a chunk and across chunks, and rows whose every key is better than all before it."""
    keys = torch.cat([torch.zeros(20, 16), torch.arange(1.0, 21.0)[:, None].expand(20, 16)])[None, None]
    query = torch.tensor([0.0, 0.02, -0.02])[:, None].expand(3, 16)[None, None]
    w = oracle.weights(query, keys, scale=1.0)
    found = fv.AttentionMap(query, keys, scale=1.0).reduce(stats.TopK(k))
    torch.testing.assert_close(found.values.double(), w.topk(k).values, rtol=1e-5, atol=0)
    torch.testing.assert_close(w.gather(-1, found.indices), w.topk(k).values)
    assert all(len(set(row)) == k for row in found.indices[0, 0].tolist())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of NaN
def test_odd_rows_are_told_and_left_to_blocks() -> None:
    q, k, v = oracle.inputs((1,), heads=2, groups=1, queries=5, keys=K, width=16, dtype=torch.float32)
    odd = q.clone()
    odd[0, 1, 2] = torch.nan
    assert gpu.run(odd, k, None, Wanted(entropy=True)).status == NAN_ROWS
    assert gpu.run(q, k, None, Wanted(entropy=True)).status == 0
    far = 1e20 * torch.ones_like(k)
    assert gpu.run(1e20 * torch.ones_like(q), -far, None, Wanted()).status == NAN_ROWS  # all scores -inf, none hidden
    assert gpu.run(q, k, torch.full_like(v, torch.inf), Wanted()).status == ODD_VALUES
    got = fv.AttentionMap(odd, k).reduce(stats.Entropy())
    assert got[0, 1, 2].isnan() and got.isnan().sum() == 1


def test_rows_that_see_nothing_are_zeros() -> None:
    q, k, v = oracle.inputs((1,), heads=2, groups=1, queries=Q, keys=K, width=16, dtype=torch.float32)
    found = gpu.run(q, k, v, EVERYTHING, band=Band(None, -18, 0))  # the last row sees one key
    for t in (found.entropy, found.top[0], found.output):
        assert (t[:, :, :18] == 0).all()
    assert (found.lse[:, :, :18] == -torch.inf).all() and (found.top[1][:, :, :18] == -1).all()
    assert found.received.sum() == 2 and found.pooled[(*GRID, "mean")].sum() == 2
    assert torch.equal(found.output[:, :, 18], v[:, :, 0].expand(1, 2, -1))
