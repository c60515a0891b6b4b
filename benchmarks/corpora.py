"""What the benchmarks of translation share: where texts are, what was measured before, and how far work is."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foveate.tasks.bitext import generate
from foveate.tasks.corpus import Pair, read_pairs
from foveate.tasks.resolve.train import data_folder as root
from foveate.tasks.training.report import duration
from foveate.tasks.translation import Translator, load

__all__ = ["data_folder", "digest", "kept", "opened", "progress", "training_pairs", "translated"]

T = TypeVar("T")
PIECE = 200  # sentences that are translated at a time
GRAMMAR = 12_000  # sentences, where there is no Multi30k


def data_folder(name: str) -> Path:
    """A data set in the folder that FOVEATE_DATA names. Ends the program where there is none."""
    folder = root() / name
    if not folder.is_dir():
        raise SystemExit(f"there is no {name}: set FOVEATE_DATA to the folder that holds it")
    return folder


def training_pairs(most: int | None = None) -> tuple[str, list[Pair]]:
    """Pairs to train on where only speed counts, and what they are: Multi30k's, or else the project's own grammar's."""
    try:
        folder = data_folder("multi30k")
    except SystemExit:
        sentences = generate(1, most or GRAMMAR, lengths=(5, 30))
        return "the grammar's sentences of 5 to 30 words", [
            Pair(" ".join(s.source), " ".join(s.target)) for s in sentences
        ]
    return "Multi30k en-fr", read_pairs((folder / "train.en", folder / "train.fr")).pairs[:most]


def opened(folder: Path) -> Translator:
    """The translator in a folder. Ends the program where there is none."""
    try:
        return load(folder)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def digest(folder: Path) -> str:
    """Which model a folder holds: the first digits of a hash of its parameters."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]


def kept(path: Path, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The line of a file of JSON lines that has this key; if there is none, what `measure` gives, which is added.

    So a test set is looked at once by each model, however often one asks.
    """
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in map(_parsed, before.splitlines()):
        if key.items() <= line.items():
            print(f"measured before, on {line['when']} (in {path}):")
            return line
    found = {**key, **measure(), "when": datetime.datetime.now().isoformat(timespec="seconds")}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * (before[-1:] not in ("", "\n")) + json.dumps(found, ensure_ascii=False) + "\n")
    return found


def _parsed(line: str) -> dict[str, Any]:
    """A line; nothing of one that was cut off."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found


def progress(items: Iterable[T], name: str, total: int) -> Iterator[T]:
    """The items, and as each is done a word on standard error: how many of `total`, and the time left."""
    start = time.monotonic()
    for done, item in enumerate(items):
        if done:
            left = (time.monotonic() - start) / done * (total - done)
            print(f"{name}: {done:,} of {total:,}, {duration(left)} left", file=sys.stderr, flush=True)
        yield item


def translated(translator: Translator, sources: Sequence[str], beam: int) -> list[str]:
    """Each source translated with a beam; how far it is, is shown."""
    found: list[str] = []
    starts = range(0, len(sources), PIECE)
    for first in progress(starts, f"translating, {PIECE} sentences at a time", len(starts)):
        some = translator.translate(sources[first : first + PIECE], beam=beam, weights=False)
        found += [one.text for one in some]
    return found
