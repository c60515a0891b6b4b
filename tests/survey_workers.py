"""Models that workers make for themselves: functions of a module, so that other processes find them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from foveate.heads import Subject, subject_of
from hf_models import FAMILIES

TEXTS = 40  # of a shard in these tests


def bert() -> Subject:
    return subject_of(FAMILIES["bert"].build("sdpa"), name="bert", special=[3, 4, 5])


class Dying:
    """A model that kills its process once, at the given pass; `mark` says that it has done so."""

    def __init__(self, mark: Path, at: int) -> None:
        self.mark, self.at = mark, at

    def __call__(self) -> Subject:
        subject, passes = bert(), 0
        run = subject.run

        def counted(batch: object) -> None:
            nonlocal passes
            passes += 1
            if passes == self.at and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            run(batch)  # type: ignore[arg-type]

        subject.run = counted  # type: ignore[method-assign]
        return subject


class Slow:
    """A model that takes its time, so that it can be killed from outside in the middle."""

    def __call__(self) -> Subject:
        subject = bert()
        run = subject.run

        def slowly(batch: object) -> None:
            time.sleep(0.05)
            run(batch)  # type: ignore[arg-type]

        subject.run = slowly  # type: ignore[method-assign]
        return subject
