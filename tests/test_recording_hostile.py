"""Damaged, cut off and hostile recordings: one clear error, or what was complete, and never a wrong number."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import foveate as fv
from foveate.recording import Recording, RecordingError
from foveate.recording.strict import RecordingWarning, parse, seal
from foveate.recording.tensorfile import FileFacts, TensorFile
from recordings import edit_line, edit_manifest, make, read_all, same


@pytest.fixture(scope="module")
def made() -> Recording:
    return make()


@pytest.fixture(scope="module")
def saved(made: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run.fov"
    made.save(path)
    return path


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run.fov"))


def files_of(path: Path) -> list[Path]:
    return sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gives_a_wrong_number(made: Recording, saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Flip, cut, extend or delete anywhere in any file: an error, or the calls that were complete, all equal."""
    path = tmp_path / "run.fov"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(saved, path)
    file = path / data.draw(st.sampled_from(files_of(saved)))
    content = bytearray(file.read_bytes())
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "delete", "swap"]))
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    if how == "flip" and content:
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del content[at:]
    elif how == "extend":
        content += data.draw(st.binary(min_size=1, max_size=9))
    elif how == "swap":  # another whole file in its place
        content = bytearray((path / data.draw(st.sampled_from(files_of(saved)))).read_bytes())
    file.write_bytes(content)
    if how == "delete":
        file.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        found = error = None
        try:
            found = read_all(path)
        except RecordingError as raised:
            error = str(raised)
    if found is None:
        assert error is not None
        assert error.startswith(("run.fov/", str(path)))
        return
    assert found.notes == made.notes
    same(found, made, len(found._order))
    assert len(found._order) == len(made._order) or not found.complete


@pytest.mark.parametrize("name", ["manifest.json", "index.jsonl", "COMPLETE", "calls/00000.safetensors"])
def test_a_missing_or_cut_file_is_named(copied: Path, name: str) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-3])
    with pytest.raises(RecordingError, match=rf"^run\.fov/({name}|index\.jsonl)"):
        read_all(copied)


def test_a_torn_last_line_is_dropped_and_said(copied: Path, made: Recording) -> None:
    (copied / "COMPLETE").unlink()
    whole = (copied / "index.jsonl").read_bytes()
    for cut in (1, 40, 200):
        (copied / "index.jsonl").write_bytes(whole[:-cut])
        with pytest.warns(RecordingWarning, match=f"{len(made._order) - 1} complete calls are there"):
            found = read_all(copied)
        same(found, made, len(made._order) - 1)
    (copied / "index.jsonl").write_bytes(whole[:-3] + b"\0\0\n")  # a line whose end never reached the disk
    with pytest.warns(RecordingWarning, match=rf"{len(made._order) - 1} complete calls"):
        assert not fv.load(copied).complete


def test_a_torn_line_in_the_middle_is_an_error(copied: Path) -> None:
    (copied / "COMPLETE").unlink()
    lines = (copied / "index.jsonl").read_text().splitlines()
    (copied / "index.jsonl").write_text("\n".join([lines[0], lines[1][:50], *lines[2:]]) + "\n")
    with pytest.raises(RecordingError, match=r"index\.jsonl, line 2: not valid JSON"):
        fv.load(copied)


def test_a_file_cut_off_after_loading_is_an_error_and_not_a_signal(copied: Path) -> None:
    seen = fv.load(copied)
    stored = seen.read("layers.0.attn", "query")
    os.truncate(copied / "calls" / "00000.safetensors", 300)
    with pytest.raises(RecordingError, match="it has 300: cut off or replaced"):
        stored[0]  # type: ignore[index]


NAMES = [
    "/etc/passwd.safetensors",
    "../outside.safetensors",
    "calls/../../outside.safetensors",
    "calls/.hidden.safetensors",
    "calls//00000.safetensors",
    "calls/sub/00000.safetensors",
    "calls/00000.safetensors/",
    "calls\\00000.safetensors",
    "calls/\u0000.safetensors",
    "shared/00000.safetensors",
    "calls/00000.npy",
    "~/x.safetensors",
]


@pytest.mark.parametrize("name", NAMES)
def test_paths_that_lead_elsewhere_are_refused_before_they_are_resolved(
    copied: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_line(copied, lambda entry: entry.update(file=name))
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or real(path, *a, **k))
    with pytest.raises(RecordingError, match=r"'file' must be calls/NAME\.safetensors|is not a plain file name"):
        read_all(copied)
    assert not any("outside" in path or "passwd" in path for path in opened)


@pytest.mark.parametrize("what", ["file", "folder", "manifest"])
def test_links_are_not_followed(copied: Path, tmp_path: Path, what: str) -> None:
    target = {
        "file": copied / "calls" / "00000.safetensors",
        "folder": copied / "calls",
        "manifest": copied / "manifest.json",
    }[what]
    moved = tmp_path / "elsewhere"
    os.rename(target, moved)
    os.symlink(moved, target)
    with pytest.raises(RecordingError, match=r"links are not followed|cannot be opened as a plain file"):
        read_all(copied)


