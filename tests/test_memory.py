"""Memory that does not grow with queries x keys, shown by the largest tensor any operation makes, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import foveate as fv
from foveate import AttentionMap, masks
from foveate.operator.problem import BLOCK_NUMBERS

H, N, D = 3, 2048, 8
MOST = BLOCK_NUMBERS


class Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor holds that any operation gives back (views by their memory)."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.by = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in tree_iter(result):
            if isinstance(t, Tensor):
                held = t.untyped_storage().nbytes() // max(1, t.dtype.itemsize)
                if held > self.numbers:
                    self.numbers, self.by = held, str(func)
        return result


MASKS: dict[str, Callable[[], masks.Mask | None]] = {
    "none": lambda: None,
    "causal": masks.causal,
    "composed": lambda: (masks.causal() & masks.window(300)) | masks.prefix(7),
    "where": lambda: masks.where(lambda b, h, q, k: (q + k) % 7 != 0),
    "documents": lambda: masks.documents(torch.arange(N) // 100),
    "padding": lambda: masks.padding([N - 5]),
}


def a_map(name: str = "none", queries: int = N, keys: int = N) -> AttentionMap:
    return AttentionMap(torch.randn(H, queries, D), torch.randn(1, keys, D), mask=MASKS[name]())


def largest(work: Callable[[], Any]) -> int:
    with Largest() as seen:
        work()
    assert seen.numbers > 0
    return seen.numbers


@pytest.mark.parametrize("name", MASKS)
def test_statistics(name: str) -> None:
    weights = a_map(name)
    stats = fv.stats
    reducers = (stats.Entropy(), stats.TopK(8), stats.Received(), stats.Pooled(64, 64), stats.Pooled(64, 64, "mean"))
    assert largest(lambda: weights.reduce(*reducers)) <= MOST < N * N


def test_rows_tiles_points_and_explain() -> None:
    weights = a_map("causal")
    assert largest(lambda: weights[:, 1000]) <= H * N * D  # the inputs themselves
    assert largest(lambda: weights.explain(1, 1000, 10)) <= H * N * D
    assert largest(lambda: weights[1, 1000:1100, 5:50]) <= MOST
    assert largest(lambda: weights[[0, 1, 2], [3, 4, 5], [6, 7, 8]]) <= MOST
    assert largest(lambda: weights[:, :, 17]) <= MOST
    weights.logsumexp()
    assert largest(lambda: weights[:, :, 17]) <= H * N * D
    assert largest(lambda: weights[1, ::64, ::64]) <= H * N * D


@pytest.mark.parametrize("name", MASKS)
def test_the_block_backend(name: str) -> None:
    q, k, v = torch.randn(H, N, D), torch.randn(1, N, D), torch.randn(1, N, D)
    assert largest(lambda: fv.attention(q, k, v, mask=MASKS[name](), backend="blocks")) <= MOST


def test_what_auto_does_with_long_masked_inputs() -> None:
    q = torch.randn(2, 3000, D)
    assert largest(lambda: fv.attention(q, q, q, mask=masks.window(16))) <= MOST < 3000 * 3000


def test_one_row_over_very_many_keys() -> None:
    weights = a_map(queries=1, keys=3_000_000)
    assert largest(lambda: weights.reduce(fv.stats.Entropy(), fv.stats.TopK(8))) <= 3_000_000 * D


def test_the_measure_sees_dense_weights() -> None:
    """So the tests above can fail."""
    weights = a_map()
    assert largest(weights.dense) >= H * N * N
    assert largest(lambda: fv.attention(weights.query, weights.key, weights.key, backend="reference")) >= H * N * N
