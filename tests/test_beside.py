"""What is kept beside a recording: there when it is opened again, never believed, never in the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import foveate as fv
from foveate.apps.viewing import source_of
from foveate.recording import CallInfo, MemoryCall, Notes, Recording, beside
from foveate.recording.beside import Beside
from foveate.recording.tensorfile import write_tensors
from foveate.scores import Dot
from foveate.views import measures, overview, source
from foveate.views.source import Source

N, H = 60, 3
SHAPES = {"a": (torch.float32, (2, 3)), "b": (torch.int64, (1,))}
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7])}


def recorded(path: Path, seed: int = 1) -> Path:
    draw = torch.Generator().manual_seed(seed)
    seen = Recording(Notes(tokens=[[f"w{i % 7}" for i in range(N)]], lengths=[N], starts=[0]))
    parts = {"score": Dot(0.5), "normalizer": fv.normalizers.softmax(None), "mask": fv.masks.causal(), "bias": None}
    for layer in range(2):
        q, k = torch.randn(2, 1, H, N, 4, generator=draw)
        info = CallInfo(f"layers.{layer}", "decoder", f"layer {layer}", layer, H, "Attention")
        seen._add(MemoryCall(info, 0, q, k, None, {**parts, "dtype": torch.float32}))
    seen.save(path, overwrite=True)
    return path


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LONG", 0)
    monkeypatch.setattr(overview, "CELLS", 16)
    monkeypatch.setattr(measures, "spread_out", lambda rows, plain=measures.spread_out: plain(rows, 8))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return recorded(tmp_path / "run.fov")


def looked_at(path: Path) -> tuple[Source, Any, Any]:
    """Open, wait for all measures of a call and the overview of a head, and close."""
    one = source_of(fv.load(path))
    one.heads(1, 0)
    one.map(1, 0, 2, 0, 0, 0)
    while (thread := one._worker.thread) is not None:
        thread.join(60)
    found, tile = one.heads(1, 0), one.map(1, 0, 2, one._overview(1, 0, 2).last_zoom, 0, 0)
    one.close()
    assert (found.measured, tile.refined) == (N, 1)
    return one, found, tile


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed from now on."""
    done: list[str] = []
    pass_over, survey = measures.pass_over, overview.survey
    monkeypatch.setattr(measures, "pass_over", lambda *a: done.append("heads") or pass_over(*a))
    monkeypatch.setattr(overview, "survey", lambda *a: done.append("overview") or survey(*a))
    return done


