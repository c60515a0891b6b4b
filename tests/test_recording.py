"""Recordings: what was saved comes back in every number, slices read only themselves, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import foveate as fv
from foveate import normalizers
from foveate.recording import CallSequence, Notes, Recording, RecordingError, RecordingWarning, RecordingWriter
from foveate.recording.calls import layer_of
from foveate.recording.disk import Opened
from foveate.recording.slices import plan
from foveate.recording.tensorfile import BLOCK, TensorFile, write_tensors
from recordings import MASKS, B, H, K, Q, make, same


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_number_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    made = make(dtype=dtype)
    made.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")
    same(again, made)
    assert again.complete
    assert again.notes == made.notes
    assert again.layers == made.layers
    assert again.nbytes == 0
    assert isinstance(again["layers.5.attn"], CallSequence)
    assert again["layers.0.attn"].shape == (B, H, Q, K)


def test_a_loaded_recording_can_be_saved_again(tmp_path: Path) -> None:
    made = make()
    made.save(tmp_path / "one")
    fv.load(tmp_path / "one").save(tmp_path / "two")
    same(fv.load(tmp_path / "two"), made)


def test_masks_stay_descriptions_and_functions_become_bits(tmp_path: Path) -> None:
    made = make()
    made.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")
    assert str(again["layers.2.attn"].mask) == str(made["layers.2.attn"].mask)
    assert str(again["layers.5.attn"][0].mask) == f"tensor({B}, {H}, {Q}, {K})"


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    made = make(("causal", "causal", "causal", "causal"))
    made.save(tmp_path / "run.fov")
    biases = [f for f in (tmp_path / "run.fov" / "shared").iterdir() if f.stat().st_size > 4 * H * Q * K]
    assert len(biases) == 1


def test_reading_a_slice_reads_only_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(Notes(model="big"))
    call = make(("plain",))._order[0]
    call.query, call.key = torch.randn(1, 4, 4096, 64), torch.randn(1, 4, 4096, 64)  # type: ignore[misc]
    call.info = type(call.info)(**{**vars(call.info), "heads": 4})
    call.options["normalizer"] = normalizers.softmax()  # type: ignore[attr-defined]
    recording._add(call)
    recording.save(tmp_path / "run.fov")
    count = []
    read = Opened.read

    def counted(self: Opened, start: int, n: int) -> bytearray:
        count.append(n)
        return read(self, start, n)

    monkeypatch.setattr(Opened, "read", counted)
    stored = fv.load(tmp_path / "run.fov").read("layers.0.attn", "query")
    before = sum(count)
    part = stored[0, 3, 1000:1256, 8:24]  # type: ignore[index]
    assert torch.equal(part, call.query[0, 3, 1000:1256, 8:24])  # type: ignore[attr-defined]
    assert sum(count) - before <= 256 * 64 * 4 + 2 * BLOCK
    assert before < 20_000  # index, manifest and one header: not the 8 MB of data


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    made, path = make(("plain",)), tmp_path / "run.fov"
    made.save(path)
    with pytest.raises(FileExistsError, match="pass overwrite=True to replace it"):
        made.save(path)
    make(("causal",)).save(path, overwrite=True)
    assert str(fv.load(path)["layers.0.attn"][0].mask) == "causal"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for target in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.txt"):
        with pytest.raises(FileExistsError, match="it is no recording, so it is never overwritten"):
            made.save(target, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.fov", "thesis"]  # no leftovers


def test_an_unfinished_recording_is_replaced_by_a_save(tmp_path: Path) -> None:
    path = tmp_path / "run.fov"
    writer = RecordingWriter(path, Notes())
    writer.append(make(("plain",))._order[0])
    with pytest.warns(RecordingWarning, match="1 complete calls are there"):
        assert not fv.load(path).complete
    make(("causal",)).save(path)
    assert fv.load(path).complete


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    made = make(("where",))
    made._order[0].options["score"] = lambda q, k: q @ k.mT  # type: ignore[attr-defined]
    with pytest.raises(RecordingError, match=r"the score of 'layers.0.attn' cannot be stored"):
        made.save(tmp_path / "run.fov")
    assert list(tmp_path.iterdir()) == []


def test_masks_too_large_for_bits_say_what_to_do(tmp_path: Path) -> None:
    made = make(("where",))
    call: Any = made._order[0]
    call.query, call.key = (
        torch.zeros(1, H, 1, 1).expand(1, H, 1 << 17, 1),
        torch.zeros(1, 1, 1, 1).expand(1, 1, 1 << 17, 1),
    )
    call.options["bias"] = None
    with pytest.raises(RecordingError, match=r"more than 1 GB; describe it with fv.masks.causal"):
        made.save(tmp_path / "run.fov")


def test_what_is_not_a_recording_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recording there"):
        fv.load(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match="a recording is a directory; this is a file"):
        fv.load(tmp_path / "file")
    with pytest.raises(RecordingError, match=r"manifest.json: the file is missing"):
        fv.load(tmp_path)


def test_any_safetensors_reader_opens_the_files(tmp_path: Path) -> None:
    made = make(("plain",))
    made.save(tmp_path / "run.fov")
    found = load_file(tmp_path / "run.fov" / "calls" / "00000.safetensors")
    assert set(found) == {"query", "key", "checksums"}
    assert torch.equal(found["query"], made._order[0].query)  # type: ignore[attr-defined]


def test_loading_needs_no_pickle_and_no_mapping(tmp_path: Path) -> None:
    make(("window",)).save(tmp_path / "run.fov")
    script = (
        "import sys, pickle, mmap, torch, numpy, foveate as fv\n"
        "def no(*a, **k): raise AssertionError('never')\n"
        "pickle.Unpickler = pickle.loads = pickle.load = mmap.mmap = torch.load = numpy.memmap = torch.from_file = no\n"
        "print(float(fv.load(sys.argv[1])['layers.0.attn'][0].dense().sum()) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run.fov")], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@st.composite
def indexed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    lead = draw(st.integers(0, len(shape)))
    tail = draw(st.integers(0, len(shape) - lead))

    def pick(size: int) -> Any:
        bound = st.one_of(st.none(), st.integers(-size - 1, size + 1))
        cut = st.builds(slice, bound, bound, st.one_of(st.none(), st.integers(1, 3)))
        return draw(st.one_of(st.integers(-size, size - 1), cut))

    picks = [pick(size) for size in shape[:lead]]
    if tail or draw(st.booleans()):
        picks += [..., *(pick(size) for size in shape[len(shape) - tail :])]
    return shape, tuple(picks)


@settings(deadline=None, max_examples=300)
@given(indexed())
def test_a_plan_reads_what_the_index_names(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, index = case
    whole = torch.arange(int(torch.tensor(shape).prod()))
    runs, formed, rest = plan(shape, index)
    read = torch.cat([whole[run.start : run.stop] for run in runs]) if runs else whole[:0]
    assert torch.equal(read.reshape(formed)[rest], whole.reshape(shape)[index])


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ((0, 0, 0), "too many indices: 3 for 2 axes"),
        (9, "index 9 is out of range for axis 0 with size 3"),
        ((..., ...), "one ellipsis at most"),
        (slice(None, None, -1), "step forward"),
        ([0, 1], r"load\(\) it for anything else"),
        (True, r"load\(\) it for anything else"),
    ],
)
def test_indices_that_cannot_be_read(tmp_path: Path, index: Any, text: str) -> None:
    facts = write_tensors(tmp_path, "x.safetensors", {"data": torch.ones(3, 5)})
    with pytest.raises(IndexError, match=text):
        TensorFile(tmp_path, facts)["data"][index]


def test_large_tensors_span_many_blocks(tmp_path: Path) -> None:
    t = torch.randn(3, 70_001)
    facts = write_tensors(tmp_path, "x.safetensors", {"a": t, "empty": torch.empty(0, 3), "b": t.half()})
    file = TensorFile(tmp_path, facts)
    assert torch.equal(file["a"].load(), t)
    assert torch.equal(file["a"][1, 60_000:60_010], t[1, 60_000:60_010])
    assert torch.equal(file["b"][2:, ::7], t.half()[2:, ::7])
    assert file["empty"].load().shape == (0, 3)
    assert repr(file["b"]).startswith("StoredTensor('b', shape=(3, 70001), dtype=torch.float16")
    with pytest.raises(RecordingError, match="has no tensor 'c'; it holds a, empty, b"):
        file["c"]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder.layer.3.attention.self", 3),
        ("decoder.block.3.layer.1.EncDecAttention", 3),
        ("transformer.h.11.attn", 11),
        ("0.layers.2.self_attn", 2),
        ("blocks.7.attn.0", 7),
        ("5", 5),
        ("attn2", None),
    ],
)
def test_layers_are_numbered_by_their_paths(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


def test_the_cache_of_maps_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.recording import recording as module

    make().save(tmp_path / "run.fov")
    monkeypatch.setattr(module, "_CACHE_BYTES", 20_000)
    again = fv.load(tmp_path / "run.fov")
    first = again["layers.0.attn"]
    assert again["layers.0.attn"] is first
    list(again.calls())
    assert sum(c.nbytes for c in again._order if id(c) in again._maps) <= 20_000
    assert again["layers.0.attn"] is not first


def test_all_masks_are_covered() -> None:
    assert set(MASKS) == {"plain", "causal", "window", "documents", "table", "where"}
