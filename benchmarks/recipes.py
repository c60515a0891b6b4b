"""What benchmarks of small models share: training one as a person would, by one command, and what it found."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from foveate.apps import cli

__all__ = ["arguments", "made", "place", "trained"]


def arguments(about: str | None, given: list[str] | None) -> argparse.Namespace:
    """Options of such a benchmark: where models go, the seed and the threads."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the models; a model that is there is not trained again",
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--epochs", type=int, help="fewer than usual, to try it out")
    chosen = options.parse_args(given)
    torch.set_num_threads(chosen.threads)
    return chosen


@contextmanager
def place(chosen: argparse.Namespace) -> Iterator[Path]:
    """The folder for the models; without one it is forgotten."""
    if chosen.output is not None:
        yield chosen.output
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def made(chosen: argparse.Namespace, folder: Path, task: str, *more: str) -> dict[str, Any]:
    """The description of a model trained by `foveate train TASK` with these options; of one that is there, it is read.

    Ends the program where it fails.
    """
    if not (folder / "model.json").is_file():
        words = ["train", task, *more, "-o", str(folder), "--seed", str(chosen.seed)]
        words += ["--threads", str(chosen.threads), "--device", "cpu"]
        words += [] if chosen.epochs is None else ["--epochs", str(chosen.epochs)]
        words += ["--resume"] if (folder / "checkpoint.safetensors").is_file() else []
        if code := cli.main(words):
            raise SystemExit(code)
    found: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return found


def trained(chosen: argparse.Namespace, folder: Path, task: str, files: list[Path], *more: str) -> dict[str, Any]:
    """The description of a model trained by `foveate train TASK` on these files (train, valid, test; or none, where the
    task makes its examples) with more options.

    What was trained before is only looked up, so that a test set is looked at once. Ends the program where it fails.
    """
    names = (f"--{name}={path}" for name, path in zip(("train", "valid", "test"), files, strict=bool(files)))
    found = made(chosen, folder, task, *names, *more)
    trained = found["trained"]
    print(f"{folder.name}: {found['parameters']:,} parameters, {trained['epochs']} epochs, {trained['seconds']} s; "
          f"validation {trained['validation']['accuracy']:.2f} %, test {found['test']['accuracy']:.2f} %")  # fmt: skip
    return found
