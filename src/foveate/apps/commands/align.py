"""`foveate align`: which word of a sentence each word of its given translation came from."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError
from foveate.lines import opened

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.tasks.alignment import Reading
    from foveate.tasks.corpus import Pair
    from foveate.tasks.translation import Translator

LEAST = 0.001  # of weights that are printed
MERGE = "grow-diag-final-and"

BUILTIN = "the built-in translator"

_EXAMPLES = """  foveate align pairs.tsv                            one line of links for each line: 0-0 1-2 2-1
  foveate align --model my-translator pairs.tsv
  foveate align --model my-translator a.en a.fr -o links.txt
  foveate align --model my-translator --soft - < pairs.tsv
  foveate align --model en-fr --reverse-model fr-en --symmetrize intersection pairs.tsv
  foveate align --model en-fr --reverse-model fr-en --choose dev.tsv --save
  foveate align --model my-transformer --layer 2 --head mean --shift input pairs.tsv
"""


def add(commands: Any) -> None:
    from foveate.tasks.alignment import METHODS
    from foveate.tasks.alignment.readings import SHIFTS

    summary = "align the words of given translations"
    parser = common.subcommand(commands, "align", summary, _EXAMPLES)
    add = parser.add_argument
    about = "a TSV file (source, tab, target), or two files with a line each; .gz too; - reads a TSV"
    add("pairs", nargs="*", metavar="PAIRS", help=about)
    about = "a translator that foveate train translation made; default: the built-in one, English to French"
    add("--model", metavar="DIR", help=about)
    about = "one that translates back: both directions are merged"
    add("--reverse-model", metavar="DIR", help=about)
    about = (
        f"how to merge them, or of one model the best source word of each target word and the best target word of each "
        f"source word: {', '.join(METHODS)}; default {MERGE}; none: of one model, only the best for each word that it "
        "writes"
    )
    add("--symmetrize", choices=(*METHODS, "none"), metavar="METHOD", help=about)
    about = (
        "which way --model translates, if it is alone: forward is from the first column into the second (as trained)"
    )
    add("--direction", choices=("forward", "backward"), help=about)
    add("--soft", action="store_true", help="all weights, as 0-0:0.830, instead of links")
    add("--threshold", type=common.share, help=f"no link has a smaller weight (0; with --soft {LEAST})")
    add("-o", "--output", metavar="FILE", help="file for the links; default: standard output")
    about = "give a malformed line an empty line of output, and count it, instead of ending at the first"
    add("--skip-bad", action="store_true", help=about)
    group = parser.add_argument_group("reading", "which attention is read; default: what --save stored")
    group.add_argument("--layer", type=common.whole(0), help="of the decoder, from 0")
    group.add_argument("--head", type=_head, help="its number, from 0, or mean of all")
    about = "the row that predicted a word (output), or the next one, which was given it (input)"
    group.add_argument("--shift", choices=SHIFTS, help=about)
    about = "find the best reading on these pairs, a few hundred; they need no links"
    group.add_argument("--choose", metavar="TSV", help=about)
    group.add_argument("--save", action="store_true", help="keep what --choose found, with the model")
    parser.set_defaults(run=run)


def _head(text: str) -> int | str:
    return text if text == "mean" else common.whole(0)(text)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    with common.explained():
        models = [_model(arguments.model)]
        if arguments.reverse_model is not None:
            models.append(_model(arguments.reverse_model))
            if all("settings" in model.facts for model in models) and _reversed(models[0]) == _reversed(models[1]):
                print(
                    "foveate: both models were trained in the same direction; one should translate back",
                    file=sys.stderr,
                )
        lines = _lines(arguments.pairs, arguments.skip_bad, models[0]) if arguments.pairs else []
        readings = _readings(arguments, models)
        if not lines:
            return 0
        pairs = [pair for pair in lines if pair is not None]
        texts = _texts(arguments, models, readings, pairs)
        try:
            with _output(arguments.output) as file:
                for done, pair in enumerate(lines):
                    if not done % 64 and not file.isatty():
                        common.report(done / len(lines), f"Aligning {len(pairs):,} pairs")
                    print("" if pair is None else next(texts), file=file)
        finally:
            common.report_end()
    return 0


def _check(arguments: argparse.Namespace) -> None:
    one_way = [name for name in ("direction", "soft") if getattr(arguments, name)]
    chosen = [name for name in ("layer", "head", "shift") if getattr(arguments, name) is not None]
    if arguments.reverse_model is not None and one_way:
        raise UsageError(f"--{one_way[0]} is of one model alone; leave it out, or --reverse-model")
    if arguments.reverse_model is not None and arguments.symmetrize == "none":
        raise UsageError("two models are always merged; leave out --symmetrize none, or --reverse-model")
    if arguments.soft and arguments.symmetrize is not None:
        raise UsageError("--soft prints weights, and --symmetrize merges links; leave out one of them")
    if arguments.choose is not None and chosen:
        raise UsageError(f"--choose finds out what to read; leave out --{chosen[0]}")
    if arguments.save and arguments.choose is None:
        raise UsageError("--save keeps what --choose finds; add --choose TSV")
    if arguments.save and arguments.model is None:
        raise UsageError("--save keeps it with a model of yours; name it: --model DIR")
    if not arguments.pairs and arguments.choose is None:
        raise UsageError("give the pairs to align: a TSV file, two files, or - for standard input")
    if arguments.output is not None:
        common.check_target(Path(arguments.output))


def _model(folder: str | None) -> Translator:
    model = common.load_translator(folder)
    if not model.has_attention:
        raise UserError(f"the model in {folder} has one fixed vector for a sentence, and no attention to align by")
    return model


def _lines(paths: Sequence[str], skip_bad: bool, model: Translator) -> list[Pair | None]:
    """The pair of each line, None for one that is skipped."""
    from foveate.tasks import corpus

    with _files(paths) as files:
        lines = list(corpus.read_lines(files, skip_bad=skip_bad, **model.goal.rules))
    told = corpus.Corpus.of(lines)
    if told.skipped:
        print(f"foveate: {told.report()}", file=sys.stderr)
    return [line if isinstance(line, corpus.Pair) else None for line in lines]


@contextmanager
def _files(paths: Sequence[str]) -> Iterator[list[Path]]:
    """One path or two; standard input as a file."""
    if len(paths) > 2 or (len(paths) == 2 and "-" in paths):
        raise UsageError(f"pairs are one TSV file, two line-aligned files, or -; got {' '.join(paths)}")
    if paths[0] != "-":
        yield [Path(path) for path in paths]
        return
    with tempfile.TemporaryDirectory() as folder, opened("-") as (stream, _):
        file = Path(folder) / "standard input"
        file.write_bytes(b"".join(iter(lambda: stream.read1(1 << 20), b"")))
        yield [file]


def _readings(arguments: argparse.Namespace, models: Sequence[Translator]) -> list[Reading]:
    """Which attention of each model is read."""
    folders = [arguments.model or BUILTIN, arguments.reverse_model]
    if arguments.choose is not None:
        return _chosen(arguments, models, folders)
    given = any(getattr(arguments, name) is not None for name in ("layer", "head", "shift"))
    for folder, model in zip(folders, models, strict=False):
        if not given and "reading" not in model.facts:
            print(
                f"foveate: no reading was chosen for {folder}, so it is {model.reading}; --choose finds the best",
                file=sys.stderr,
            )
    return [_overridden(model, arguments) for model in models]


def _overridden(model: Translator, arguments: argparse.Namespace) -> Reading:
    """The model's own reading, with what --layer, --head and --shift say."""
    from foveate.tasks.alignment import Reading

    own, shape = model.reading, model.shape
    layers, heads = (1, 1) if shape.arch == "rnn" else (shape.layers, shape.heads)
    modules, head = own.modules, own.head
    if arguments.layer is not None:
        if arguments.layer >= layers:
            raise UsageError(f"the decoder has {layers} layers with attention, counted from 0; got {arguments.layer}")
        modules = ("attention",) if shape.arch == "rnn" else (f"decoder.layers.{arguments.layer}.cross_attention",)
        head = "mean"
    if arguments.head is not None:
        head = arguments.head
        if head != "mean" and int(head) >= heads:
            raise UsageError(f"the attention has {heads} heads, counted from 0; got {head}")
    return Reading(modules, head, arguments.shift or own.shift)


