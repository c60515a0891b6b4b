"""Miniature translators that are trained in seconds, and what runs a command beside them, for tests of commands."""

from __future__ import annotations

import gzip
import io
import shlex
from pathlib import Path
from typing import Any

import pytest

from foveate.apps import cli
from foveate.tasks.translation import save
from translators import translator

VERBS = {"I see": "je vois", "we have": "nous avons", "they want": "ils veulent"}
NUMBERS = {"two": "deux", "three": "trois", "four": "quatre", "five": "cinq", "six": "six"}
THINGS = {"cats": "chats", "dogs": "chiens", "houses": "maisons", "books": "livres"}
PAIRS = [
    (f"{verb} {number} {thing} .", f"{VERBS[verb]} {NUMBERS[number]} {THINGS[thing]} .")
    for verb in VERBS
    for number in NUMBERS
    for thing in THINGS
]
MOST = 57  # of 60: what counts as all, so that another processor's rounding is no failure
_SMALL = "--width 32 --hidden 64 --dropout 0.1 --state-dropout 0.1 --vocabulary 600 --batch-tokens 600 --epochs 3"
_SMALL = f"{_SMALL} --learning-rate 0.015 --warmup 20 --average 1 --precision float32 --threads 1"
TINY = "--device cpu --width 8 --hidden 8 --vocabulary 600 --epochs 2 --warmup 2 --precision float32 --threads 1"


def texts(folder: Path) -> Path:
    """The pairs in files: one, two, and many times over in a packed one."""
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
    (folder / "pairs.tsv").write_text(text)
    (folder / "pairs.en").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    (folder / "pairs.fr").write_text("".join(f"{target}\n" for _, target in PAIRS))
    (folder / "train.tsv.gz").write_bytes(gzip.compress((text * 50).encode()))
    return folder


def models(root: Path) -> Path:
    """A folder with the texts, `en-fr` and `fr-en` trained on them, and models of other kinds without training.

    It is made once per `root`; one thread is enough.
    """
    folder = root / "miniatures"
    if folder.is_dir():
        return folder
    folder.mkdir()
    texts(folder)
    for name, more in (("en-fr", ""), ("fr-en", "--reverse")):
        train = f"--train {folder}/train.tsv.gz --valid {folder}/pairs.tsv -o {folder / name} {_SMALL} {more}"
        assert cli.main(["train", "translation", *train.split()]) == 0
    kinds: dict[str, dict[str, Any]] = {"fixed": {"attention": "none"}, "transformer": {"arch": "transformer"}}
    for name, shape in kinds.items():
        made = translator(**shape)
        save(folder / name, made.model, made.subwords, made.shape, {})
    return folder


class Runner:
    """Runs commands in a folder, with something on standard input."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch
        monkeypatch.chdir(folder)

    def __call__(self, command: str, *more: str, stdin: str = "") -> tuple[int, str, str]:
        """The exit code, what was printed, what was said on standard error."""
        self.capsys.readouterr()
        self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        code = cli.main([*shlex.split(command), *more])
        return code, *self.capsys.readouterr()

    def lines(self, command: str, stdin: str = "") -> list[str]:
        """What a command that must not fail printed."""
        code, out, _ = self(command, stdin=stdin)
        assert code == 0
        return out.splitlines()
