"""`foveate prune`: take heads out of a model, and see what it costs; or put them back."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError

if TYPE_CHECKING:
    from foveate.tasks.pruning import Plan, Report, Subject
    from foveate.tasks.training import Options

SCHEDULES, RANKS = ("one-shot", "iterative", "gates"), ("greedy", "leave-one-out", "gradient")

_EXAMPLES = """  foveate prune my-translator --keep 0.5 --data valid.tsv -o half
  foveate prune my-translator --keep 0.4 --data valid.tsv --train pairs.tsv --schedule iterative -o small
  foveate prune my-translator --keep 0.4 --data valid.tsv --train pairs.tsv --schedule gates -o small
  foveate prune ./my-bert --keep 0.7 --data sentences.txt -o smaller
  foveate prune gpt2 --keep 0.8 --data texts.txt --rank gradient -o smaller
  foveate prune my-translator --remove decoder.layers.3.cross_attention:0,2 -o less
  foveate prune my-translator --keep 0.4 --data valid.tsv --train pairs.tsv --schedule iterative -o small --resume
  foveate prune --restore half -o whole            the model as it was, its heads in their places
  foveate translate --model half "How are you?"
"""


def add(commands: Any) -> None:
    summary = "take heads out of a model: it gets smaller and faster, and you see what that costs"
    parser = common.subcommand(commands, "prune", summary, _EXAMPLES)
    add = parser.add_argument
    add(
        "model", metavar="MODEL", nargs="?", help="a translator's folder, or a Hugging Face model: a folder or hub name"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    about = "the share of the heads that stays, from 0 to below 1; which ones, is chosen on --data"
    what.add_argument("--keep", type=common.share, metavar="SHARE", help=about)
    about = "heads to remove: a module's path, or a layer's number, and heads, such as 3:0,5; may be given again"
    what.add_argument("--remove", type=_named, action="append", metavar="WHERE:HEADS", help=about)
    what.add_argument("--restore", metavar="DIR", help="put back what was removed from the model in this folder")
    add("-o", "--output", metavar="DIR", required=True, help="the folder to write")
    _add_texts(parser.add_argument_group("texts"))
    _add_schedule(parser.add_argument_group("schedule"))
    _add_training(parser.add_argument_group("training on --train: of gates, in between, and after"))
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on in DIR where it was stopped, with the same options")
    again.add_argument("--overwrite", action="store_true", help="begin anew, whatever is in DIR")
    parser.set_defaults(run=run)


def _add_texts(group: Any) -> None:
    add = group.add_argument
    about = (
        "what heads are chosen and the model is judged on: parallel text, one TSV file or two line-aligned ones, for "
    )
    about += "a translator and any encoder-decoder; else files of texts, as in foveate heads"
    add("--data", nargs="+", metavar="FILE", help=about)
    add("--train", nargs="+", metavar="FILE", help="the same, to train on")
    about = "how many texts of --data tell what a head is worth (400); it is judged on all of them"
    add("--most", type=common.whole(1), default=400, metavar="N", help=about)
    add("--skip-bad", action="store_true", help="skip and count malformed lines instead of ending at the first")


def _add_schedule(group: Any) -> None:
    add = group.add_argument
    about = "one-shot removes all at once; iterative some in each round, and trains in between if there is --train; "
    about += "gates trains gates that close, and removes those heads (one-shot)"
    add("--schedule", choices=SCHEDULES, default="one-shot", help=about)
    about = "greedy removes each time the head without which the loss is smallest; leave-one-out those without which "
    about += "alone it grows least; gradient asks the gradient of the loss, in one pass (greedy)"
    add("--rank", choices=RANKS, default="greedy", help=about)
    about = "leave the heads that stay as they are; else they stand in for the others, as well as a linear map can"
    add("--no-refit", action="store_true", help=about)
    add("--rounds", type=common.whole(1), default=4, help="of iterative (4)")
    about = "of greedy: how many heads are tried at each step, those that cost least before (8); 0: all"
    add("--probes", type=common.whole(0), default=8, metavar="HEADS", help=about)


def _add_training(group: Any) -> None:
    add = group.add_argument
    add("--epochs", type=common.whole(1), help="passes over --train, in each round (3)")
    about = "highest learning rate (5e-4; of a Hugging Face model 5e-5)"
    add("--learning-rate", dest="peak", type=common.positive, metavar="RATE", help=about)
    add("--warmup", type=common.whole(0), metavar="STEPS", help="steps until it is reached (100)")
    add("--seed", type=common.whole(0), default=1, help="of everything that is drawn (1)")
    add("--threads", type=common.whole(1), help="threads of torch")
    about = "to choose and train on; auto is a GPU where there is one, else the CPU (auto)"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=about)


def _named(text: str) -> tuple[str | int, tuple[int, ...]]:
    """The type of `--remove`: 3:0,5, or a module's path instead of a layer's number."""
    where, colon, heads = text.rpartition(":")
    numbers = heads.split(",")
    if not colon or not where or not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"expected a layer's number or a module's path, a colon, and heads, such as 3:0,5; got {text!r}"
        )
    return int(where) if where.isdecimal() else where, tuple(int(number) for number in numbers)


def run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.output)
    _check(arguments, folder)
    with common.explained():
        if arguments.restore is not None:
            return _restore(Path(arguments.restore), folder)
        if arguments.threads is not None:
            import torch

            torch.set_num_threads(arguments.threads)
        plan = None if arguments.keep is None else _plan(arguments)
        subject = _subject(arguments)
        if plan is None:
            return _remove(subject, arguments.remove, folder)
        return _prune(plan, subject, folder, arguments)


def _check(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.restore is not None and arguments.model is not None:
        raise UsageError("--restore DIR names the model already; leave out MODEL")
    if arguments.restore is None and arguments.model is None:
        raise UsageError("name the model to prune: a translator's folder, or a Hugging Face model")
    if arguments.keep is not None and not arguments.data:
        raise UsageError("--keep chooses heads by what the model loses without them: give --data to measure it on")
    if arguments.keep is None and arguments.train:
        raise UsageError("--train is for --keep, which chooses heads and may train")
    if arguments.keep is not None and not arguments.train:
        if arguments.schedule == "gates":
            raise UsageError("--schedule gates trains the model: give --train")
        if arguments.epochs is not None:
            raise UsageError("--epochs is of training: give --train")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write into {folder}: it is no folder")
    if folder.exists() and arguments.model is not None and folder.samefile(_existing(arguments.model, folder.parent)):
        raise UsageError("the pruned model goes into another folder than the whole one; name another -o")
    held = folder.is_dir() and any(folder.iterdir())
    if held and not (arguments.resume or arguments.overwrite):
        raise UserError(f"{folder} is not empty; --resume goes on, --overwrite begins anew, or name another folder")
    if arguments.resume and not held:
        raise UserError(f"nothing to resume: there is nothing in {folder}")


def _existing(name: str, other: Path) -> Path:
    return Path(name) if Path(name).exists() else other


def _plan(arguments: argparse.Namespace) -> Plan:
    from foveate.tasks.pruning import Plan

    return Plan(
        arguments.keep,
        arguments.schedule,
        arguments.rank,
        arguments.rounds,
        arguments.probes or None,
        not arguments.no_refit,
        _options(arguments) if arguments.train else None,
        seed=arguments.seed,
    )


def _options(arguments: argparse.Namespace) -> Options:
    from dataclasses import replace

    from foveate.tasks.pruning.run import TUNING

    usual = 5e-4 if _is_translator(arguments.model) else 5e-5
    given = {name: value for name in ("epochs", "warmup") if (value := getattr(arguments, name)) is not None}
    return replace(TUNING, **given, peak=arguments.peak or usual)


def _is_translator(model: str) -> bool:
    return (Path(model) / "subwords.json").is_file()


def _subject(arguments: argparse.Namespace) -> Subject:
    if _is_translator(arguments.model):
        from foveate.tasks.pruning.translating import TranslatorSubject

        translator = common.load_translator(arguments.model)
        rules = translator.goal.rules
        data, train = (_pairs(files, arguments.skip_bad, **rules) for files in (arguments.data, arguments.train))
        return TranslatorSubject(translator, data or [], train, most=arguments.most)
    from foveate.apps.models import HubModel
    from foveate.tasks.pruning.reading import ReaderSubject

    hub = HubModel(arguments.model)
    model = hub.whole(common.report)
    common.report_end()
    read = _pairs if hub.kind == "encoder-decoder" else _lines
    data, train = (read(files, arguments.skip_bad) for files in (arguments.data, arguments.train))
    return ReaderSubject(model, hub.tokenizer, data or [], train, most=arguments.most, seed=arguments.seed)


def _pairs(files: list[str] | None, skip_bad: bool, **rules: Any) -> Any:
    from foveate.tasks.corpus import read_pairs

    if files is None:
        return None
    corpus = read_pairs([Path(path) for path in files], skip_bad=skip_bad, **rules)
    if corpus.skipped:
        print(f"foveate: {corpus.report()}", file=sys.stderr)
    return corpus.pairs


def _lines(files: list[str] | None, skip_bad: bool) -> Any:
    if files is None:
        return None
    from foveate.heads.documents import Documents

    documents = Documents(files, skip_bad=skip_bad)
    texts = list(documents)
    if documents.skipped:
        print(f"foveate: {documents.report()}", file=sys.stderr)
    if not texts:
        raise UserError(f"there is no text in {' and '.join(documents.names)}")
    return texts


def _remove(subject: Subject, named: list[tuple[str | int, tuple[int, ...]]], folder: Path) -> int:
    from foveate.heads import prune

    heads = [(where, head) for where, some in named for head in some]
    pruned = prune(subject.model, heads)
    subject.save(folder)
    (before, after), (had, has) = pruned.heads, pruned.parameters
    print(
        f"{folder}: {after} of {before} heads, {has:,} of {had:,} parameters; foveate prune --restore {folder} -o DIR"
    )
    return 0


def _restore(source: Path, folder: Path) -> int:
    if not source.is_dir():
        raise UserError(f"no model: there is no folder {source}")
    if _is_translator(str(source)):
        from foveate.tasks.translation import restore

        restore(source, folder)
    else:
        from foveate.extras import need
        from foveate.heads import restore as restore_hub

        need("transformers", "hf").logging.disable_progress_bar()
        restore_hub(source, folder)
        for path in source.glob("*token*"):
            shutil.copy(path, folder)
    print(f"{folder}: all heads are in their places again")
    return 0


def _prune(plan: Plan, subject: Subject, folder: Path, arguments: argparse.Namespace) -> int:
    from foveate.tasks.pruning import run as prune_it
    from foveate.tasks.training.loop import Stopped

    if arguments.overwrite and not arguments.resume:
        for path in folder.glob("round-*"):
            shutil.rmtree(path)

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    try:
        report = prune_it(plan, subject, folder, resume=arguments.resume, tell=tell, device=arguments.device)
    except (KeyboardInterrupt, Stopped):
        common.report_end()
        kept = [word for word in arguments.words if word not in ("--overwrite", "--resume")]
        print(f"Stopped; nothing is lost. To go on:\n  foveate {shlex.join([*kept, '--resume'])}", file=sys.stderr)
        return 130
    common.report_end()
    print(_table(report, subject))
    print(f"{folder}: {_uses(folder, subject)}\n  foveate prune --restore {shlex.quote(str(folder))} -o WHOLE")
    return 0


def _table(report: Report, subject: Subject) -> str:
    """What it was and what it is, a line for each number."""
    names = [name for name in report.before if not name.startswith("negative")]
    shown = {"milliseconds": "ms for some of the data"}
    rows = [(shown.get(name, name), report.before[name], report.after[name]) for name in names]
    wide = max(len(name) for name, _, _ in rows)
    lines = [f"{'':{wide}}  {'before':>12}  {'after':>12}"]
    for name, before, after in rows:
        ratio = f"  x {after / before:.2f}" if before and name not in (subject.metric, "loss", "perplexity") else ""
        lines.append(f"{name:{wide}}  {_digits(before):>12}  {_digits(after):>12}{ratio}")
    left = [f"{path}: {', '.join(map(str, heads)) or 'none'}" for path, heads in report.kept.items()]
    return "\n".join([*lines, "heads that are left, by their first numbers:", *(f"  {line}" for line in left)])


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _uses(folder: Path, subject: Subject) -> str:
    if (folder / "subwords.json").is_file():
        return f'foveate translate --model {shlex.quote(str(folder))} "..."'
    return (
        f"foveate view --model {shlex.quote(str(folder))}; in Python fv.heads.load; plain transformers loads it whole"
    )
