"""`foveate classify`: the label of a text, and how much each of its words counted."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, predicting

if TYPE_CHECKING:
    from foveate.tasks.classification import Classified, Classifier

_EXAMPLES = """  foveate classify my-classifier "A stirring, funny film."
  foveate classify my-classifier - < texts.txt      label and probability, one line for each line
  foveate classify my-classifier - --json < texts.txt
  foveate view my-classifier --text "A stirring, funny film."
"""


def add(commands: Any) -> None:
    summary = "say which label a text has, and how much each of its words counted"
    predicting.add(commands, "classify", summary, _EXAMPLES, "foveate train classify", run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.classification import load

    with common.explained():
        classifier: Classifier = load(predicting.folder(arguments))
    nothing: dict[str, Any] = {"label": None, "probabilities": {}, "words": [], "weights": []}
    return predicting.each(arguments, lambda text: _said(classifier, text, arguments), nothing)


def _said(classifier: Classifier, text: str, arguments: argparse.Namespace) -> None:
    (found,) = classifier.classify([text])
    if arguments.json:
        print(json.dumps(_as_json(found), ensure_ascii=False))
    elif predicting.many(arguments):
        print(f"{found.label}\t{found.probability:.4f}")
    else:
        from foveate.apps import terminal

        others = sorted(found.probabilities.items(), key=lambda item: -item[1])
        terminal.bars(others, file=sys.stdout)
        if found.weights is not None:
            print()
            terminal.highlighted(found.words, found.weights)


def _as_json(found: Classified) -> dict[str, Any]:
    return {
        "label": found.label,
        "probabilities": {label: round(p, 6) for label, p in found.probabilities.items()},
        "words": found.words,
        "weights": None if found.weights is None else [round(weight, 6) for weight in found.weights],
    }
