"""`foveate qa`: the word of a page that answers a question, and how much of each word was read for it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, predicting

if TYPE_CHECKING:
    from foveate.tasks.lookup import Found, Reader

_EXAMPLES = """  foveate qa my-reader "What is the capital of France? France is a country. Paris is the capital."
  foveate qa my-reader - < asked.tsv                question, tab, page: answer and probability, one line for each line
  foveate qa my-reader - --json < asked.tsv
  foveate view my-reader --text "What is the capital of France? France is a country. Paris is the capital."
"""


def add(commands: Any) -> None:
    summary = "answer a question from a page, and show what was read for it"
    predicting.add(commands, "qa", summary, _EXAMPLES, "foveate train qa", run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.lookup import load, parted

    with common.explained():
        reader: Reader = load(predicting.folder(arguments))
    return predicting.each(arguments, lambda text: _said(reader.find(*parted(text)), arguments))


def _said(found: Found, arguments: argparse.Namespace) -> None:
    if arguments.json:
        weights = [round(weight, 6) for weight in found.weights]
        told = {"answer": found.answer, "probability": round(found.probability, 6)}
        print(json.dumps({**told, "words": found.page, "weights": weights}, ensure_ascii=False))
    elif predicting.many(arguments):
        print(f"{found.answer}\t{found.probability:.4f}")
    else:
        from foveate.apps import terminal

        terminal.bars([(found.answer, found.probability)])
        print()
        terminal.highlighted(found.page, found.weights)
