"""A run of any task, from files to a folder with a model: in which order to check, read, learn and write.

Whatever can be wrong with options, data and folder is found before anything is learned or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from .checkpoint import describe_checkpoint
from .loop import Options, Outcome, Task, train
from .precision import Precision, settled
from .report import duration
from .resume import check_options, resumes
from .world import World

__all__ = ["Ready", "how_trained", "on_what", "run_task"]


class Ready(Protocol):
    """What a run is about to train, its data read."""

    @property
    def task(self) -> Task[Any]: ...

    def model(self) -> nn.Module:
        """Fresh parameters, drawn from the seed."""

    def keep(self, folder: Path) -> None:
        """Write what was learned from the data already, such as a vocabulary; a resumed run needs it."""

    def finish(self, folder: Path, model: nn.Module, outcome: Outcome, world: World) -> None:
        """Write the model and its card; called in the process that leads, the model on the CPU."""


R = TypeVar("R", bound=Ready)


def run_task(
    options: Options,
    prepare: Callable[[Path | None], R],
    folder: Path,
    *,
    world: World | None = None,
    resume: bool = False,
    quiet: bool = False,
    started: Callable[[R, nn.Module, Precision], object] | None = None,
) -> Outcome:
    """Read with `prepare`, train, and have the model written into `folder`.

    Args:
        prepare: reads the data; where a run goes on, it is given the folder with what `keep` wrote.
        started: is told by the process that leads, before the first step: what, the model, and the precision.
        others: as in `train`.

    Raises:
        ValueError: options break a rule, there is nothing to resume, or what `prepare` says of the data.
        Stopped: Ctrl-C, after a checkpoint.
    """
    world = world or World()
    resume = resumes(folder, world, resume)
    if resume:
        check_options(folder, options)
    ready = prepare(folder if resume else None)
    model = ready.model()
    if world.leads and not resume:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").unlink(missing_ok=True)  # an earlier model does not know this vocabulary
        ready.keep(folder)
    precision = _precision(options, folder, world, resume)
    if world.leads and started is not None:
        started(ready, model, precision)
    options = replace(options, precision=precision)
    outcome = train(ready.task, model, options, folder, world=world, resume=resume, quiet=quiet)
    if world.leads:
        ready.finish(folder, model.cpu(), outcome, world)
    return outcome


def how_trained(outcome: Outcome, world: World) -> dict[str, Any]:
    """For a model's description: how long, where, and how good it became."""
    return {
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds),
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "device": world.device.type,
        "precision": outcome.precision,
        "chosen": outcome.chosen,
        "validation": outcome.metrics,
    }


def on_what(trained: dict[str, Any]) -> str:
    """How a card says what `how_trained` gave: `3 epochs, 120 steps, 40 s on 2 threads in float32`."""
    one, many = trained["processes"] == 1, trained["processes"]
    threads = f"{trained['threads']} thread{'s' * (trained['threads'] != 1)}"
    if trained["device"] != "cpu":
        place = f"{many} process{'es' * (not one)} on {trained['device']}"
    else:
        place = threads if one else f"{many} processes with {threads} each"
    return (
        f"{trained['epochs']} epochs, {trained['steps']:,} steps, {duration(trained['seconds'])} on\n"
        f"  {place} in {trained['precision']}"
    )


def _precision(options: Options, folder: Path, world: World, resume: bool) -> Precision:
    """The same in all processes, and in all parts of a run that is resumed."""
    if resume:
        kept: Precision = describe_checkpoint(folder)["precision"]
        return kept
    return "bfloat16" if world.agreed(settled(options.precision, world.device) == "bfloat16") else "float32"
