"""`foveate experiment`: claims of the textbooks, put to the test on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError

if TYPE_CHECKING:
    from foveate.tasks.experiments.contenders import Budget, Contender
    from foveate.tasks.experiments.run import Found

T = TypeVar("T")
_EXAMPLES = """  foveate experiment bottleneck                     four models; Multi30k if it is there, else a grammar
  foveate experiment bottleneck --data grammar --pairs 20000 --epochs 10 -o bottleneck/
  foveate experiment bottleneck --train a.tsv --valid b.tsv --test c.tsv
  foveate experiment alignment                      error rates per epoch, model and phenomenon
  foveate experiment alignment --models additive --epochs 3 --pairs 4000 --size 0.5
  foveate experiment induction                      a head found, knocked out: what is still copied?
  foveate experiment telephone --games message      repeated over a distance: attention, GRU, LSTM

The same command goes on where it was cut off, and trains nothing twice.
"""
PLAYERS = {
    "attention": "attention",
    "sinusoidal": "attention, sinusoidal",
    "linear": "linear attention",
    "gru": "GRU",
    "lstm": "LSTM",
}
_SUMMARY = "put a claim about attention to the test: train, measure, draw"


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "experiment", _SUMMARY, _EXAMPLES)
    kinds = parser.add_subparsers(title="experiments", dest="experiment", metavar="EXPERIMENT", required=True)
    about = "BLEU by length of the source, with attention and with one fixed vector"
    one = _options(common.subcommand(kinds, "bottleneck", about, _EXAMPLES), "additive,dot,none,transformer")
    one.add_argument("--data", choices=("multi30k", "grammar"), help="default: Multi30k if $FOVEATE_DATA has it")
    for name in ("train", "valid", "test"):
        text = f"instead: your own {name} pairs, a TSV file or two line-aligned files"
        one.add_argument(f"--{name}", nargs="+", metavar="FILE", help=text)
    one.add_argument("--tokenize", default="13a", help="of sacrebleu, for your own pairs (13a)")
    one.add_argument("--beam", type=common.whole(1, 1000), default=5, help="hypotheses kept when translating (5)")
    one.set_defaults(run=run_bottleneck)
    about = "alignment error rates against the known links of a grammar, per epoch and phenomenon"
    two = _options(common.subcommand(kinds, "alignment", about, _EXAMPLES), "additive,transformer")
    two.set_defaults(run=run_alignment)
    about = "copying accuracy of a two-layer decoder without its induction heads, and without others"
    three = common.subcommand(kinds, "induction", about, _EXAMPLES)
    three.add_argument("--heads", type=common.whole(1), default=4, help="of each layer (4)")
    three.add_argument("--epochs", type=common.whole(2), default=36, help="of 25 batches (36)")
    three.add_argument("--free", type=common.whole(1), default=16, help="epochs before reading costs anything (16)")
    three.add_argument(
        "--cost",
        type=common.positive,
        default=0.4,
        help="of all attention of a head that leaves the token itself (0.4)",
    )
    three.add_argument("--seed", type=common.whole(0), default=1, help="of everything that is drawn (1)")
    _common(three)
    three.set_defaults(run=run_induction)
    about = "what is repeated over a growing distance: attention, linear attention, GRU, LSTM of one size"
    _telephone(common.subcommand(kinds, "telephone", about, _EXAMPLES))


def _telephone(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = "message: repeat some words in their order; who: tell who said which (message,who)"
    add("--games", default="message,who", help=about)
    about = "some of attention, sinusoidal (attention with such positions), linear, gru, lstm (all)"
    add("--models", default=",".join(PLAYERS), help=about)
    add("--words", type=common.whole(1, 64), default=16, help="to be repeated (16)")
    add("--farthest", type=common.whole(1), default=32, help="words between in training, at most (32)")
    add("--epochs", type=common.whole(2), default=40, help="of 50 batches, for each model (40)")
    add("--seed", type=common.whole(0), default=1, help="of everything that is drawn (1)")
    _common(parser)
    parser.set_defaults(run=run_telephone)


def _options(parser: argparse.ArgumentParser, models: str) -> argparse.ArgumentParser:
    add = parser.add_argument
    add("--models", default=models, help=f"what to compare ({models})")
    add("--epochs", type=common.whole(1), default=20, help="passes over the data, for each model (20)")
    add("--pairs", type=common.whole(1), default=20000, help="of the grammar, sentence pairs to train on (20000)")
    add("--longest", type=common.whole(3), help="of the grammar, words of a source at most (60; alignment 25)")
    add("--batch-tokens", type=common.whole(1), default=2048, help="target tokens of a batch, at most (2048)")
    add("--vocabulary", type=common.whole(600), default=8000, help="sub-words of both languages together (8000)")
    add("--size", type=common.positive, default=1.0, help="all widths times this; 1 is about 5 M parameters (1)")
    add("--seed", type=common.whole(0), default=1, help="of everything that is drawn (1)")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="to train on; auto is a GPU where there is one (auto)",
    )
    return _common(parser)


def _common(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    add = parser.add_argument
    add("--threads", type=common.whole(1), help="CPU threads (all)")
    add("-o", "--output", metavar="FOLDER", help="where models, numbers and plots go (foveate-EXPERIMENT)")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def run_bottleneck(arguments: argparse.Namespace) -> int:
    from foveate.tasks.experiments import corpora
    from foveate.tasks.experiments.run import run_bottleneck as go

    folder = Path(arguments.output or "foveate-bottleneck")
    own = [arguments.train, arguments.valid, arguments.test]
    if any(own) and not all(own):
        raise UsageError("your own pairs need --train, --valid and --test")
    if all(own) and arguments.data is not None:
        raise UsageError("--data names data that foveate knows; leave it out, or your own pairs")
    contenders, budget = _contenders(arguments), _budget(arguments)
    if all(own):
        train, valid, test = (tuple(map(Path, given)) for given in own)
        files = corpora.Files("own", train, valid, test, arguments.tokenize)
    else:
        found = None if arguments.data == "grammar" else corpora.multi30k()
        if found is None and arguments.data == "multi30k":
            raise UserError("there is no Multi30k: set FOVEATE_DATA to a folder that holds multi30k/train.en and so on")
        lengths = (3, arguments.longest or 60)
        files = (
            found or corpora.write_grammar(folder / "data", arguments.pairs, seed=arguments.seed, lengths=lengths).files
        )
    return _tell(lambda: go(contenders, files, budget, folder, beam=arguments.beam), arguments)


def run_alignment(arguments: argparse.Namespace) -> int:
    from foveate.tasks.experiments import corpora
    from foveate.tasks.experiments.run import run_alignment as go

    folder = Path(arguments.output or "foveate-alignment")
    contenders, budget = _contenders(arguments), _budget(arguments)
    lengths = (3, arguments.longest or 25)
    grammar = corpora.write_grammar(folder / "data", arguments.pairs, seed=arguments.seed, lengths=lengths)
    return _tell(lambda: go(contenders, grammar, budget, folder), arguments)


def run_induction(arguments: argparse.Namespace) -> int:
    from foveate.tasks.experiments.repeats import Setting
    from foveate.tasks.experiments.run import run_induction as go

    _threads(arguments)
    if arguments.free >= arguments.epochs:
        raise UsageError(f"--free must be less than --epochs; got {arguments.free} and {arguments.epochs}")
    if 64 % (2 * arguments.heads):
        raise UsageError(f"--heads must divide 32, half the width of the model; got {arguments.heads}")
    setting = Setting(
        heads=arguments.heads, epochs=arguments.epochs, free=arguments.free, cost=arguments.cost, seed=arguments.seed
    )
    folder = Path(arguments.output or "foveate-induction")
    return _tell(lambda: go(setting, folder), arguments)


def run_telephone(arguments: argparse.Namespace) -> int:
    from foveate.tasks.experiments.run import run_telephone as go
    from foveate.tasks.experiments.telephone import GAMES, Setting

    _threads(arguments)
    games = _named(arguments.games, {game: game for game in GAMES}, "game")
    models = _named(arguments.models, PLAYERS, "model")
    setting = Setting(words=arguments.words, farthest=arguments.farthest, epochs=arguments.epochs, seed=arguments.seed)
    folder = Path(arguments.output or "foveate-telephone")
    return _tell(lambda: go(games, models, setting, folder), arguments)


def _named(given: str, known: dict[str, T], what: str) -> list[T]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        told = ", ".join(map(repr, unknown)) or "nothing"
        raise UsageError(f"unknown {what} {told}; expected some of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _contenders(arguments: argparse.Namespace) -> list[Contender]:
    from foveate.tasks.experiments.contenders import chosen

    try:
        return chosen([name.strip() for name in arguments.models.split(",") if name.strip()])
    except ValueError as error:
        raise UsageError(str(error)) from None


def _budget(arguments: argparse.Namespace) -> Budget:
    from foveate.tasks.experiments.contenders import Budget
    from foveate.tasks.training.world import settled_device

    _threads(arguments)
    with common.explained():
        device = settled_device(arguments.device)
    return Budget(
        arguments.epochs, arguments.batch_tokens, arguments.vocabulary, arguments.size, arguments.seed, device
    )


def _threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)


def _tell(go: Callable[[], Found], arguments: argparse.Namespace) -> int:
    from foveate.tasks.training.loop import Stopped

    try:
        found = go()
    except Stopped as stopped:
        print(f"foveate: {stopped}", file=sys.stderr)
        return 130
    except ValueError as error:  # malformed text, a folder of another run, a model without attention
        raise UserError(str(error)) from None
    files = [str(path) for path in found.files]
    print(
        json.dumps({**found.numbers, "files": files})
        if arguments.json
        else f"{found.table}\n\nwrote {', '.join(files)}"
    )
    return 0
