"""`foveate view MODEL --image`: what a vision model reads in a picture, and what the words of a text read in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from foveate.apps.commands import common
from foveate.apps.commands.embedding import write_page
from foveate.apps.errors import UsageError

__all__ = ["show"]


def _source_of(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The model, and what it read, as the options ask.

    Raises:
        UsageError: options that do not go together.
        UserError: there is no such model or picture, or they do not fit.
    """
    where = arguments.model if arguments.recording is None else arguments.recording
    if where is None or (arguments.model is not None and arguments.recording is not None):
        raise UsageError("--image is for one vision model: foveate view MODEL --image picture.png")
    for option in ("target", "generate", "other"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--image and {'a second recording' if option == 'other' else f'--{option}'} do not go together"
            )
    text = common.text_of(arguments)
    from foveate.apps.picturing import PictureModel

    try:
        common.report(0.0, f"Looking for {where}")
        model = PictureModel(where, arguments.image)
        if text and not model.reads_text:
            raise UsageError(
                f"no word reads the picture in {model.name}: leave out --text; the text's side of a model with two "
                "towers is shown by --text without --image"
            )
        if model.needs_text and not text:
            raise UsageError(f"{model.name} reads a picture and a text: add --text")
        return model, model.run(text, None, common.report)
    finally:
        common.report_end()


def show(arguments: argparse.Namespace, terminal: Callable[[Any], int]) -> int:
    """The page of a picture: in a file, or served; where words read it, others can be typed there.

    Args:
        terminal: prints a source instead, if that is asked for.
    """
    model, source = _source_of(arguments)
    for note in model.notes:
        print(f"foveate: {note}", file=sys.stderr)
    if arguments.terminal:
        return terminal(source)
    if arguments.export is not None:
        return write_page(source, arguments)
    from foveate.apps.workspace import Workspace

    workspace = Workspace(model if model.reads_text else None)
    workspace.add(source)
    workspace.warm()
    common.serve(common.open_page(workspace, arguments.host, arguments.port), not arguments.no_open)
    return 0
