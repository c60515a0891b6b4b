"""`foveate record`: run a model on a text and keep what it attended to on disk."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError

_EXAMPLES = """  foveate record bert-base-uncased --file doc.txt -o run.fov
  foveate record ./my-model --text "A text." -o run.fov
  foveate view run.fov
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "record", "run a model on a text and save what it attended to", _EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face model: a folder or a hub name")
    texts = parser.add_mutually_exclusive_group(required=True)
    texts.add_argument("--text", type=common.readable, help="the text")
    texts.add_argument("--file", metavar="DOC.txt", help="a text file; - reads standard input")
    common.add_target(parser)
    parser.add_argument("-o", "--output", metavar="RUN.fov", required=True, help="the recording to write, a new folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    if output.exists():
        raise UserError(f"{output} exists already; choose another name or remove it")
    text = common.text_of(arguments)
    from foveate.apps.models import HubModel

    model = HubModel(arguments.model)
    if arguments.target is not None and model.kind != "encoder-decoder":
        raise UsageError(f"--target is for encoder-decoder models; {model.name} has no decoder of its own")
    try:
        seen, tokens, _ = model.record(text, arguments.target, common.report, to=output)
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)  # it was not there before
        raise
    finally:
        common.report_end()
    print(f"{output}: {model.name}, {len(tokens):,} tokens, {len(seen)} attention modules; foveate view {output}")
    return 0
