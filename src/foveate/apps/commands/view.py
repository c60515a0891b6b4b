"""`foveate view`: look at a model, a text or a recording."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError

_EXAMPLES = """  foveate view                                      the built-in model, no network needed
  foveate view --no-open                            print the address and serve, open no browser
  foveate view --text "The dog chased the ball because it was fast."
  foveate view --model bert-base-uncased --file doc.txt
  foveate view --model ./my-model --text "A text." --export page.html
  foveate view --model t5-small --text "translate English to German: Hello" --target "Hallo"
  foveate view run.fov                              a recording made by foveate record or seen.save
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "view", "look at a model, a text or a recording", _EXAMPLES)
    parser.add_argument("recording", nargs="?", metavar="RUN.fov", help="a saved recording")
    parser.add_argument("--model", metavar="PATH_OR_NAME", help="a Hugging Face model; default: the built-in one")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text", type=common.readable, help="the text to look at")
    texts.add_argument("--file", metavar="DOC.txt", help="a text file to look at; - reads standard input")
    common.add_target(parser)
    parser.add_argument("--export", metavar="PAGE.html", help="write one self-contained page and end")
    parser.add_argument("--no-open", action="store_true", help="print the address, open no browser")
    common.add_serving(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.export is not None:
        _check_target(Path(arguments.export))
    if arguments.recording is not None:
        return _show_recording(arguments)
    text = common.text_of(arguments)
    model: Any
    if arguments.model is None:
        from foveate.apps.builtin import BuiltinModel

        model = BuiltinModel()
    else:
        from foveate.apps.models import HubModel

        try:
            common.report(0.0, f"Looking for {arguments.model}")
            model = HubModel(arguments.model)
        finally:
            common.report_end()
    if arguments.target is not None and model.kind != "encoder-decoder":
        raise UsageError(f"--target is for encoder-decoder models; {model.name} has no decoder of its own")
    text = text or model.examples[0]
    if arguments.export is not None:
        return _export(model, text, arguments)
    return _serve_model(model, text, arguments)


def _check_target(path: Path) -> None:
    """Before a model runs, rather than after."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def _show_recording(arguments: argparse.Namespace) -> int:
    for option in ("model", "text", "file", "target"):
        if getattr(arguments, option) is not None:
            raise UsageError(f"a recording is shown as it is; leave out --{option}")
    from foveate.apps import export
    from foveate.apps.viewing import source_of
    from foveate.apps.workspace import Workspace
    from foveate.recording import load

    try:
        source = source_of(load(arguments.recording))
    except ValueError as error:  # the file is whole, and says what cannot be
        raise UserError(f"{arguments.recording}: {error}") from None
    if arguments.export is not None:
        print(export.write(source, arguments.export))
        return 0
    workspace = Workspace()
    workspace.add(source)
    workspace.warm()
    common.serve(common.open_page(workspace, arguments.host, arguments.port), not arguments.no_open)
    return 0


def _export(model: Any, text: str, arguments: argparse.Namespace) -> int:
    from foveate.apps import export

    try:
        source = model.run(text, arguments.target, common.report)
    finally:
        common.report_end()
    print(export.write(source, arguments.export))
    return 0


def _serve_model(model: Any, text: str, arguments: argparse.Namespace) -> int:
    """Serve at once; the page shows how the model loads, and what went wrong if it does not."""
    from foveate.apps.workspace import Workspace

    workspace = Workspace(model)
    page = common.open_page(workspace, arguments.host, arguments.port)
    first = workspace.start_text(text, arguments.target)
    workspace.first = first.id
    if arguments.model is None:
        first.finished.wait()  # the built-in model takes a second: then the page opens complete

    def watch_first() -> None:
        first.finished.wait()
        if first.state == "failed":
            print(f"foveate: {first.message}", file=sys.stderr)
        workspace.warm()

    threading.Thread(target=watch_first, name="foveate-first", daemon=True).start()
    common.serve(page, not arguments.no_open)
    return 0