def _chosen(
    arguments: argparse.Namespace, models: Sequence[Translator], folders: Sequence[str | None]
) -> list[Reading]:
    from foveate.tasks.corpus import read_pairs
    from foveate.tasks.translation import choosing

    pairs = read_pairs([arguments.choose], skip_bad=arguments.skip_bad, **models[0].goal.rules).pairs
    try:
        common.report(0.0, f"Comparing readings on {len(pairs):,} pairs")
        if len(models) == 2:
            best = choosing.best_readings(models[0], models[1], _in_order(pairs))
            readings, agreement = [best.forward, best.backward], best.agreement
        else:
            alone = choosing.best_reading(models[0], _in_order(pairs, turned=_backward(arguments, models)))
            readings, agreement = [alone.reading], alone.agreement
    finally:
        common.report_end()
    for folder, reading in zip(folders, readings, strict=False):
        told = f"{folder}: {reading} (agreement {agreement:.3f})"
        print(told, file=sys.stderr if arguments.pairs else sys.stdout)
        if arguments.save:
            choosing.save_reading(Path(str(folder)), reading)
    return readings


def _backward(arguments: argparse.Namespace, models: Sequence[Translator]) -> bool:
    """Whether one model alone translates from the second column into the first."""
    return _reversed(models[0]) if arguments.direction is None else arguments.direction == "backward"


