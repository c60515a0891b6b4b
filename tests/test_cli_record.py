"""`foveate record`: choices, what it says beforehand, refusals, and going on after it was cut off."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import foveate as fv
from foveate.apps import cli, recorder
from foveate.apps.commands import record
from foveate.recording import RecordingError, RecordingWriter
from tiny import TEXT, save_all

WORDS = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], models: dict[str, Path], tmp_path: Path) -> Any:
    def go(model: str, *more: object, text: str = TEXT, output: str = "run.fov") -> tuple[int, str, str]:
        code = cli.main(["record", str(models[model]), "--text", text, "-o", str(tmp_path / output), *map(str, more)])
        return code, *capsys.readouterr()

    return go


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException) -> None:
    """Writing the call after so many breaks off."""
    append = RecordingWriter.append

    def broken(writer: RecordingWriter, call: Any) -> Any:
        if writer.count == calls:
            raise error
        return append(writer, call)

    monkeypatch.setattr(RecordingWriter, "append", broken)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3", (3,)),
        ("0-2,7", (0, 1, 2, 7)),
        (" 1 - 2 , decoder.*", (1, 2, "decoder.*")),
        ("encoder.layer.1,h-2", ("encoder.layer.1", "h-2")),
    ],
)
def test_layers_as_they_are_written(text: str, wanted: tuple[str | int, ...]) -> None:
    assert record.layers(text) == wanted


@pytest.mark.parametrize("text", ["", ",", "1,,2", "-1", "2-", "1-x", "1.5", "3-1", "a,-b"])
def test_layers_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected numbers, ranges and paths|is an empty range"):
        record.layers(text)


def test_heads_are_numbers() -> None:
    assert record.heads("3,0-1,1") == (0, 1, 3)
    with pytest.raises(argparse.ArgumentTypeError, match="expected numbers and ranges, such as 0-3,11; got 'a'"):
        record.heads("a")


def test_what_is_kept_is_chosen_and_said_beforehand(run: Any, tmp_path: Path) -> None:
    code, out, err = run("bert", "--layers", "1", "--heads", "0,2", "--dtype", "float16", "--no-values")
    assert code == 0
    nbytes = 2 * 2 * 2 * (WORDS + 2) * 8  # query and key, heads, bytes, tokens, width
    about = "22 tokens, 1 attention modules"
    assert err == f"{tmp_path}/run.fov: {about}, {recorder.size(nbytes)}\n"
    assert out == f"{tmp_path}/run.fov: bert, {about}; foveate view {tmp_path}/run.fov\n"
    seen = fv.load(tmp_path / "run.fov")
    (name,) = seen
    info, stored = seen.info(name), seen.read(name, "query")
    assert stored is not None
    assert (info.layer, info.numbers, stored.dtype, seen.read(name, "value")) == (1, (0, 2), torch.float16, None)
    assert sum(seen.read(name, role)[:].nbytes for role in ("query", "key")) == nbytes
    assert seen.complete
    assert run("bert", output="all.fov")[0] == 0
    whole = fv.load(tmp_path / "all.fov")
    torch.testing.assert_close(seen[name].dense(), whole[name].dense()[:, [0, 2]], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("model", "more"), [("gpt2", ()), ("t5", ("--target", "one two")), ("t5", ())])
def test_the_estimate_is_what_it_takes(run: Any, tmp_path: Path, model: str, more: tuple[str, ...]) -> None:
    code, _, err = run(model, *more)
    assert code == 0
    seen = fv.load(tmp_path / "run.fov")
    parts = [seen.read(name, role)[:].nbytes for name in seen for role in ("query", "key", "value")]
    assert err.endswith(f" attention modules, {recorder.size(sum(parts))}\n")


def test_a_pass_ends_after_the_last_layer_that_was_asked_for(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    forward = nn.LayerNorm.forward

    def counted(module: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        ran.append(x.shape[1])
        return forward(module, x)

    monkeypatch.setattr(nn.LayerNorm, "forward", counted)
    assert run("gpt2", "--layers", "0")[0] == 0
    assert ran.count(WORDS) == 1  # of 5; the probe is shorter
    assert [info.layer for *_, info in fv.load(tmp_path / "run.fov").calls()] == [0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--layers", "7"), "layers=[7] matches no module of BertModel"),
        (("--layers", "decoder.*"), "layers=['decoder.*'] matches no module"),
        (("--heads", "3"), "head 3 was asked for; it has heads 0 to 2"),
        (("--target", "x"), "--target is for encoder-decoder models"),
        (("--resume",), "nothing to resume: there is no "),
    ],
)
def test_refusals(run: Any, tmp_path: Path, more: tuple[str, ...], told: str) -> None:
    code, out, err = run("bert", *more)
    assert (code in (1, 2), out) == (True, "")
    assert told in err
    assert not (tmp_path / "run.fov").exists()
    assert "there is no folder" in run("bert", output="no/run.fov")[2]


def test_too_little_room(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda where: usage(10**9, 10**9, recorder.SPARE + 1000))
        code, _, err = run("bert")
        assert code == 1
        assert "foveate: the recording takes 12.7 kB, and 67.1 MB are free at" in err
        assert "Keep less: fewer --layers or --heads, --no-values, or --dtype float16" in err
    monkeypatch.setattr(recorder, "_available", lambda: 1000)
    code, _, err = run("bert")
    assert code == 1
    assert "one pass takes 16.9 kB of memory beside the model, at least, and 1.0 kB are left" in err
    assert not (tmp_path / "run.fov").exists()


def test_after_ctrl_c_it_goes_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("gpt2", output="whole.fov")[0] == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        code, out, err = run("gpt2")
    assert (code, out) == (130, "")
    again = err.splitlines()[-1]
    assert err.splitlines()[-2] == f"Stopped; 1 of 2 calls are in {tmp_path}/run.fov. To go on:"
    assert again.startswith("  foveate record ")
    assert again.endswith(" --resume")
    first = tmp_path / "run.fov" / "calls" / "00000.safetensors"
    before = first.stat().st_mtime_ns
    assert "exists already; choose another name or remove it, or go on with it: --resume" in run("gpt2")[2]
    assert run("gpt2", "--resume")[0] == 0
    assert first.stat().st_mtime_ns == before
    for name in ("index.jsonl", "manifest.json", "COMPLETE", "calls/00000.safetensors", "calls/00001.safetensors"):
        assert (tmp_path / "run.fov" / name).read_bytes() == (tmp_path / "whole.fov" / name).read_bytes()
    assert "is finished: there is nothing to go on with" in run("gpt2", "--resume")[2]


def test_a_full_disk_loses_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    for calls, said in ((0, "No space left on device"), (1, "No space left on device; 1 of 2 calls are in ")):
        with monkeypatch.context() as patch:
            stop_after(patch, calls, full)
            code, out, err = run("gpt2")
        assert (code, out) == (1, "")
        assert said in err
        assert (tmp_path / "run.fov").exists() == (calls > 0)
    assert run("gpt2", "--resume")[0] == 0


def test_another_text_or_choice_is_not_gone_on_with(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        run("gpt2")
    before = (tmp_path / "run.fov" / "index.jsonl").read_bytes()
    other = " ".join(reversed(TEXT.split()))
    for more, text in (((), other), ((), "the cat"), (("--heads", "1"), TEXT)):
        code, _, err = run("gpt2", "--resume", *more, text=text)
        assert code == 1
        assert "is of another text, model or choice of heads; go on with the same, or record into another folder" in err
    code, _, err = run("gpt2", "--resume", "--layers", "1")
    assert code == 1
    assert "has 1 calls that did not happen again" in err
    assert (tmp_path / "run.fov" / "index.jsonl").read_bytes().startswith(before)
    assert not (tmp_path / "run.fov" / "COMPLETE").exists()


def test_kill_9_loses_nothing_that_was_complete(models: dict[str, Path], tmp_path: Path) -> None:
    """Killed after the first call was listed, with a half line behind it."""
    script = (
        "import os, signal, sys; from foveate.apps import cli; from foveate.recording import RecordingWriter\n"
        "append = RecordingWriter.append\n"
        "def killed(writer, call):\n"
        "    if writer.count == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return append(writer, call)\n"
        "RecordingWriter.append = killed\n"
        "cli.main(sys.argv[1:])\n"
    )
    words = ["record", str(models["gpt2"]), "--text", TEXT, "-o", str(tmp_path / "run.fov")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, timeout=120, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    index = tmp_path / "run.fov" / "index.jsonl"
    whole = index.read_bytes()
    index.write_bytes(whole + whole[: len(whole) // 2])
    assert cli.main([*words, "--resume"]) == 0
    seen = fv.load(tmp_path / "run.fov")
    assert (len(seen), seen.complete) == (2, True)
    assert index.read_bytes().startswith(whole)


def test_resume_from_python(tmp_path: Path) -> None:
    model, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.ones(1, 3, 8)
    with fv.watch(model, to=tmp_path / "new.fov", resume=True):  # nothing is there yet
        model(x, x, x)
    with pytest.raises(RecordingError, match="is finished"), fv.watch(model, to=tmp_path / "new.fov", resume=True):
        model(x, x, x)
    for options in ({}, {"to": "cuda"}, {"to": None}, {"to": tmp_path / "x", "overwrite": True}):
        with pytest.raises(ValueError, match="resume goes on with a recording at the path `to`"):
            fv.watch(model, resume=True, **options)


@pytest.mark.parametrize(
    ("nbytes", "told"), [(0, "0 bytes"), (999, "999 bytes"), (25_344, "25.3 kB"), (4e8, "400 MB"), (9.7e9, "9.7 GB")]
)
def test_sizes_for_people(nbytes: float, told: str) -> None:
    assert recorder.size(nbytes) == told
