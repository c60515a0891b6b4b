"""`foveate record`: run a model on a text and keep what it attended to on disk."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UserError

if TYPE_CHECKING:
    from foveate.apps.models import HubModel, Prepared
    from foveate.apps.recorder import Choice, Plan
    from foveate.recording import Recording

MOST_BYTES = 64 << 20  # of a text
DTYPES = ("float16", "bfloat16", "float32")

_EXAMPLES = """  foveate record bert-base-uncased --file doc.txt -o run.fov
  foveate record ./my-model --text "A text." -o run.fov
  foveate record ./my-model --file book.txt -o run.fov --layers 0-3,11 --heads 5 --dtype float16
  foveate record ./my-model --file book.txt -o run.fov --resume    after Ctrl-C or a power cut
  foveate record ./my-model --file prompt.txt --generate 50 -o run.fov
  foveate record ./my-model --text "Once" --generate 50 --top-p 0.9 --seed 7 -o run.fov
  foveate view run.fov
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "record", "run a model on a text and save what it attended to", _EXAMPLES)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a Hugging Face model: a folder or a hub name")
    texts = parser.add_mutually_exclusive_group(required=True)
    texts.add_argument("--text", type=common.readable, help="the text")
    texts.add_argument("--file", metavar="DOC.txt", help="a text file; - reads standard input")
    common.add_target(parser)
    add("-o", "--output", metavar="RUN.fov", required=True, help="the recording to write, a new folder")
    about = "layers to keep: numbers and ranges (0-3,11), or module paths as globs ('decoder.*'); default: all"
    add("--layers", type=layers, metavar="WHICH", help=about)
    add("--heads", type=heads, metavar="WHICH", help="heads to keep of every layer (0-3,11); default: all")
    add("--dtype", choices=DTYPES, help="to keep numbers in; 16 bits take half the room (the model's own)")
    add("--no-values", action="store_true", help="keep queries and keys only: weights, but not what they read")
    common.add_writing(parser)
    add("--resume", action="store_true", help="go on with a recording that was cut off; what is complete stays")
    parser.set_defaults(run=run)


def heads(text: str) -> tuple[int, ...]:
    """The type of `--heads`: 0-3,11 is 0, 1, 2, 3, 11."""
    found = layers(text)
    if not all(isinstance(one, int) for one in found):
        raise argparse.ArgumentTypeError(f"expected numbers and ranges, such as 0-3,11; got {text!r}")
    return tuple(sorted({one for one in found if isinstance(one, int)}))


def layers(text: str) -> tuple[str | int, ...]:
    """The type of `--layers`: the same, and module paths."""
    found: list[str | int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if first.isdecimal() and (not dash or last.isdecimal()):
            found += range(int(first), int(last or first) + 1)
        elif part.strip() and not part.strip()[0].isdecimal() and not part.strip().startswith("-"):
            found.append(part.strip())
        else:
            raise argparse.ArgumentTypeError(f"expected numbers, ranges and paths, such as 0-3,11; got {text!r}")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is an empty range")
    return tuple(found)


def run(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    if output.exists() and not arguments.resume:
        raise UserError(f"{output} exists already; choose another name or remove it, or go on with it: --resume")
    if arguments.resume and not output.exists():
        raise UserError(f"nothing to resume: there is no {output}")
    if not output.parent.is_dir():
        raise UserError(f"cannot write {output}: there is no folder {output.parent}")
    text = common.text_of(arguments, MOST_BYTES)
    writing = common.writing_of(arguments)
    from foveate.apps.models import HubModel
    from foveate.apps.recorder import plan, size

    model = HubModel(arguments.model, most_tokens=sys.maxsize, writing=writing)
    if arguments.target is not None and model.kind != "encoder-decoder":
        raise UserError(f"--target is for encoder-decoder models; {model.name} has no decoder of its own")
    choice = _choice(arguments)
    try:
        given = model.prepared(text, arguments.target, common.report)
        planned = plan(model, given, choice)
        common.report_end()
        tokens = (
            f"{len(given.target_tokens or given.tokens):,} tokens" if given.written else f"{len(given.tokens):,} tokens"
        )
        wrote = f", {len(given.written.best)} of them written" if given.written else ""
        about = f"{tokens}{wrote}, {len(set(planned.names))} attention modules"
        print(f"{output}: {about}, {size(planned.nbytes)}", file=sys.stderr)
        seen = _record(model, given, choice, planned, output, arguments)
    finally:
        common.report_end()
    if seen is None:
        return 130
    for missed in seen.not_captured:
        print(f"not captured: {missed}", file=sys.stderr)
    print(f"{output}: {model.name}, {about}; foveate view {output}")
    return 0


def _choice(arguments: argparse.Namespace) -> Choice:
    import torch

    from foveate.apps.recorder import Choice

    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    return Choice(arguments.layers, arguments.heads, not arguments.no_values, dtype)


def _record(
    model: HubModel, given: Prepared, choice: Choice, planned: Plan, output: Path, arguments: argparse.Namespace
) -> Recording | None:
    """Record. What is complete when Ctrl-C or the disk breaks it off stays, and the command that goes on is said.

    None after Ctrl-C.
    """
    from foveate.apps.recorder import record

    was_there = output.exists()
    try:
        return record(model, given, choice, planned, output, common.report, resume=arguments.resume)
    except BaseException as error:
        index = output / "index.jsonl"
        count = index.read_bytes().count(b"\n") if index.is_file() else 0
        if not count and not was_there:
            shutil.rmtree(output, ignore_errors=True)
        if not count or not isinstance(error, KeyboardInterrupt | OSError):
            raise
        again = shlex.join([*(word for word in arguments.words if word != "--resume"), "--resume"])
        said = f"{count} of {len(planned.names)} calls are in {output}. To go on:\n  foveate {again}"
        if isinstance(error, OSError):
            raise UserError(f"{error.strerror or error}; {said}") from None
        common.report_end()
        print(f"Stopped; {said}", file=sys.stderr)
        return None
