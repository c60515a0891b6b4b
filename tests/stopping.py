"""Ctrl-C at a step of a recipe's training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from foveate.tasks.recipe import Learning
from foveate.tasks.training.loop import Stopped


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Inside, a training is interrupted at this step, and must say so."""
    real, calls = Learning.losses, 0

    def interrupted(self: Any, model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            signal.raise_signal(signal.SIGINT)
        return real(self, model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learning, "losses", interrupted)
        with pytest.raises(Stopped):
            yield
