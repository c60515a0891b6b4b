"""`foveate train translation`, or `translate`: an encoder-decoder on parallel text, or on texts with summaries."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, training
from foveate.apps.errors import UsageError

if TYPE_CHECKING:
    from foveate.tasks.training import Options
    from foveate.tasks.training.loop import Outcome
    from foveate.tasks.training.world import World
    from foveate.tasks.translation import Shape
    from foveate.tasks.translation.goal import Goal
    from foveate.tasks.translation.train import Start

RATES: dict[str, dict[str, Any]] = {  # what is usual, by architecture
    "rnn": {"peak": 1e-3, "warmup": 300},
    "transformer": {"peak": 3e-3, "warmup": 1000},
}
SIZES: dict[str, dict[str, Any]] = {  # each has only these
    "rnn": {"attention": "additive", "width": 256, "hidden": 384, "dropout": 0.3, "state_dropout": 0.4},
    "transformer": {"width": 128, "heads": 4, "layers": 4, "inner": 256, "dropout": 0.3, "head_dropout": 0.0},
}
TEXTS: dict[str, Any] = {"vocabulary": 8000, "tokens": 4096, "smoothing": 0.1}
SUMMARIES: dict[str, dict[str, Any]] = {  # what is usual for them instead: one language, and more copied than learned
    "rnn": {"peak": 3e-3, "width": 128, "hidden": 256, "dropout": 0.1, "state_dropout": 0.1},
    "transformer": {"peak": 1.5e-3, "layers": 2, "dropout": 0.1},
    "texts": {"vocabulary": 2000, "tokens": 2048, "smoothing": 0.0},
}

_EXAMPLES = """  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator
  foveate train translation --train a.en a.fr --valid b.en b.fr --arch transformer -o my-translator
  foveate train translation --train pairs.tsv.gz --valid valid.tsv --attention none -o fixed-vector
  foveate train translation --train pairs.tsv --valid valid.tsv --reverse -o back
  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator --resume
  foveate train translate --task summarise --train reports.tsv --valid valid.tsv -o my-summariser
  torchrun --nproc-per-node 2 -m foveate train translation --train a.tsv --valid b.tsv -o my-translator
