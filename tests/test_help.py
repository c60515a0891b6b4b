"""What help and documents show as commands are commands: the command line takes each of them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from foveate.apps import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in dict.fromkeys(action.choices.values()):
                yield from parsers(one)


def words_of(line: str) -> list[str] | None:
    """What a line has a shell give to foveate; None if it is no command."""
    found = re.match(r"\s*(?:\$ )?(?:torchrun .* -m )?foveate (?=\S)(.*)", line)
    if found is None:
        return None
    words = shlex.split(re.split(r"\s{2,}", found[1])[0], comments=True)
    ends = [number for number, word in enumerate(words) if word in ("<", ">", "|", "&&")]
    return words[: min(ends, default=len(words))]


def taken(top: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        top.parse_args(words)
    except SystemExit as end:
        return end.code == 0  # --help
    return True


def test_examples_of_help_are_commands() -> None:
    top, seen = cli.parser(), 0
    for one in parsers(top):
        for line in (one.epilog or "").splitlines():
            if (words := words_of(line)) is not None:
                assert taken(top, words), line
                seen += 1
    assert seen > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_documents_are_commands(page: Path) -> None:
    top = cli.parser()
    for kind, block in re.findall(r"```(\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines() if kind in ("", "console", "sh", "bash") else ():
            if (words := words_of(line)) is not None and not {"...", "TASK"} & set(words):
                assert taken(top, words), line
