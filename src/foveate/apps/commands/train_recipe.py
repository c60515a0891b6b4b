"""`foveate train classify`, and every other task that is a recipe: one model of text from files of examples."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, training

if TYPE_CHECKING:
    from torch import nn

    from foveate.tasks.recipe import Ready, Recipe
    from foveate.tasks.training.loop import Outcome
    from foveate.tasks.training.precision import Precision
    from foveate.tasks.training.world import World

SHAPE: dict[str, tuple[str, dict[str, Any]]] = {  # what recipes may list in their `sizes`
    "pooling": (
        "how a text becomes one vector: read by a learned query, or averaged",
        {"choices": ("attention", "mean")},
    ),
    "side": ("pixels of the square that a picture is fitted into, a multiple of 8", {"type": common.whole(8)}),
    "channels": ("of the last convolution", {"type": common.whole(3)}),
    "cell": ("of an rnn", {"choices": ("gru", "lstm")}),
    "width": ("of word vectors; of a transformer everywhere", {"type": common.whole(1)}),
    "hidden": ("of an rnn, both directions together", {"type": common.whole(2)}),
    "layers": ("of the encoder", {"type": common.whole(1)}),
    "heads": ("of a transformer, of each layer", {"type": common.whole(1)}),
    "inner": ("of a transformer, of feed-forward layers", {"type": common.whole(1)}),
    "dropout": ("of word vectors, and inside", {"type": common.share}),
    "unknown": ("share of known words that training takes for unknown ones", {"type": common.share}),
    "window": ("words before and after itself that a word of the text sees", {"type": common.whole(1)}),
    "signs": ("by which words are told apart, a multiple of 8", {"type": common.whole(8)}),
    "buckets": ("of affixes, by which unknown words are read; 0: none", {"type": common.whole(0)}),
}

_FILES = "foveate train {name} --train train{end} --valid valid{end}"
_AFTER = """  foveate {name} my-model {use}
  foveate view my-model                             look inside
"""


def add(tasks: Any) -> None:
    from foveate.tasks.recipes import RECIPES

    for recipe in RECIPES:
        _add(tasks, recipe)


def _add(tasks: Any, recipe: type[Recipe[Any]]) -> None:
    makes = "made" in vars(recipe)
    parser = common.subcommand(tasks, recipe.command, recipe.summary, _examples(recipe, makes))
    group = parser.add_argument_group("data")
    about = f"{recipe.files}; .gz too" + ("; default: examples are made, from the seed" if makes else "")
    group.add_argument("--train", required=not makes, metavar="FILE", help=about)
    group.add_argument("--valid", required=not makes, metavar="FILE", help="the same, to validate on after each epoch")
    group.add_argument("--test", metavar="FILE", help="the same, to be measured on once, at the end")
    group.add_argument("--skip-bad", action="store_true", help="skip and count malformed rows instead of ending")
    about = "words of a batch, at most, padding included (1024)"
    group.add_argument("--batch-words", type=common.whole(1), default=1024, metavar="WORDS", help=about)
    _add_shape(parser.add_argument_group("model"), recipe)
    rate, warmup = (training.usual(recipe.rates, name) for name in ("peak", "warmup"))
    training.add_options(parser, rate, warmup, recipe.epochs, recipe.precision)
    parser.set_defaults(run=functools.partial(run, recipe))


def _examples(recipe: type[Recipe[Any]], makes: bool) -> str:
    files = _FILES.format(name=recipe.command, end=recipe.ending)
    _, *others = recipe.sizes
    lines = [
        *([f"foveate train {recipe.command} -o my-model"] if makes else []),
        f"{files} -o my-model",
        f"{files} --test test{recipe.ending}{f' --arch {others[0]}' if others else ''} -o my-model",
        f"{files} -o my-model --resume",
    ]
    return "".join(f"  {line}\n" for line in lines) + _AFTER.format(name=recipe.command, use=recipe.use)


def _add_shape(group: Any, recipe: type[Recipe[Any]]) -> None:
    from foveate.tasks.encoders import Shape

    architectures = tuple(recipe.sizes)
    group.add_argument(
        "--arch", choices=architectures, default=architectures[0], help=f"of the encoder ({architectures[0]})"
    )
    for name, (about, options) in SHAPE.items():
        if any(name in sizes for sizes in recipe.sizes.values()):
            if name == "layers" and "transformer" in architectures and issubclass(recipe.shapes, Shape):
                about, options = f"{about}; 0 of a transformer: words without context", {"type": common.whole(0)}
            told = f"{about} ({training.usual(recipe.sizes, name)})"
            group.add_argument(f"--{name}", help=told, **options)


def run(recipe: type[Recipe[Any]], arguments: argparse.Namespace) -> int:
    from foveate.tasks.recipe import Run
    from foveate.tasks.recipe import run as train_recipe

    with common.explained():
        shape = recipe.shapes(arch=arguments.arch, **training.sizes_of(arguments, recipe.sizes))
        options = training.options_of(arguments, **recipe.rates[arguments.arch])
        given = Run(
            recipe=recipe,
            shape=shape,
            **{name: Path(path) if (path := getattr(arguments, name)) else None for name in ("train", "valid", "test")},
            options=options,
            cells=arguments.batch_words,
            skip_bad=arguments.skip_bad,
            command=shlex.join(["foveate", *arguments.words]),
        )
    folder = Path(arguments.output)

    def work(world: World, resume: bool) -> Outcome:
        def started(ready: Ready[Any], model: nn.Module, precision: Precision) -> None:
            told = _announced(ready, model, precision, world, arguments.output)
            print(f"{told}\n{training.resumed(folder, world, resume)}", end="", file=sys.stderr, flush=True)

        return train_recipe(given, folder, world=world, resume=resume, started=started)

    then = f"foveate {recipe.command} {shlex.quote(arguments.output)} {recipe.use}"
    return training.train(arguments, shape.name, work, then=then)


def _announced(ready: Ready[Any], model: nn.Module, precision: Precision, world: World, output: str) -> str:
    recipe, options = ready.task.recipe, ready.given.options
    files = [
        f"{name}: {len(rows):,} examples of {getattr(ready.given, name) or 'its own'}; {rows.report()}"
        for name, rows in ready.data.items()
    ]
    parameters = sum(p.numel() for p in model.parameters())
    place = training.place(options, len(ready.task.batches(0, 0, 1)), precision, world, output)
    return "\n".join([f"{recipe.shape.name}: {parameters:,} parameters", *files, place])