def test_pipes_and_folders_are_not_read(copied: Path) -> None:
    (copied / "manifest.json").unlink()
    os.mkfifo(copied / "manifest.json")
    with pytest.raises(RecordingError, match=r"manifest\.json: is not a plain file"):
        fv.load(copied)


Change = Callable[[dict[str, Any]], Any]
ENTRIES: dict[str, tuple[Change, str]] = {
    "missing": (lambda e: e.pop("heads"), "the field 'heads' is missing"),
    "type": (lambda e: e.update(bytes="many"), "'bytes' must be int; got str"),
    "bool as int": (lambda e: e.update(step=True), "'step' must be int; got bool"),
    "float size": (lambda e: e.update(bytes=1e3), "'bytes' must be int; got float"),
    "negative": (lambda e: e.update(bytes=-1), "'bytes' must lie between 0 and"),
    "huge": (lambda e: e.update(bytes=2**70), "'bytes' must lie between 0 and"),
    "huge shape": (lambda e: e.update(query=[2**30, 2**30, 2**30]), "'query' is larger than any tensor"),
    "odd shape": (lambda e: e.update(query=[2, "6", 5, 11]), "'query' must hold whole numbers"),
    "long shape": (lambda e: e.update(query=[1] * 99), "'query' is larger than any tensor"),
    "flat shape": (lambda e: e.update(query=[5], key=[5]), "the same three or more axes"),
    "no key": (lambda e: e.update(key=None), "must have a query and a key"),
    "heads": (lambda e: e.update(heads=5), "'heads' must be the query's number of heads"),
    "other shape": (lambda e: e.update(query=[2, 6, 7, 11]), "query must be floating point of shape"),
    "kind": (lambda e: e.update(kind="evil"), "'kind' must be one of encoder, decoder, cross; got 'evil'"),
    "dtype": (lambda e: e.update(dtype="object"), "'dtype' must be one of float64"),
    "step": (lambda e: e.update(step=4), "must be numbered 0, 1, 2"),
    "mask": (
        lambda e: e.update(mask={"kind": "System", "command": "ls"}),
        "the mask cannot be restored: unknown kind 'System'",
    ),
    "mask type": (lambda e: e.update(mask="causal"), "'mask' must be dict or null; got str"),
    "mask is a score": (lambda e: e.update(mask=e["score"]), "the field 'mask' does not describe a mask"),
    "score": (lambda e: e.update(score={"kind": "Dot", "scale": "x", "softcap": []}), "line 1: "),
    "score is null": (lambda e: e.update(score=None), "'score' must be dict; got NoneType"),
    "deep mask": (lambda e: e.update(mask=deep(200)), "the mask cannot be restored: a description may be nested"),
    "lost tensor": (
        lambda e: e.update(tensors={}),
        "the normalizer cannot be restored: the description names a tensor",
    ),
    "tensors": (lambda e: e.update(tensors={"bias": 3}), "must hold a JSON object; got int"),
    "window": (lambda e: e.update(mask={"kind": "Band", "left": "far", "right": 0, "align": "end"}), "line 1: "),
    "padding": (lambda e: e.update(mask={"kind": "Padding", "lengths": 3, "side": "right"}), "line 1: "),
    "bytes": (lambda e: e.update(bytes=e["bytes"] - 1), "cut off or replaced"),
    "header": (lambda e: e.update(header=1), "the header is not the one that the index lists"),
    "checksums": (lambda e: e.update(checksums=1), "the table of checksums is damaged"),
}


def deep(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"kind": "Everything"}
    for _ in range(levels):
        inner = {"kind": "Not", "inner": inner}
    return inner


@pytest.mark.parametrize("case", ENTRIES)
def test_entries_that_break_a_rule_are_named(copied: Path, case: str) -> None:
    change, text = ENTRIES[case]
    edit_line(copied, change)
    with pytest.raises(RecordingError, match=text) as caught:
        read_all(copied)
    assert "run.fov/" in str(caught.value)


