"""A corpus in shards, each measured by whoever is free, put together in order.

Shards follow from the texts alone, and so do the batches within them; sums are added in the order of the shards. So the
result is the same to the last bit for one process or many, for Ray, and after any number of interruptions. What is
kept in between are files, one for each shard, complete or not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError
from ..recording.disk import write_whole
from .shard import Options, measure
from .state import State
from .subject import Subject, Text

__all__ = ["Folder", "Job", "Make", "Measure", "SurveyError", "gather", "here", "jobs_of"]

TEXTS, CHARACTERS = 1024, 1 << 20  # of a shard, at most; but one text is never divided

Make = Callable[[], Subject]


class SurveyError(UserError):
    """A survey cannot go on; the message says why, and what to do."""


@dataclass(frozen=True)
class Job:
    """A shard: its number, and its texts by their numbers."""

    number: int
    texts: tuple[tuple[int, Text], ...]

    @property
    def digest(self) -> str:
        """Changes with the texts."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()[:16]


Measure = Callable[[Iterator[Job]], Iterator[tuple[Job, bytes]]]  # jobs in, states out, in any order


def jobs_of(texts: Iterable[Text], most: int = TEXTS) -> Iterator[Job]:
    """The shards of a corpus, one after another as it is read."""
    held: list[tuple[int, Text]] = []
    size = shard = 0
    for number, text in enumerate(texts):
        size += _size(text)
        if held and (len(held) == most or size > CHARACTERS):
            yield Job(shard, tuple(held))
            held, size, shard = [], _size(text), shard + 1
        held.append((number, text))
    if held:
        yield Job(shard, tuple(held))


def _size(text: Any) -> int:
    """Characters, or what so many ids would have."""
    if isinstance(text, str):
        return len(text)
    if isinstance(text, tuple) and len(text) == 2 and not isinstance(text[0], int):
        return _size(text[0]) + _size(text[1])
    return 4 * len(text) if isinstance(text, list | tuple) else 0


class Folder:
    """Where a survey keeps the shards that are done: `shard-00003-9f86d081884c7d65.safetensors`, by number and digest.

    Args:
        path: a folder of its own.
        about: what must be the same to go on: model, options, version.
        resume: go on with what is there.

    Raises:
        SurveyError: something is there that is not to be gone on with, or is of another survey.
    """

    def __init__(self, path: Path, about: dict[str, Any], *, resume: bool = False) -> None:
        self.path, facts = path, path / "survey.json"
        wanted = json.dumps(about, sort_keys=True, indent=1) + "\n"
        if path.exists() and not resume:
            raise SurveyError(f"an unfinished survey is in {path}; go on with it: --resume, or remove it")
        path.mkdir(exist_ok=True)
        if facts.exists():
            there = json.loads(facts.read_text(encoding="utf-8"))
            changed = sorted(name for name in {*about, *there} if about.get(name) != there.get(name))
            if changed:
                name = changed[0]
                raise SurveyError(
                    f"{path} is of another survey: its {name} is {there.get(name)}, and now it is {about.get(name)}. "
                    "Give the same again, or remove the folder"
                )
        else:
            _write(facts, wanted.encode())

    def _name(self, job: Job) -> Path:
        return self.path / f"shard-{job.number:05d}-{job.digest}.safetensors"

    def has(self, job: Job) -> bool:
        """Whether the shard is done.

        Raises:
            SurveyError: one of this number is, of other texts.
        """
        if self._name(job).exists():
            return True
        if next(self.path.glob(f"shard-{job.number:05d}-*.safetensors"), None) is not None:
            raise SurveyError(f"the texts of shard {job.number} have changed since {self.path} was begun; remove it")
        return False

    def put(self, job: Job, data: bytes) -> None:
        _write(self._name(job), data)

    def get(self, job: Job) -> bytes:
        return self._name(job).read_bytes()

    def remove_if_empty(self) -> bool:
        """Leave nothing behind where nothing was done; whether that was so."""
        empty = next(self.path.glob("shard-*.safetensors"), None) is None
        if empty:
            self.remove()
        return empty

    def remove(self) -> None:
        """All of it, once the result is where it belongs."""
        for path in [*self.path.glob("shard-*.safetensors"), *self.path.glob(".*.tmp"), self.path / "survey.json"]:
            path.unlink(missing_ok=True)
        if self.path.is_dir():  # another run that went on with it may have been the first to end
            self.path.rmdir()


def _write(path: Path, data: bytes) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(data)

    write_whole(path, fill)


def gather(
    jobs: Iterable[Job], run: Measure, folder: Folder | None = None, tell: Callable[[int], None] | None = None
) -> State:
    """Measure every shard that is not done yet, and add them all up in their order.

    Args:
        tell: is given the number of texts in what is added up so far.

    Raises:
        SurveyError: there is no text, or parts are of different models.
    """
    waiting: dict[int, bytes | Job] = {}
    whole: State | None = None
    following = 0

    def done(job: Job, data: bytes | None) -> None:
        nonlocal whole, following
        if folder is None:
            assert data is not None
            waiting[job.number] = data
        else:
            if data is not None:
                folder.put(job, data)
            waiting[job.number] = job
        while following in waiting:
            one = waiting.pop(following)
            part = State.of_bytes(one if isinstance(one, bytes) else folder.get(one))  # type: ignore[union-attr]
            if whole is None:
                whole = part
            else:
                whole.merge(part)
            following += 1
            if tell is not None:
                tell(whole.texts)

    def missing() -> Iterator[Job]:
        for job in jobs:
            if folder is not None and folder.has(job):
                done(job, None)
            else:
                yield job

    for job, data in run(missing()):
        done(job, data)
    if whole is None:
        raise SurveyError("the corpus has no text")
    return whole


def here(subject: Subject, options: Options) -> Measure:
    """Measure one shard after another, in this process."""

    def run(jobs: Iterator[Job]) -> Iterator[tuple[Job, bytes]]:
        for job in jobs:
            yield job, measure(subject, job.texts, options).to_bytes()

    return run
