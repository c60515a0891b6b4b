"""`foveate train TASK`: train a model into a folder; each task is a module with `add(tasks)`."""

from __future__ import annotations

from typing import Any

from foveate.apps.commands import common, train_recipe, train_translation

TASKS = (train_translation, train_recipe)

_EXAMPLES = """  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator
  foveate train translate --task summarise --train reports.tsv --valid valid.tsv -o my-summariser
  foveate train classify --train train.tsv --valid valid.tsv -o my-classifier
  foveate train tag --train train.conllu --valid dev.conllu -o my-tagger
  foveate train qa -o my-answerer                   examples are made, from the seed
  foveate train ground -o my-pointer
  foveate train translation --help                  its options
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "train", "train a model on your own data", _EXAMPLES)
    tasks = parser.add_subparsers(title="tasks", dest="task", metavar="TASK", required=True)
    for task in TASKS:
        task.add(tasks)