def test_what_was_refined_is_there_when_opened_again(long: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, tile = looked_at(run)
    done = counted(monkeypatch)
    _, again, same = looked_at(run)
    assert not done
    torch.testing.assert_close(again.values, first.values, rtol=1e-6, atol=0)
    torch.testing.assert_close(again.picture, first.picture, rtol=1e-6, atol=0)
    assert np.abs(same.pixels.astype(int) - tile.pixels).max() <= 1
    moved = run.rename(run.with_name("moved.fov"))
    looked_at(moved)
    assert not done


def test_a_half_measured_call_goes_on_where_it_was(long: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source_of(fv.load(run))
    half = one._survey(0, 0)
    for _ in range(2):
        half.step()
    done = counted(monkeypatch)
    again = source_of(fv.load(run))._survey(0, 0)
    assert again.measured == half.measured == 15
    torch.testing.assert_close(again.result().values, half.result().values, rtol=1e-6, atol=0)
    again.step()
    assert again.measured == 22 or again.measured == 23
    assert done == ["heads"]


def test_another_recording_in_its_place_is_computed_anew(
    long: None, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, _ = looked_at(run)
    kept = shutil.copytree(run / "cache", run.parent / "kept")
    recorded(run, seed=2)
    assert not (run / "cache").exists()  # it goes with its recording
    shutil.copytree(kept, run / "cache")
    done = counted(monkeypatch)
    _, other, _ = looked_at(run)
    assert {"heads", "overview"} <= set(done)
    assert not torch.allclose(first.values, other.values)


def test_other_tokens_are_measured_anew(long: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at(run)
    done = counted(monkeypatch)
    one = source_of(fv.load(run), tokens=[f"x{i % 3}" for i in range(N)])
    assert one._survey(1, 0).measured == 0
    assert source_of(fv.load(run))._survey(1, 0).measured == N
    assert not done


def test_a_folder_that_cannot_be_written_stops_nothing(long: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "cache").write_text("in the way")
    looked_at(run)
    assert (run / "cache").read_text() == "in the way"
    (run / "cache").unlink()

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(beside, "write_tensors", refuse)
    looked_at(run)
    assert list((run / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["cut", "bit", "empty", "shape", "dtype", "nan", "library", "huge", "link", "folder"]
)
def test_what_is_damaged_or_hostile_is_computed_anew(
    long: None, run: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(run)
    for file in list((run / "cache").iterdir()):
        spoil(file, damage)
    if damage == "folder":
        outside = (run / "cache").rename(run.parent / "outside")
        (run / "cache").symlink_to(outside)
        before = sorted((f.name, f.stat().st_mtime_ns) for f in outside.iterdir())
    done = counted(monkeypatch)
    looked_at(run)
    assert {"heads", "overview"} <= set(done)
    if damage == "folder":  # nothing is written through a link
        assert sorted((f.name, f.stat().st_mtime_ns) for f in outside.iterdir()) == before


def spoil(file: Path, damage: str) -> None:
    data = file.read_bytes()
    root, name = file.parent.parent, f"cache/{file.name}"
    stored = beside.TensorFile(root, beside.FileFacts(name, len(data), None, None))
    tensors = {key: stored[key].load() for key in stored.entries}
    first = next(iter(tensors))
    if damage == "cut":
        file.write_bytes(data[:-50])
    elif damage == "bit":
        middle = len(data) - 100
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "shape":
        write_tensors(root, name, {key: t.repeat(2, *(1,) * (t.ndim - 1)) for key, t in tensors.items()})
    elif damage == "dtype":
        write_tensors(root, name, tensors | {first: tensors[first].double()})
    elif damage == "nan":
        numbers = {key: torch.full_like(t, torch.nan) for key, t in tensors.items() if t.is_floating_point()}
        write_tensors(root, name, tensors | numbers)
    elif damage == "library":  # an ordinary file, without our checksums
        save_file(tensors, file)
    elif damage == "huge":
        os.truncate(file, 1 << 40)
    elif damage == "link":
        file.rename(root / "elsewhere")
        file.symlink_to(root / "elsewhere")


def test_sets_of_tensors_come_back(tmp_path: Path) -> None:
    kept = Beside(tmp_path).kept("heads", "digest", 1)
    assert kept.read(SHAPES) is None
    kept.write(TENSORS)
    found = kept.read(SHAPES)
    assert found is not None
    assert all(torch.equal(found[name], t) for name, t in TENSORS.items())
    assert Beside(tmp_path).kept("heads", "digest", 2).read(SHAPES) is None
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [f"{kept.name}.safetensors"]


def test_nothing_is_kept_without_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = Beside(None).kept("heads", "digest")
    kept.write(TENSORS)
    assert kept.read(SHAPES) is None
    gone = Beside(tmp_path / "gone.fov").kept("heads", "digest")
    gone.write(TENSORS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_longest_unused_makes_room(tmp_path: Path) -> None:
    big = {"a": torch.zeros(50_000)}
    shapes = {"a": (torch.float32, (50_000,))}
    place = Beside(tmp_path, limit=800_000)
    kept = [place.kept("overview", n) for n in range(4)]
    for n, one in enumerate(kept[:3]):
        one.write(big)
        os.utime(tmp_path / "cache" / f"{one.name}.safetensors", (n, n))
    mine = tmp_path / "cache" / "notes.txt"
    mine.write_text("not ours")
    left = tmp_path / "cache" / "w0123456789abcdef.safetensors"
    left.write_text("of a writer that was killed")
    os.utime(left, (1, 1))
    assert kept[0].read(shapes) is not None  # used: it stays
    kept[3].write(big)
    assert [one.read(shapes) is not None for one in kept] == [True, False, True, True]
    assert mine.exists()
    assert not left.exists()
    Beside(tmp_path, limit=1000).kept("overview", 9).write(big)  # never more than all that may be kept
    assert [one.read(shapes) is not None for one in kept] == [True, False, True, True]
