"""`foveate train translation`: an encoder-decoder on parallel text."""

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
    from foveate.tasks.translation.train import Start

RATES: dict[str, dict[str, Any]] = {  # what is usual, by architecture
    "rnn": {"peak": 1e-3, "warmup": 300},
    "transformer": {"peak": 3e-3, "warmup": 1000},
}
SIZES: dict[str, dict[str, Any]] = {  # each has only these
    "rnn": {"attention": "additive", "width": 256, "hidden": 384, "dropout": 0.3, "state_dropout": 0.4},
    "transformer": {"width": 128, "heads": 4, "layers": 4, "inner": 256, "dropout": 0.3, "head_dropout": 0.0},
}

_EXAMPLES = """  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator
  foveate train translation --train a.en a.fr --valid b.en b.fr --arch transformer -o my-translator
  foveate train translation --train pairs.tsv.gz --valid valid.tsv --attention none -o fixed-vector
  foveate train translation --train pairs.tsv --valid valid.tsv --reverse -o back
  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator --resume
  torchrun --nproc-per-node 2 -m foveate train translation --train a.tsv --valid b.tsv -o my-translator
"""


def add(tasks: Any) -> None:
    summary = "train a translator, which shows what each word was translated from"
    parser = common.subcommand(tasks, "translation", summary, _EXAMPLES)
    _add_texts(parser.add_argument_group("texts"))
    _add_shape(parser.add_argument_group("model"))
    rnn, transformer = RATES["rnn"], RATES["transformer"]
    training.add_options(
        parser,
        f"{rnn['peak']:g}, transformer {transformer['peak']:g}",
        f"{rnn['warmup']}, transformer {transformer['warmup']}",
    )
    parser.set_defaults(run=run)


def _add_texts(group: Any) -> None:
    add = group.add_argument
    about = "one TSV file (source, tab, target), or two files with a line each; .gz too"
    add("--train", nargs="+", required=True, metavar="FILE", help=about)
    add("--valid", nargs="+", required=True, metavar="FILE", help="the same, to validate on after each epoch")
    add("--reverse", action="store_true", help="translate from the second language into the first")
    add("--skip-bad", action="store_true", help="skip and count malformed lines instead of ending at the first")
    add("--vocabulary", type=common.whole(600), default=8000, metavar="SIZE", help="sub-words of both (8000)")
    about = "tokens of a batch, at most, padding included (4096)"
    add("--batch-tokens", type=common.whole(1), default=4096, metavar="TOKENS", help=about)
    about = "share of the probability that targets give to all words alike (0.1)"
    add("--smoothing", type=common.share, default=0.1, help=about)
    about = "share of the merges of sub-words that are left out at random, each epoch anew; good for little data (0)"
    add("--subword-dropout", type=common.share, default=0.0, metavar="SHARE", help=about)
    about = "for BLEU on validation: 13a for plain text, none for text that is tokenised already (13a)"
    add("--pictures", type=common.whole(0), default=4, help="sentences whose attention is drawn after each epoch (4)")
    add("--tokenize", choices=("13a", "none"), default="13a", help=about)


def _add_shape(group: Any) -> None:
    add = group.add_argument
    add("--arch", choices=tuple(SIZES), default="rnn", help="recurrent, or a Transformer (rnn)")
    about = "of an rnn; none is one fixed vector for the whole sentence (additive)"
    add("--attention", choices=("additive", "dot", "general", "none"), help=about)
    add(
        "--width",
        type=common.whole(1),
        help=f"of embeddings; of a transformer everywhere ({training.usual(SIZES, 'width')})",
    )
    add("--hidden", type=common.whole(2), help=f"of an rnn, its states ({training.usual(SIZES, 'hidden')})")
    for name, about in (
        ("heads", "of each attention"),
        ("layers", "of each stack"),
        ("inner", "of feed-forward layers"),
    ):
        add(f"--{name}", type=common.whole(1), help=f"of a transformer, {about} ({training.usual(SIZES, name)})")
    add(
        "--dropout",
        type=common.share,
        help=f"of embeddings, and inside a transformer ({training.usual(SIZES, 'dropout')})",
    )
    about = f"of an rnn, of its states ({training.usual(SIZES, 'state_dropout')})"
    add("--state-dropout", type=common.share, help=about)
    about = "of a transformer: share of whole heads that are left out at random, so that they can be pruned later (0)"
    add("--head-dropout", type=common.share, help=about)
    add("--half", action="store_true", help="keep the finished model in float16, half as large")


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.translation.train import Run
    from foveate.tasks.translation.train import run as train_translator

    with common.explained():
        shape, options = _shape(arguments), training.options_of(arguments, **RATES[arguments.arch])
        given = Run(
            train=_paths(arguments.train, "train"),
            valid=_paths(arguments.valid, "valid"),
            shape=shape,
            options=options,
            vocabulary=arguments.vocabulary,
            tokens=arguments.batch_tokens,
            smoothing=arguments.smoothing,
            subword_dropout=arguments.subword_dropout,
            tokenize=arguments.tokenize,
            reverse=arguments.reverse,
            skip_bad=arguments.skip_bad,
            half=arguments.half,
            pictures=arguments.pictures,
        )
    folder = Path(arguments.output)

    def work(world: World, resume: bool) -> Outcome:
        def started(start: Start) -> None:
            where = training.resumed(folder, world, resume)
            print(
                f"{_announced(start, shape, options, world, arguments)}\n{where}", end="", file=sys.stderr, flush=True
            )

        return train_translator(given, folder, world=world, resume=resume, started=started)

    then = f'foveate translate --model {shlex.quote(arguments.output)} "..."'
    return training.train(arguments, shape.name, work, packages=("tokenizers", "sacrebleu"), then=then)


def _paths(given: list[str], name: str) -> list[Path]:
    if len(given) > 2:
        raise UsageError(f"--{name} takes one TSV file or two line-aligned files; got {len(given)}")
    return [Path(path) for path in given]


def _shape(arguments: argparse.Namespace) -> Shape:
    from foveate.tasks.translation import Shape

    return Shape(arch=arguments.arch, **training.sizes_of(arguments, SIZES))


def _announced(start: Start, shape: Shape, options: Options, world: World, arguments: argparse.Namespace) -> str:
    place = training.place(options, start.batches, start.precision, world, arguments.output)
    return (
        f"{shape.name}: {start.parameters:,} parameters, {start.vocabulary:,} sub-words, {start.outputs:,} of them in "
        f"targets{', which are the first language' if arguments.reverse else ''}\n"
        f"train: {len(start.train):,} pairs of {' and '.join(arguments.train)}; {start.train.report()}\n"
        f"valid: {len(start.valid):,} pairs of {' and '.join(arguments.valid)}; {start.valid.report()}\n"
        f"{place}"
    )
