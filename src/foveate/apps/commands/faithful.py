"""`foveate faithful`: does attention explain what a model predicts?"""

from __future__ import annotations

import argparse
from typing import Any

from foveate.apps.commands import common

_EXAMPLES = """  foveate faithful ./my-classifier "A dull film with a good ending." --target positive
  foveate faithful bert-base-uncased "The cat [MASK] on the mat." --target sat
  foveate faithful gpt2 "The keys that the old man left on the table" --how hide
"""


def add(commands: Any) -> None:
    summary = "say whether attention explains what a model predicts: take away what it reads most, and see"
    parser = common.subcommand(commands, "faithful", summary, _EXAMPLES)
    add = parser.add_argument
    about = "a Hugging Face model with a head, a folder or hub name: a classifier, a masked or causal language model"
    add("model", metavar="MODEL", help=about)
    add("text", metavar="TEXT", type=common.readable, help="what it reads; of a masked language model, with one mask")
    about = "the class (its name or number), or the word, that the prediction is about (what the model predicts)"
    add("--target", type=common.readable, help=about)
    about = "remove tokens by putting the mask or unknown token there, or by hiding them from all others (replace)"
    add("--how", choices=("replace", "hide"), help=about)
    add("--samples", type=common.whole(2), default=30, help="random orders to compare with (30)")
    add("--seed", type=common.whole(0), default=0, help="of the random orders (0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.apps.models import HubModel
    from foveate.faithful import report

    hub = HubModel(arguments.model)
    model = hub.whole(lambda share, message: None)
    made = report(
        model,
        arguments.text,
        arguments.target,
        tokenizer=hub.tokenizer,
        how=arguments.how,
        samples=arguments.samples,
        seed=arguments.seed,
    )
    print(made)
    return 0
