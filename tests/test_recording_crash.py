"""kill -9 at every step of a save: what is there afterwards is whole, or says that it is not.

A child forks once per step; the fork sends itself SIGKILL before or after the n-th fsync, rename or write of a byte
to the index, so every crash point is hit, deterministically.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import foveate as fv
from foveate.recording import RecordingError, RecordingWarning
from recordings import make, same

CALLS = ("window", "table")

CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
import torch
torch.set_num_threads(1)
from foveate.recording import Notes, RecordingWriter
from recordings import make

how, folder = sys.argv[1], sys.argv[2]
made = make(("window", "table"))

def work(path):
    if how == "save":
        made.save(path)
        return
    writer = RecordingWriter(path, made.notes)
    for call in made._order:
        writer.append(call)
    writer.close(made.notes)

def kill_at(step):
    count = 0
    def deadly(real):
        def function(*args, **options):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **options)
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return function
    os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)

step = 0
while True:
    step += 1
    child = os.fork()
    if child == 0:
        kill_at(step)
        work(os.path.join(folder, f"{step:03d}", "run.fov"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, status
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(step)
"""


def crash(how: str, folder: Path) -> list[Path]:
    """One folder for each step at which the writer was killed; the last one finished."""
    arguments = [sys.executable, "-W", "error", "-c", CHILD, how, str(folder), ":".join(filter(None, sys.path))]
    for step in range(1, 200):
        (folder / f"{step:03d}").mkdir()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [folder / f"{step:03d}" / "run.fov" for step in range(1, int(done.stdout) + 1)]


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return crash("stream", tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return crash("save", tmp_path_factory.mktemp("save"))


def test_a_streamed_recording_gives_every_call_that_was_complete(streamed: list[Path]) -> None:
    made, counts = make(CALLS), []
    for path in streamed[:-1]:
        if (path / "COMPLETE").exists():  # killed after the last rename
            same(fv.load(path), made)
            continue
        if not (path / "index.jsonl").exists():
            with pytest.raises((FileNotFoundError, RecordingError), match=r"no recording there|the file is missing"):
                fv.load(path)
            continue
        with pytest.warns(RecordingWarning, match="complete calls are there, what came after is lost"):
            found = fv.load(path)
        counts.append(len(found._order))
        same(found, made, counts[-1])
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}
    same(fv.load(streamed[-1]), made)


def test_a_killed_save_leaves_the_path_free_and_its_part_readable(saved: list[Path]) -> None:
    made, counts = make(CALLS), []
    for step, path in enumerate(saved[:-1]):
        if path.exists():  # killed after the last rename
            same(fv.load(path), made)
            continue
        parts = list(path.parent.glob(".run.fov.*.part"))
        assert len(parts) == 1
        with pytest.raises(FileNotFoundError, match=r"a save was interrupted, and fv\.load\(.*\.part'\) gives"):
            fv.load(path)
        if (parts[0] / "COMPLETE").exists():
            same(fv.load(parts[0]), made)
        elif (parts[0] / "index.jsonl").exists():
            with pytest.warns(RecordingWarning, match="never finished"):
                found = fv.load(parts[0])
            counts.append(len(found._order))
            same(found, made, counts[-1])
        if step % 12 == 0:  # the path can be saved to again
            made.save(path)
            same(fv.load(path), made)
    assert set(counts) == {0, 1, 2, 3}


def test_there_were_many_steps(streamed: list[Path], saved: list[Path]) -> None:
    assert len(streamed) > 40
    assert len(saved) > 40
