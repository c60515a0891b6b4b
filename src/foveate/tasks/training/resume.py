"""May a run go on from the checkpoint in its folder, and beside other processes? Only with the same as these."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import CHECKPOINT, describe_checkpoint
from .world import World

if TYPE_CHECKING:
    from .loop import Options

__all__ = ["check_options", "check_processes", "check_task", "resumes"]

MAY_CHANGE = ("save_every", "log_every")


def resumes(folder: Path, world: World, asked: bool) -> bool:
    """Whether to go on from a checkpoint: if asked to, and where torchrun restarts what had got as far as one."""
    return asked or (world.restarted and (folder / CHECKPOINT).is_file())


def check_options(folder: Path, options: Options) -> None:
    """What can be known before any data is read.

    Raises:
        ValueError: there is no checkpoint, or it was made with options that lead elsewhere.
    """
    kept = describe_checkpoint(folder)
    before, now = {**kept["options"], "precision": kept["precision"]}, asdict(options)
    if now["precision"] == "auto":
        now["precision"] = before["precision"]
    _same("options", before, {name: value for name, value in now.items() if name not in MAY_CHANGE})


def check_task(folder: Path, identity: dict[str, Any]) -> None:
    """What the task says of itself must be what it said when the run began.

    Raises:
        ValueError: it is not.
    """
    _same("task", describe_checkpoint(folder).get("identity", {}), identity)


def check_processes(world: World, identity: dict[str, Any]) -> None:
    """All processes must train the same.

    Raises:
        ValueError: this one has another task than the leader.
    """
    own = zlib.crc32(json.dumps(identity, sort_keys=True).encode())
    if world.agreed(float(own)) != own:
        raise ValueError(f"process {world.rank} was given another task, or other data, than process 0")


def _same(what: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """What an older checkpoint does not tell counts as the same."""
    before, now = _flat(before), _flat(now)
    other = [name for name in now if name in before and before[name] != now[name]]
    if other:
        told = ", ".join(f"{name} was {before[name]} and is {now[name]}" for name in other)
        raise ValueError(f"a resumed run must have the {what} it began with: {told}")


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, the names of outer objects before those of inner ones: `shape.width`."""
    found: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(nested)).items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": v for inner, v in _flat(value).items()}
        else:
            found[name] = value
    return found
