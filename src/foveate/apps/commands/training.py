"""What training has in common, whatever the task: its options, its folder, Ctrl-C, and several processes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError
from foveate.extras import need

if TYPE_CHECKING:
    from foveate.tasks.training import Options
    from foveate.tasks.training.loop import Outcome
    from foveate.tasks.training.world import World

Work = Callable[["World", bool], "Outcome"]
HELD = {"checkpoint.safetensors": "a run that can go on", "model.safetensors": "a model"}


def add_options(
    parser: argparse.ArgumentParser, rate: str, warmup: str, epochs: int | None = None, precision: str = "auto"
) -> None:
    """Options of every task; `rate` and `warmup` say what is usual for this one, `epochs` if it is another number."""
    from foveate.tasks.training import Options

    usual = Options()
    group = parser.add_argument_group("training")
    add = group.add_argument
    epochs = usual.epochs if epochs is None else epochs
    add("--epochs", type=common.whole(1), default=epochs, help=f"passes over the data, at most ({epochs})")
    about = f"highest learning rate ({rate})"
    add("--learning-rate", "--peak", dest="peak", type=common.positive, metavar="RATE", help=about)
    about = f"steps until the learning rate is the highest ({warmup})"
    add("--warmup", type=common.whole(0), metavar="STEPS", help=about)
    about = f"epochs without a better validation until it stops; 0: never ({usual.patience})"
    add("--patience", type=common.whole(0), default=usual.patience, metavar="EPOCHS", help=about)
    about = f"how many of the last epochs are averaged, if that is better than the best one ({usual.average})"
    add("--average", type=common.whole(1), default=usual.average, metavar="EPOCHS", help=about)
    about = f"of products; auto is bfloat16 where this machine is faster with it ({precision})"
    add("--precision", choices=("auto", "float32", "bfloat16"), default=precision, help=about)
    add("--seed", type=common.whole(0), default=usual.seed, help=f"of everything that is drawn ({usual.seed})")
    add(
        "--threads", type=common.whole(1), help="threads of torch; with 1, a resumed run ends as it would have, exactly"
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto is a GPU where there is one, else the CPU (auto)",
    )
    about = f"steps between checkpoints ({usual.save_every})"
    add("--save-every", type=common.whole(1), default=usual.save_every, metavar="STEPS", help=about)
    add("-o", "--output", metavar="DIR", required=True, help="folder for the model, its checkpoints, log and pictures")
    again = group.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR, with the same options")
    again.add_argument("--overwrite", action="store_true", help="begin anew, whatever is in DIR")


def options_of(arguments: argparse.Namespace, *, peak: float, warmup: int) -> Options:
    """Of what `add_options` added; `peak` and `warmup` where none are given."""
    from foveate.tasks.training import Options

    return Options(
        epochs=arguments.epochs,
        peak=peak if arguments.peak is None else arguments.peak,
        warmup=warmup if arguments.warmup is None else arguments.warmup,
        patience=arguments.patience,
        average=arguments.average,
        precision=arguments.precision,
        save_every=arguments.save_every,
        seed=arguments.seed,
    )


Sizes = dict[str, dict[str, Any]]  # for each architecture what only it has, or what is usual for it


def usual(sizes: Sizes, name: str) -> str:
    """What an option says of itself: the usual value, of the first architecture and of others."""
    values = {arch: own[name] for arch, own in sizes.items() if name in own}
    first, *others = values.items()
    if len(set(values.values())) == 1:
        return str(first[1])
    return ", ".join([str(first[1]), *(f"{arch} {value}" for arch, value in others)])


def sizes_of(arguments: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """What was given, over what is usual for the architecture.

    Raises:
        UsageError: something was given that only another one has.
    """
    own = sizes[arguments.arch]
    names = {name for one in sizes.values() for name in one}
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if other := sorted(given.keys() - own.keys()):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise UsageError(f"--arch {arguments.arch} has no {options}; leave it out, or choose the other architecture")
    return own | given


def place(options: Options, batches: int, precision: str, world: World, output: str) -> str:
    """How much is about to be done, where, and a word if the learning rate would hardly have risen by the end."""
    import torch

    threads = torch.get_num_threads()
    on = f"{threads} thread{'s' if threads > 1 else ''}" if world.device.type == "cpu" else torch.cuda.get_device_name()
    many = "" if world.size == 1 else f" in each of {world.size} processes"
    steps = batches * options.epochs
    low = ""
    if 2 * options.warmup > steps:
        low = f"\nthe learning rate rises for {options.warmup:,} of {steps:,} steps: lower --warmup or raise --epochs"
    return (
        f"{batches:,} batches an epoch, at most {options.epochs} epochs; {precision}, {on}{many}; "
        f"everything goes into {output}{low}"
    )


def train(
    arguments: argparse.Namespace, name: str, work: Work, *, packages: tuple[str, ...] = (), then: str = ""
) -> int:
    """Do `work`, in as many processes as torchrun started, and say what came of it.

    Args:
        name: of the model, for people.
        work: given the world and whether to resume.
        packages: what `work` needs of the extra "train".
        then: the command to use the model with.

    Raises:
        UserError: the folder is taken, or has nothing to resume; what `work` says of its input.
    """
    import torch

    from foveate.tasks.training.loop import Stopped
    from foveate.tasks.training.world import joined, settled_device

    folder = Path(arguments.output)
    for package in packages:
        need(package, "train")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    with common.explained():
        device = settled_device(arguments.device)
    with joined(device) as world:
        if not world.restarted:  # else torchrun goes on with what it began
            _check(folder, arguments)
        try:
            with common.explained():
                outcome = work(world, arguments.resume)
        except Stopped:
            if world.leads:
                print(_stopped(folder, arguments.words, world.size), file=sys.stderr)
            return 130
        if world.leads:
            print(_finished(folder, name, outcome), *([f"  {then}"] if then else []), sep="\n", flush=True)
    return 0


def _check(folder: Path, arguments: argparse.Namespace) -> None:
    """May this run write there?"""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write into {folder}: it is no folder")
    held = [what for name, what in HELD.items() if (folder / name).is_file()]
    if arguments.resume and not (folder / "checkpoint.safetensors").is_file():
        raise UserError(f"nothing to resume: there is no checkpoint.safetensors in {folder}")
    if held and not (arguments.resume or arguments.overwrite):
        raise UserError(
            f"{folder} holds {' and '.join(held)} already; --resume goes on, --overwrite begins anew, or name another "
            "folder"
        )


def resumed(folder: Path, world: World, asked: bool) -> str:
    """Where a run goes on, as a line; nothing for one that begins."""
    from foveate.tasks.training.checkpoint import describe_checkpoint
    from foveate.tasks.training.resume import resumes

    if not resumes(folder, world, asked):
        return ""
    state: dict[str, Any] = describe_checkpoint(folder)["state"]
    return f"going on after step {state['step']:,}, in epoch {state['epoch'] + 1}\n"


def _stopped(folder: Path, words: list[str], processes: int) -> str:
    from foveate.tasks.training.checkpoint import describe_checkpoint

    state: dict[str, Any] = describe_checkpoint(folder)["state"]
    kept = [word for word in words if not any(_means(word, option) for option in ("--overwrite", "--resume"))]
    start = "foveate" if processes == 1 else f"torchrun --nproc-per-node {processes} -m foveate"
    return (
        f"Stopped after step {state['step']:,}, in epoch {state['epoch'] + 1}; nothing is lost. To go on:\n"
        f"  {start} {shlex.join([*kept, '--resume'])}"
    )


def _means(word: str, option: str) -> bool:
    """argparse takes options that are cut off, too."""
    return len(word) > len("--") and option.startswith(word)


def _finished(folder: Path, name: str, outcome: Outcome) -> str:
    from foveate.tasks.training.report import duration

    metrics = ", ".join(f"{metric} {value:.4g}" for metric, value in outcome.metrics.items())
    return (
        f"{folder}: {name}, {metrics} ({outcome.chosen}); {outcome.epochs} epochs, {outcome.steps:,} steps, "
        f"{duration(outcome.seconds)}"
    )
