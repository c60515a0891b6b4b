"""A survey in shards: the same to the last bit for any number of processes, killed or not, on Ray, and gone on with."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.heads import engine, workers
from foveate.heads.engine import Folder, Job, SurveyError, gather, here, jobs_of
from foveate.heads.shard import Options
from foveate.heads.state import State
from survey_workers import Dying, small

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = Options(rows=16)
ABOUT = {"model": "small"}


def texts(count: int = 150) -> list[list[int]]:
    chance = random.Random(3)
    return [[chance.randrange(3, 14) for _ in range(chance.randrange(1, 24))] for _ in range(count)]


def jobs() -> Iterator[Job]:
    return jobs_of(texts(), most=40)


@pytest.fixture(scope="module")
def wanted() -> bytes:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = gather(jobs(), here(small(), OPTIONS)).to_bytes()
    torch.set_num_threads(before)
    return found


def test_shards_follow_from_the_texts_alone() -> None:
    made = list(jobs())
    assert [len(job.texts) for job in made] == [40, 40, 40, 30]
    assert [number for job in made for number, _ in job.texts] == list(range(150))
    assert [text for job in made for _, text in job.texts] == texts()
    assert len({job.digest for job in made}) == 4
    long = list(jobs_of(["a" * (engine.CHARACTERS // 2 + 1)] * 3))
    assert [len(job.texts) for job in long] == [1, 1, 1]


def test_a_state_comes_back_from_its_bytes(wanted: bytes) -> None:
    assert State.of_bytes(wanted).to_bytes() == wanted
    for broken in (b"", wanted[:100], wanted.replace(b'"survey"', b'"purvey"')):
        with pytest.raises(ValueError, match="this is no part of a survey"):
            State.of_bytes(broken)


def test_parts_of_another_model_are_refused() -> None:
    job = next(jobs())
    one, other = (State.of_bytes(next(here(small(), o)(iter([job])))[1]) for o in (OPTIONS, Options(rows=8)))
    with pytest.raises(ValueError, match="parts of a survey are of different models or options"):
        one.merge(other)


def test_four_processes_give_the_same_bits(wanted: bytes) -> None:
    assert gather(jobs(), workers.in_processes(small, OPTIONS, 4)).to_bytes() == wanted


def test_two_processes_give_the_same_bits_when_one_is_killed(wanted: bytes, tmp_path: Path) -> None:
    make = Dying(tmp_path / "died", 3)
    assert gather(jobs(), workers.in_processes(make, OPTIONS, 2)).to_bytes() == wanted
    assert make.mark.exists()


def test_workers_that_always_die_end_it() -> None:
    with pytest.raises(SurveyError, match=r"workers died 4 times in a row; .* Take fewer: --processes 1"):
        gather(jobs(), workers.in_processes(partial(os._exit, 7), OPTIONS, 1))


def test_mistakes_in_workers_are_said() -> None:
    bad = jobs_of([[5], []])
    with pytest.raises(ValueError, match="text 1 has no token"):
        gather(bad, workers.in_processes(small, OPTIONS, 1))


def test_it_goes_on_where_it_stopped(wanted: bytes, tmp_path: Path) -> None:
    """Any shards may be there; they are not measured again."""
    folder = Folder(tmp_path / "parts", ABOUT)
    gather(jobs(), here(small(), OPTIONS), folder)
    files = sorted((tmp_path / "parts").glob("shard-*.safetensors"))
    assert [path.name[:12] for path in files] == [f"shard-{n:05d}-" for n in range(4)]
    files[1].unlink(), files[3].unlink()
    done: list[int] = []

    def counted(given: Iterator[Job]) -> Iterator[tuple[Job, bytes]]:
        for job, data in here(small(), OPTIONS)(given):
            done.append(job.number)
            yield job, data

    again = Folder(tmp_path / "parts", ABOUT, resume=True)
    assert gather(jobs(), counted, again).to_bytes() == wanted
    assert done == [1, 3]
    again.remove()
    assert not (tmp_path / "parts").exists()


def test_what_is_not_to_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "parts", ABOUT)
    gather(jobs(), here(small(), OPTIONS), folder)
    with pytest.raises(SurveyError, match=r"an unfinished survey is in .*; go on with it: --resume"):
        Folder(tmp_path / "parts", ABOUT)
    with pytest.raises(SurveyError, match="its model is small, and now it is gpt2"):
        Folder(tmp_path / "parts", {"model": "gpt2"}, resume=True)
    changed = jobs_of([[7], *texts()[1:]], most=40)
    with pytest.raises(SurveyError, match="the texts of shard 0 have changed"):
        gather(changed, here(small(), OPTIONS), folder)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from foveate.heads import workers
from foveate.heads.engine import Folder, gather
from survey_workers import Slow
import test_survey_engine as these
folder = Folder(Path(sys.argv[1]), these.ABOUT, resume=True)
gather(these.jobs(), workers.in_processes(Slow(), these.OPTIONS, 2), folder)
print("done")
"""


def test_kill_9_loses_nothing_that_was_done(wanted: bytes, tmp_path: Path) -> None:
    """The program and its workers; no worker stays behind."""
    parts, code = tmp_path / "parts", KILLED.format(tests=str(Path(__file__).parent))
    child = subprocess.Popen([sys.executable, "-c", code, str(parts)], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(parts.glob("shard-*.safetensors")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = len(list(parts.glob("shard-*.safetensors")))
    assert 0 < kept < 4
    assert gather(jobs(), here(small(), OPTIONS), Folder(parts, ABOUT, resume=True)).to_bytes() == wanted
    while _members(child.pid):
        assert time.monotonic() < deadline, "workers outlive the program that started them"
        time.sleep(0.05)


def _members(group: int) -> list[int]:
    """Processes of a session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs Ray")
    paths = os.pathsep.join(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield ray
        ray.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_ray_gives_the_same_bits_when_a_worker_is_killed(cluster: Any, wanted: bytes, tmp_path: Path) -> None:
    make = Dying(tmp_path / "died", 3)
    assert gather(jobs(), workers.on_ray(make, OPTIONS, 2)).to_bytes() == wanted
    assert make.mark.exists()


def test_the_folder_says_what_it_is_of(tmp_path: Path) -> None:
    Folder(tmp_path / "parts", ABOUT)
    assert json.loads((tmp_path / "parts" / "survey.json").read_text()) == ABOUT
