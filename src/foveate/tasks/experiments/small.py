"""Small models that an experiment trains by itself: made once for a folder, from draws of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..training import Options, Task, train
from ..training.checkpoint import CHECKPOINT, load_model, save_model
from ..training.loop import Stopped

__all__ = ["announce", "stream", "trained"]


def stream(seed: int, number: int) -> torch.Generator:
    """Draws that have nothing to do with those of other numbers."""
    return torch.Generator().manual_seed(seed * 100_003 + number)


def announce(folder: Path, quiet: bool) -> bool:
    """Say which of several models is about to be trained, and whether one that was cut off goes on."""
    goes_on = (folder / CHECKPOINT).is_file()
    if not quiet:
        print(f"{folder}{', which goes on' if goes_on else ''}:", file=sys.stderr, flush=True)
    return goes_on


def trained(
    model: nn.Module, task: Task[Any], options: Options, folder: Path, about: dict[str, Any], *, quiet: bool = False
) -> None:
    """Give a model the parameters in `folder`, trained there unless they are already; a run that was cut off goes on.

    Args:
        about: what the parameters follow from, kept beside them.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    if (folder / "model.safetensors").is_file():
        tensors, description = load_model(folder)
        if description != about:
            raise ValueError(f"{folder} holds a model that was trained with other settings; give another folder")
        model.load_state_dict(tensors)
    else:
        try:
            train(task, model, options, folder, resume=announce(folder, quiet), quiet=quiet)
        except Stopped:
            raise Stopped(f"stopped in {folder}; the same command goes on") from None
        save_model(folder, model.state_dict(), about)
    model.eval()