MANIFESTS: dict[str, tuple[Change, str]] = {
    "format": (lambda m: m.update(format="zip"), "'format' must be one of foveate-recording; got 'zip'"),
    "version": (lambda m: m.update(version=2), "is of version 2; this reads 1"),
    "tokens": (lambda m: m.update(tokens="text"), "'tokens' must be list or null; got str"),
    "token": (lambda m: m.update(tokens=[["a"], [1]]), "'tokens' must hold strs at depth 2"),
    "rows": (lambda m: m.update(tokens=["a"]), "'tokens' must hold lists at depth 1"),
    "lengths": (lambda m: m.update(lengths=[1.5]), "'lengths' must hold ints at depth 1"),
    "model": (lambda m: m.update(model=None), "'model' must be str; got NoneType"),
    "missing": (lambda m: m.pop("lengths"), "the field 'lengths' is missing"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_break_a_rule_are_named(copied: Path, case: str) -> None:
    change, text = MANIFESTS[case]
    edit_manifest(copied, change)
    with pytest.raises(RecordingError, match=rf"run\.fov/manifest\.json: .*{text}"):
        fv.load(copied)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"a": 1, "a": 2}', "a key appears twice"),
        ('{"a": {"b": 1, "b": 1}}', "a key appears twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("\xff", "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_json_is_read_strictly(text: str, rule: str) -> None:
    with pytest.raises(RecordingError, match=rf"^here: .*{rule}"):
        parse(text.encode("latin-1"), "here")


def craft(root: Path, header: bytes, data: bytes, length: int | None = None) -> TensorFile:
    """Open a safetensors file made by hand, with the checksums that an attacker would list for it."""
    raw = (len(header) if length is None else length).to_bytes(8, "little") + header
    (root / "x.safetensors").write_bytes(raw + data)
    return TensorFile(root, FileFacts("x.safetensors", len(raw) + len(data), zlib.crc32(raw), zlib.crc32(data[-4:])))


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SUM = {"checksums": entry("U32", [1], 8, 12)}
HEADERS: dict[str, tuple[Any, str]] = {
    "good": ({"a": entry("F32", [2], 0, 8), **SUM}, ""),
    "overlap": ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8), **SUM}, "neither overlap nor leave holes"),
    "hole": ({"a": entry("F32", [1], 4, 8), **SUM}, "neither overlap nor leave holes"),
    "beyond": ({"a": entry("F32", [4], 0, 16), **SUM}, "neither overlap nor leave holes"),
    "short": ({"a": entry("F32", [2], 0, 8)}, "describes 8 bytes of data; the file holds 12"),
    "shape": ({"a": entry("F32", [3], 0, 8), **SUM}, "do not agree with the dtype and shape"),
    "backwards": ({"a": entry("F32", [2], 8, 0), **SUM}, "do not agree with the dtype and shape"),
    "offsets": ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}, **SUM}, "do not agree"),
    "negative": ({"a": entry("F32", [-2], 0, 8), **SUM}, "'shape' must hold whole numbers"),
    "wrapped": ({"a": entry("F32", [2**32, 2**32, 2], 0, 8), **SUM}, "'shape' is larger than any tensor"),
    "dtype": ({"a": entry("O", [2], 0, 8), **SUM}, "'dtype' must be one of F64"),
    "no sums": ({"a": entry("F32", [3], 0, 12)}, "must hold the tensor 'checksums' of uint32"),
    "sums first": (
        {"checksums": entry("U32", [1], 0, 4), "a": entry("F32", [2], 4, 12)},
        "'checksums' must come last and have one entry per 65536 bytes",
    ),
    "not an object": ([1, 2], "must hold a JSON object; got list"),
    "entry": ({"a": 5, **SUM}, "'a' must be dict; got int"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_break_a_rule_are_refused(tmp_path: Path, case: str) -> None:
    content, text = HEADERS[case]
    data = torch.tensor([1.0, 2.0]).numpy().tobytes()
    data += zlib.crc32(data).to_bytes(4, "little")
    if not text:
        assert craft(tmp_path, json.dumps(content).encode(), data)["a"].load().tolist() == [1, 2]
        return
    with pytest.raises(RecordingError, match=text):
        craft(tmp_path, json.dumps(content).encode(), data)


def test_a_duplicate_key_in_a_header_is_refused(tmp_path: Path) -> None:
    one, two = (json.dumps(entry("F32", [n], 0, 4 * n)) for n in (2, 1))
    header = f'{{"a": {one}, "a": {two}, "checksums": {json.dumps(SUM["checksums"])}}}'.encode()
    with pytest.raises(RecordingError, match="a key appears twice"):
        craft(tmp_path, header, bytes(12))


@pytest.mark.parametrize("length", [0, 10**6 + 10**5, 2**63])
def test_header_lengths_out_of_bounds_are_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(RecordingError, match=r"out of bounds|not valid JSON"):
        craft(tmp_path, b"{}", bytes(12), length)


def test_booleans_on_disk_are_true_or_false(tmp_path: Path) -> None:
    data = bytes([0, 1, 2, 255, 0, 0, 0, 0])
    header = {"a": entry("BOOL", [8], 0, 8), **SUM}
    file = craft(tmp_path, json.dumps(header).encode(), data + zlib.crc32(data).to_bytes(4, "little"))
    assert file["a"].load().sum() == 3


def test_sealed_lines_notice_any_change() -> None:
    from foveate.recording.strict import unseal

    line = seal({"a": [1, 2.5, None, "é"]})
    assert unseal(line, "x").content == {"a": [1, 2.5, None, "é"]}
    with pytest.raises(RecordingError, match="the checksum does not match"):
        unseal(line.replace("2.5", "2.6"), "x")