def _reversed(model: Translator) -> bool:
    """Whether it was trained with --reverse."""
    told: bool = model.facts.get("settings", {}).get("reverse", False)
    return told


def _texts(
    arguments: argparse.Namespace, models: Sequence[Translator], readings: Sequence[Reading], pairs: Sequence[Pair]
) -> Iterator[str]:
    """The links of each pair as text."""
    from foveate.tasks import alignment

    threshold = arguments.threshold or 0.0
    method = arguments.symmetrize or MERGE
    if len(models) == 2:
        both = (_weights(models[i], readings[i], pairs, i == 1) for i in (0, 1))
        for ahead_JI, back_JI in zip(*both, strict=True):
            ahead = alignment.hard(ahead_JI, "target", threshold=threshold)
            back = alignment.hard(back_JI, "source", threshold=threshold)
            yield alignment.format_links(alignment.symmetrize(ahead, back, method))
        return
    backward = _backward(arguments, models)
    for weights_JI in _weights(models[0], readings[0], pairs, backward):
        if arguments.soft:
            yield alignment.format_soft(alignment.soft(weights_JI, least=threshold or LEAST))
        elif method == "none":
            how = "source" if backward else "target"
            yield alignment.format_links(alignment.hard(weights_JI, how, threshold=threshold))
        else:
            yield alignment.format_links(alignment.merged(weights_JI, method, threshold=threshold))


def _in_order(pairs: Sequence[Pair], *, turned: bool = False) -> list[tuple[str, str]]:
    """As a translator takes them; with `turned`, source and target exchanged."""
    return [(pair.target, pair.source) if turned else (pair.source, pair.target) for pair in pairs]


def _weights(model: Translator, reading: Reading, pairs: Sequence[Pair], backward: bool) -> Iterator[Tensor]:
    """Of each pair, (words of the second column, words of the first), whichever way the model translates."""
    for weights in model.align(_in_order(pairs, turned=backward), reading):
        yield weights.T if backward else weights


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with open(path, "w", encoding="utf-8") as file:
        yield file
