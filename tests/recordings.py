"""A small recording with every kind of mask, bias, score and normaliser, for the tests of recordings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import foveate as fv
from foveate import masks, normalizers
from foveate.recording import CallInfo, MemoryCall, Notes, Recording
from foveate.recording.strict import seal
from foveate.scores import Dot

B, H, G, Q, K, D, V = 2, 6, 3, 5, 7, 11, 13

MASKS: dict[str, Any] = {
    "plain": None,
    "causal": masks.causal(),
    "window": masks.causal() & masks.window(2) & masks.padding(torch.tensor([5, 7])),
    "documents": ~masks.documents(torch.tensor([0, 0, 1, 1, 1, 2, 2])) | masks.prefix(1),
    "table": masks.tensor(torch.rand(B, 1, Q, K, generator=torch.Generator().manual_seed(1)) > 0.3),
    "where": masks.where(lambda b, h, q, k: (k % 2 == h % 2) | (q == b)),
}


def make(names: tuple[str, ...] = tuple(MASKS), dtype: torch.dtype = torch.float32) -> Recording:
    """One call per mask; the last one is called twice."""
    torch.manual_seed(7)
    recording = Recording(Notes(model="Test", tokens=[["a", "</script>"], ["c"]], lengths=[2, 1], starts=[0, 1]))
    bias = torch.randn(1, H, Q, K)
    for i, name in enumerate([*names, names[-1]]):
        info = CallInfo(f"layers.{min(i, len(names) - 1)}.attn", "decoder", f"layer {i}", i, H, "Attention")
        options = {
            "score": Dot(0.3, 2.0 if i % 2 else None),
            "normalizer": normalizers.softmax(torch.randn(H) if i % 3 == 0 else None),
            "mask": MASKS[name],
            "bias": bias if i % 2 else None,
            "dtype": torch.float32,
        }
        q, k, v = (torch.randn(B, h, n, d).to(dtype) for h, n, d in ((H, Q, D), (G, K, D), (G, K, V)))
        step = int(i == len(names))
        recording._add(MemoryCall(info, step, q, k, v if i % 2 else None, options))
    return recording


def same(a: Recording, b: Recording, count: int | None = None) -> None:
    """Assert that the first `count` calls of both are equal in every number."""
    left, right = list(a.calls()), list(b.calls())
    assert len(left) == len(right) if count is None else len(left) == count
    for (name, step, x, info), (other, other_step, y, other_info) in zip(left, right, strict=False):
        assert (name, step, info) == (other, other_step, other_info)
        assert torch.equal(x.dense(), y.dense())
        assert x.dtype == y.dtype
        assert (x.value is None) == (y.value is None)
        assert x.value is None or torch.equal(x.value, y.value)


def edit_line(root: Path, change: Callable[[dict[str, Any]], Any], line: int = 0) -> None:
    """Change one entry of the index, with a valid checksum: what an attacker would do."""
    index = root / "index.jsonl"
    lines = index.read_text().splitlines()
    content = json.loads(lines[line])["content"]
    change(content)
    lines[line] = seal(content)
    index.write_text("\n".join(lines) + "\n")


def edit_manifest(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "manifest.json"
    content = json.loads(path.read_text())["content"]
    change(content)
    path.write_text(seal(content))


def read_all(path: Path) -> Recording:
    """Load and look at every number."""
    found = fv.load(path)
    for _, _, weights, _ in found.calls():
        weights.dense()
    return found
