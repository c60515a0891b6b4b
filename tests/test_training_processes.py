"""Training that is killed, at every place where it writes, and training in several processes.

Processes are forked from one that has loaded torch already, and has never used more than one thread.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_training
from foveate.tasks.training.world import World
from toy_training import OPTIONS, STEPS

TESTS = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


@pytest.fixture(scope="module")
def fork() -> Iterator[Any]:
    """Start a function of `toy_training` in a process of its own; gives the process."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ |= ENVIRONMENT
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_training", "miniature"])

    def start(what: Any, *args: Any) -> Any:
        process = context.Process(target=what, args=args)
        process.start()
        return process

    yield start
    for name, value in before.items():
        os.environ.pop(name)
        os.environ |= {} if value is None else {name: value}


def log(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens/s")} for line in lines]


def equal(one: Path, other: Path) -> bool:
    a, b = torch.load(one), torch.load(other)
    return all(torch.equal(a[name], b[name]) for name in a | b)


@pytest.fixture(scope="module")
def whole(fork: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    process = fork(toy_training.train_until, folder, False)
    process.join(60)
    assert process.exitcode == 0
    return folder


# In a run of 3 epochs with 6 steps each and a checkpoint after each 4, these files take their places: 1 the log,
# 2 checkpoint, 3-5 epoch, best and checkpoint, 6 and 7 checkpoint, of which the second is of an epoch's last step,
# 8-10, 11 checkpoint, 12-14.
PLACES = [
    *(("replace", n) for n in range(1, 15)), *(("replaced", n) for n in (1, 2, 3, 4, 5, 7, 8, 13, 14)),
    ("step", 1), ("step", 4), ("step", 7), ("step", 18), ("valid", 1), ("valid", 2), ("ended", 1), ("ended", 2),
    ("valid", 4), ("valid", 5),  # which are those that choose
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}-{place[1]}")
def test_a_killed_run_ends_where_it_would_have(place: tuple[str, int], fork: Any, whole: Path, tmp_path: Path) -> None:
    process = fork(toy_training.train_until, tmp_path, False, *place)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    done = len((tmp_path / "calls").read_bytes()) if (tmp_path / "calls").exists() else 0
    going_on = (tmp_path / "checkpoint.safetensors").exists()
    process = fork(toy_training.train_until, tmp_path, going_on)
    process.join(60)
    assert process.exitcode == 0
    assert equal(tmp_path / "final.pt", whole / "final.pt")
    assert log(tmp_path) == log(whole)
    again = len((tmp_path / "calls").read_bytes()) - 3 * STEPS
    assert again <= min(done, OPTIONS.save_every), "more than an interval was lost"
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert names == {path.relative_to(whole).as_posix() for path in whole.rglob("*")}, "something was left over"


def test_a_run_killed_again_and_again(fork: Any, whole: Path, tmp_path: Path) -> None:
    for start, place in enumerate([("step", 6), ("replace", 2), ("ended", 1), ("step", 2)]):
        process = fork(toy_training.train_until, tmp_path, start > 0, *place)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    process = fork(toy_training.train_until, tmp_path, True)
    process.join(60)
    assert equal(tmp_path / "final.pt", whole / "final.pt")
    assert log(tmp_path) == log(whole)


# Several processes

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="several processes on a CPU need gloo, which this build of torch lacks",
)
KILL_AT = 8


def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def two(fork: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator trained by two processes."""
    folder, free = tmp_path_factory.mktemp("two"), port()
    processes = [fork(toy_training.one_of, folder, rank, 2, free) for rank in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return folder


@needs_gloo
def test_two_processes_learn_what_one_learns(two: Path, tmp_path: Path) -> None:
    """Up to the order of sums, in float64; one batch has a single row, so that one of the two has none."""
    before = torch.get_num_threads()
    outcome = toy_training.translate_in(World(), tmp_path, 0)
    torch.set_num_threads(before)
    mine, theirs = torch.load(tmp_path / "final-0-of-1.pt"), torch.load(two / "final-0-of-2.pt")
    assert theirs["steps"] == outcome.steps
    for name, wanted in mine["model"].items():
        torch.testing.assert_close(theirs["model"][name], wanted, rtol=1e-9, atol=1e-11)
    for a, b in zip(log(tmp_path), log(two), strict=True):
        assert a == {k: v if isinstance(v, str) else pytest.approx(v, rel=1e-9) for k, v in b.items()}


@needs_gloo
def test_only_the_leader_writes(two: Path, tmp_path: Path) -> None:
    names = {path.name for path in two.iterdir()}
    assert names == {
        "checkpoint.safetensors",
        "curves.png",
        "epochs",
        "final-0-of-2.pt",
        "final-1-of-2.pt",
        "log.jsonl",
    }
    assert len([line for line in log(two) if line["kind"] == "valid"]) == 2
    assert [torch.load(two / f"final-{rank}-of-2.pt")["validated"] for rank in range(2)] == [4, 0]


@needs_gloo
def test_torchrun_restarts_from_the_checkpoint(two: Path, tmp_path: Path) -> None:
    """One of two processes is killed; both are started anew and end where they would have, to the bit."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1",
        "--master-addr", "127.0.0.1", "--master-port", str(port()), str(TESTS / "toy_training.py"), str(tmp_path),
        str(KILL_AT),
    ]  # fmt: skip
    with subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE, text=True) as started:
        try:
            _, told = started.communicate(timeout=240)
        finally:
            started.terminate()  # which ends its workers too, where something hangs
    assert started.returncode == 0, told[:9000]
    assert (tmp_path / "killed").exists()
    for rank in range(2):
        mine, theirs = (torch.load(folder / f"final-{rank}-of-2.pt") for folder in (tmp_path, two))
        assert mine["restarted"] and not theirs["restarted"]
        assert all(torch.equal(mine["model"][name], tensor) for name, tensor in theirs["model"].items())
    assert log(tmp_path) == log(two)
