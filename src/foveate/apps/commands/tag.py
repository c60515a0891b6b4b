"""`foveate tag`: the part of speech of each word of a text."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, predicting

if TYPE_CHECKING:
    from foveate.tasks.tagging import Tagged, Tagger

_EXAMPLES = """  foveate tag my-tagger "The old man the boats."    a word and its tag, one a line
  foveate tag my-tagger - < texts.txt               word/TAG word/TAG, one line for each line
  foveate tag my-tagger - --json < texts.txt
  foveate view my-tagger --text "The old man the boats."
"""


def add(commands: Any) -> None:
    summary = "say which part of speech each word of a text is"
    predicting.add(commands, "tag", summary, _EXAMPLES, "foveate train tag", run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.tagging import load

    with common.explained():
        tagger: Tagger = load(predicting.folder(arguments))
    return predicting.each(arguments, lambda text: _said(tagger.tag([text])[0], arguments), {"words": [], "tags": []})


def _said(found: Tagged, arguments: argparse.Namespace) -> None:
    pairs = list(zip(found.words, found.tags, strict=True))
    if arguments.json:
        print(json.dumps({"words": found.words, "tags": found.tags}, ensure_ascii=False))
    elif predicting.many(arguments):
        print(" ".join(f"{word}/{tag}" for word, tag in pairs))
    else:
        from foveate.apps import terminal

        terminal.listed(pairs)