"""


def add(tasks: Any) -> None:
    summary = "train a translator or a summariser, which shows where each of its words came from"
    parser = common.subcommand(tasks, "translation", summary, _EXAMPLES, ["translate"])
    about = "what the second text is: a translation, or a summary in the same language (translate)"
    parser.add_argument("--task", dest="goal", choices=("translate", "summarise"), default="translate", help=about)
    _add_texts(parser.add_argument_group("texts"))
    _add_shape(parser.add_argument_group("model"))
    training.add_options(parser, _usual(RATES, "peak"), _usual(RATES, "warmup"))
    parser.set_defaults(run=run)


def _add_texts(group: Any) -> None:
    add = group.add_argument
    about = "one TSV file (source, tab, target), or two files with a line each; .gz too"
    add("--train", nargs="+", required=True, metavar="FILE", help=about)
    add("--valid", nargs="+", required=True, metavar="FILE", help="the same, to validate on after each epoch")
    add("--reverse", action="store_true", help="translate from the second language into the first")
    add("--skip-bad", action="store_true", help="skip and count malformed lines instead of ending at the first")
    add("--vocabulary", type=common.whole(600), metavar="SIZE", help=f"sub-words of both ({_of_texts('vocabulary')})")
    about = f"tokens of a batch, at most, padding included ({_of_texts('tokens')})"
    add("--batch-tokens", dest="tokens", type=common.whole(1), metavar="TOKENS", help=about)
    about = f"share of the probability that targets give to all words alike ({_of_texts('smoothing')})"
    add("--smoothing", type=common.share, help=about)
    about = "share of the merges of sub-words that are left out at random, each epoch anew; good for little data (0)"
    add("--subword-dropout", type=common.share, default=0.0, metavar="SHARE", help=about)
    about = "for BLEU on validation: 13a for plain text, none for text that is tokenised already (13a)"
    add("--pictures", type=common.whole(0), default=4, help="sentences whose attention is drawn after each epoch (4)")
    add("--tokenize", choices=("13a", "none"), help=about)


def _usual(sizes: training.Sizes, name: str) -> str:
    """What an option says of itself: the usual value of each architecture, and where summaries have another."""
    other = {arch: own for arch, own in SUMMARIES.items() if name in own}
    return training.usual(sizes, name) + (f"; to summarise {training.usual(other, name)}" if other else "")


def _of_texts(name: str) -> str:
    return _usual({"texts": TEXTS}, name)


def _add_shape(group: Any) -> None:
    add = group.add_argument
    add("--arch", choices=tuple(SIZES), default="rnn", help="recurrent, or a Transformer (rnn)")
    about = "of an rnn; none is one fixed vector for the whole sentence (additive)"
    add("--attention", choices=("additive", "dot", "general", "none"), help=about)
    add(
        "--width",
        type=common.whole(1),
        help=f"of embeddings; of a transformer everywhere ({_usual(SIZES, 'width')})",
    )
    add("--hidden", type=common.whole(2), help=f"of an rnn, its states ({_usual(SIZES, 'hidden')})")
    for name, about in (
        ("heads", "of each attention"),
        ("layers", "of each stack"),
        ("inner", "of feed-forward layers"),
    ):
        add(f"--{name}", type=common.whole(1), help=f"of a transformer, {about} ({_usual(SIZES, name)})")
    add(
        "--dropout",
        type=common.share,
        help=f"of embeddings, and inside a transformer ({_usual(SIZES, 'dropout')})",
    )
    about = f"of an rnn, of its states ({_usual(SIZES, 'state_dropout')})"
    add("--state-dropout", type=common.share, help=about)
    about = "of a transformer: share of whole heads that are left out at random, so that they can be pruned later (0)"
    add("--head-dropout", type=common.share, help=about)
    add("--half", action="store_true", help="keep the finished model in float16, half as large")


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.translation.train import Run
    from foveate.tasks.translation.train import run as train_translator

    goal = _goal(arguments)
    with common.explained():
        shape = _shape(arguments)
        options = training.options_of(arguments, **_for(arguments, RATES)[arguments.arch])
        given = Run(
            train=_paths(arguments.train, "train"),
            valid=_paths(arguments.valid, "valid"),
            shape=shape,
            options=options,
            **_texts(arguments),
            subword_dropout=arguments.subword_dropout,
            tokenize=arguments.tokenize or "13a",
            reverse=arguments.reverse,
            skip_bad=arguments.skip_bad,
            half=arguments.half,
            pictures=arguments.pictures,
            goal=goal,
        )
    folder = Path(arguments.output)

    def work(world: World, resume: bool) -> Outcome:
        def started(start: Start) -> None:
            where = training.resumed(folder, world, resume)
            print(
                f"{_announced(start, shape, options, world, arguments)}\n{where}", end="", file=sys.stderr, flush=True
            )

        return train_translator(given, folder, world=world, resume=resume, started=started)

    where = shlex.quote(arguments.output)
    named = {"translate": f"--model {where}", "summarise": where}[goal.verb]
    then = f'foveate {goal.verb} {named} "..."'
    return training.train(arguments, shape.name, work, packages=("tokenizers", "sacrebleu"), then=then)


def _goal(arguments: argparse.Namespace) -> Goal:
    from foveate.tasks.translation.goal import GOALS

    (goal,) = (goal for goal in GOALS.values() if goal.verb == arguments.goal)
    if goal.copies and (arguments.reverse or arguments.tokenize is not None):
        option = "--reverse" if arguments.reverse else "--tokenize"
        raise UsageError(f"{option} is of --task translate; leave it out")
    return goal


def _paths(given: list[str], name: str) -> list[Path]:
    if len(given) > 2:
        raise UsageError(f"--{name} takes one TSV file or two line-aligned files; got {len(given)}")
    return [Path(path) for path in given]


def _shape(arguments: argparse.Namespace) -> Shape:
    from foveate.tasks.translation import Shape

    return Shape(arch=arguments.arch, **training.sizes_of(arguments, _for(arguments, SIZES)))


def _texts(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name in TEXTS if (value := getattr(arguments, name)) is not None}
    return _for(arguments, {"texts": TEXTS})["texts"] | given


def _for(arguments: argparse.Namespace, sizes: training.Sizes) -> training.Sizes:
    """What is usual for the task that was named."""
    other = SUMMARIES if arguments.goal == "summarise" else {}
    return {arch: {name: other.get(arch, {}).get(name, value) for name, value in own.items()}
            for arch, own in sizes.items()}  # fmt: skip


def _announced(start: Start, shape: Shape, options: Options, world: World, arguments: argparse.Namespace) -> str:
    place = training.place(options, start.batches, start.precision, world, arguments.output)
    return (
        f"{shape.name}: {start.parameters:,} parameters, {start.vocabulary:,} sub-words, {start.outputs:,} of them in "
        f"targets{', which are the first language' if arguments.reverse else ''}\n"
        f"train: {len(start.train):,} pairs of {' and '.join(arguments.train)}; {start.train.report()}\n"
        f"valid: {len(start.valid):,} pairs of {' and '.join(arguments.valid)}; {start.valid.report()}\n"
        f"{place}"
    )
