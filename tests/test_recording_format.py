"""docs/format.md is the format: its literal bytes are what the library writes, and reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

import foveate as fv
from foveate import masks, normalizers
from foveate.recording import CallInfo, MemoryCall, Notes, Recording
from foveate.scores import Dot

TEXT = (Path(__file__).parent.parent / "docs" / "format.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"```\w+ {name}\n(.*?)\n```", TEXT, re.DOTALL)
    assert found, name
    return found.group(1)


def call_bytes() -> bytes:
    """The documented tensor file, assembled from its lines."""
    length, header, *data = block("call").splitlines()
    padding = 256 - 8 - len(header)
    assert int.from_bytes(bytes.fromhex(length), "little") == len(header) + padding
    assert f"{padding} spaces follow the header" in TEXT
    return bytes.fromhex(length) + header.encode() + b" " * padding + b"".join(map(bytes.fromhex, data))


def tiny() -> Recording:
    recording = Recording(Notes(model="Tiny", tokens=[["it", "was"]], lengths=[2], starts=[0]))
    options = {
        "score": Dot(0.5),
        "normalizer": normalizers.softmax(),
        "mask": masks.tensor([[True, False], [True, True]]),
        "dtype": torch.float32,
    }
    info = CallInfo("layers.0.attn", "decoder", "layer 0", 0, 1, "Attention")
    q = torch.tensor([[[[1, 0.5], [2, -1]]]]).half()
    k = torch.tensor([[[[0.25, 3], [1, 1]]]]).half()
    recording._add(MemoryCall(info, 0, q, k, None, options))
    return recording


def test_what_is_written_is_what_is_documented(tmp_path: Path) -> None:
    tiny().save(tmp_path / "run.fov")
    written = {
        str(p.relative_to(tmp_path / "run.fov")): p.read_bytes()
        for p in (tmp_path / "run.fov").rglob("*")
        if p.is_file()
    }
    shared = json.loads(block("index"))["content"]["tensors"]["mask.t0"]["file"]
    assert set(written) == {"manifest.json", "index.jsonl", "COMPLETE", "calls/00000.safetensors", shared}
    assert written["manifest.json"] == block("manifest").encode()
    assert written["index.jsonl"] == block("index").encode() + b"\n"
    assert written["COMPLETE"] == b"1\n"
    assert written["calls/00000.safetensors"] == call_bytes()
    assert written[shared].endswith(bytes.fromhex("80c0" + "04483ee1"))


def test_what_is_documented_is_read(tmp_path: Path) -> None:
    """All but the shared file is written by hand, from the document."""
    entry = json.loads(block("index"))
    name = entry["content"]["tensors"]["mask.t0"]["file"]
    for folder in ("calls", "shared"):
        (tmp_path / folder).mkdir()
    (tmp_path / "manifest.json").write_text(block("manifest"))
    (tmp_path / "index.jsonl").write_text(block("index") + "\n")
    (tmp_path / "COMPLETE").write_text("1\n")
    (tmp_path / "calls" / "00000.safetensors").write_bytes(call_bytes())
    tiny().save(tmp_path / "other")
    (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    seen = fv.load(tmp_path)
    weights = seen["layers.0.attn"]
    s = torch.tensor([[0.25 + 1.5, 1.5], [0.5 - 3, 1.0]]) * 0.5
    s[0, 1] = -torch.inf
    torch.testing.assert_close(weights[0, 0], s.softmax(-1))
    assert seen.tokens == [["it", "was"]]


def test_tensors_of_more_than_a_hundred_megabytes_each(tmp_path: Path) -> None:
    """Their offsets multiplied are beyond 2^53, which no shape may be."""
    from foveate.recording.tensorfile import TensorFile, write_tensors

    (tmp_path / "calls").mkdir()
    large = {name: torch.full((26_000_000,), 7, dtype=torch.float32) for name in ("query", "key", "value")}
    facts = write_tensors(tmp_path, "calls/00000.safetensors", large)
    stored = TensorFile(tmp_path, facts)["value"]
    assert stored.shape == (26_000_000,)
    assert stored[25_999_990:].tolist() == [7.0] * 10
