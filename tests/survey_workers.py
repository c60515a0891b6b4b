"""Models that workers make for themselves: functions of a module, so that other processes find them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from foveate.heads import Subject, subject_of


def small() -> Subject:
    """Two layers of PyTorch's own, so that a worker has little to import."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(24, 6, 20, batch_first=True)
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return subject_of(nn.Sequential(nn.Embedding(97, 24), layers).eval(), name="small", special=[3, 4, 5])


class Dying:
    """A model that kills its process once, at the given pass; `mark` says that it has done so."""

    def __init__(self, mark: Path, at: int) -> None:
        self.mark, self.at = mark, at

    def __call__(self) -> Subject:
        subject, passes = small(), 0
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
        subject = small()
        run = subject.run

        def slowly(batch: object) -> None:
            time.sleep(0.05)
            run(batch)  # type: ignore[arg-type]

        subject.run = slowly  # type: ignore[method-assign]
        return subject
