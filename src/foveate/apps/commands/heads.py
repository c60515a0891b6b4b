"""`foveate heads`: what every head of a model does, over a corpus."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, survey
from foveate.apps.commands.record import layers
from foveate.apps.errors import UsageError, UserError

if TYPE_CHECKING:
    from foveate.heads.documents import Documents
    from foveate.heads.engine import Folder
    from foveate.heads.shard import Options

_EXAMPLES = """  foveate heads bert-base-uncased sentences.txt -o heads.parquet
  foveate heads ./my-model corpus.jsonl.gz --field body -o heads.parquet --processes 4
  foveate heads gpt2 books/*.txt --per file -o heads.parquet --measures induction,previous
  foveate heads ./my-model corpus.parquet -o heads.parquet --resume     after Ctrl-C or a power cut
  foveate heads my-translator pairs.tsv --target fr -o heads.parquet     of pairs, a tab between
  foveate heads heads.parquet --report page.html                        the page of a table that is there
  foveate view heads.parquet                                            the same, served
  cut -f1 pairs.tsv | foveate heads ./my-model - -o heads.parquet
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "heads", "measure what every head of a model does over a corpus", _EXAMPLES)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a translator's folder, or a Hugging Face model: a folder or a hub name")
    about = "files of texts: text (one on each line), .jsonl, .parquet, the first two also .gz; - reads standard input"
    add("corpus", metavar="CORPUS", nargs="*", help=about)
    add("-o", "--output", metavar="HEADS.parquet", help="the table to write: a row for each head")
    add(
        "--report",
        metavar="PAGE.html",
        help="write a page that shows it, in one file; of a table that is there: name it alone",
    )
    corpus = parser.add_argument_group("the corpus")
    add = corpus.add_argument
    add("--field", default="text", help="of .jsonl and .parquet: where the text stands (text)")
    add(
        "--target",
        metavar="FIELD",
        help="where the target text stands, for an encoder-decoder; of text files: after a tab",
    )
    add("--per", choices=("line", "file"), default="line", help="of text files: what one text is (line)")
    add("--skip-bad", action="store_true", help="leave out texts that break a rule, and count them")
    add(
        "--max-tokens",
        type=common.whole(1),
        metavar="N",
        help="cut texts off there (where the positions of the model end)",
    )
    measured = parser.add_argument_group("what is measured")
    add = measured.add_argument
    add(
        "--measures",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="some of them, such as induction,copy (all)",
    )
    about = "layers: numbers and ranges (0-3,11), or module paths as globs ('decoder.*'); default: all"
    add("--layers", type=layers, metavar="WHICH", help=about)
    add("--rows", type=common.whole(1), default=256, help="queries of a text that are measured, at most (256)")
    add("--no-examples", action="store_true", help="keep no examples of what heads read")
    running = parser.add_argument_group("how it runs")
    add = running.add_argument
    add(
        "--processes",
        type=common.whole(1),
        metavar="N",
        help="that measure side by side; the table stays the same (one per core)",
    )
    add("--threads", type=common.whole(1), default=1, help="of each process (1)")
    add("--engine", choices=("local", "ray"), default="local", help="what runs the processes (local)")
    add("--resume", action="store_true", help="go on with a survey that was cut off")
    add("--keep-parts", action="store_true", help="leave the folder of partial results beside the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.report is not None:
        common.check_target(Path(arguments.report))
    if not arguments.corpus and arguments.model.endswith(".parquet") and arguments.report is not None:
        return survey.write(arguments.model, arguments.report)
    if not arguments.corpus:
        raise UsageError("a survey needs a CORPUS: files of texts, or - for standard input")
    if arguments.output is None:
        raise UsageError("say where the table goes: -o HEADS.parquet")
    output = Path(arguments.output)
    if output.exists():
        raise UserError(f"{output} exists already; choose another name or remove it")
    common.check_target(output)
    if "-" in arguments.corpus and len(arguments.corpus) > 1:
        raise UserError("standard input (-) is a corpus of its own; name it alone")
    from foveate.extras import need

    for module in ("pandas", "pyarrow", *(["ray"] if arguments.engine == "ray" else [])):
        need(module, "ray" if module == "ray" else "heads")
    from foveate.heads.documents import Documents
    from foveate.heads.engine import Folder
    from foveate.heads.shard import Options
    from foveate.heads.surveying import chosen

    wanted = chosen(arguments.measures)
    options = Options.of(wanted, rows=arguments.rows, examples=not arguments.no_examples, layers=arguments.layers)
    documents = Documents(
        arguments.corpus,
        field=arguments.field,
        target=arguments.target,
        per=arguments.per,
        skip_bad=arguments.skip_bad,
    )
    folder = Folder(output.with_name(f"{output.name}.parts"), _about(arguments, options), resume=arguments.resume)
    try:
        with common.explained():
            _survey(arguments, options, documents, folder, wanted, output)
    except KeyboardInterrupt:
        common.report_end()
        again = shlex.join([*(word for word in arguments.words if word != "--resume"), "--resume"])
        print(f"Stopped; what is done is in {folder.path}. To go on:\n  foveate {again}", file=sys.stderr)
        return 130
    except BaseException as error:
        common.report_end()
        kept = not folder.remove_if_empty()
        if kept and isinstance(error, OSError):
            print(f"What is done is in {folder.path}: go on with --resume", file=sys.stderr)
        raise
    if not arguments.keep_parts:
        folder.remove()
    return 0 if arguments.report is None else survey.write(output, arguments.report)


def _about(arguments: argparse.Namespace, options: Options) -> dict[str, Any]:
    """What a survey must have in common with one that it goes on with."""
    from foveate import __version__

    return {
        "model": arguments.model,
        "max tokens": arguments.max_tokens,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()},
        "threads": arguments.threads,
        "version": __version__,
    }


def _survey(
    arguments: argparse.Namespace,
    options: Options,
    documents: Documents,
    folder: Folder,
    wanted: tuple[str, ...],
    output: Path,
) -> None:
    from foveate.apps.surveying import load
    from foveate.heads.surveying import facts_of
    from foveate.heads.surveying import run as measured
    from foveate.heads.table import unmeasured, write_parquet

    start, threads = time.monotonic(), arguments.threads
    state = measured(
        functools.partial(load, arguments.model, arguments.max_tokens),
        documents,
        options,
        processes=arguments.processes or max(1, (os.cpu_count() or 1) // threads),
        threads=threads,
        engine=arguments.engine,
        folder=folder,
        progress=_progress(documents, start),
    )
    common.report_end()
    facts = {"corpus": documents.names, "skipped": dict(documents.skipped), **facts_of(state, wanted)}
    write_parquet(output, state, facts, wanted)
    if documents.skipped:
        print(documents.report(), file=sys.stderr)
    for missed in state.missed:
        print(f"not captured: {missed}", file=sys.stderr)
    if lost := int(unmeasured(state).sum()):
        print(f"nothing is known of {lost:,} of {state.heads:,} heads: their weights are NaN", file=sys.stderr)
    if state.cut:
        than = "the model takes" if arguments.max_tokens is None else f"--max-tokens {arguments.max_tokens}"
        print(f"longer than {than}, and cut off: {state.cut:,} of {state.texts:,} texts", file=sys.stderr)
    about = f"{state.heads} heads, {state.texts:,} texts, {state.tokens:,} tokens"
    print(f"{output}: {state.about['name']}, {about}")


def _progress(documents: Documents, start: float) -> Callable[[int], None]:
    """How many texts are measured, and of how many, as far as what has been read tells."""

    def tell(done: int) -> None:
        read, seconds = documents.fraction, time.monotonic() - start
        share = None if read is None or not documents.texts else min(1.0, read * done / documents.texts)
        left = "" if not share else f", about {seconds * (1 - share) / share:.0f} s left"
        common.report(share or 0.0, f"{done:,} texts measured{left}")

    return tell
