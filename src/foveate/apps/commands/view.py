"""`foveate view`: look at a model, a text, a recording or a survey."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from foveate.apps.commands import common, picture, survey
from foveate.apps.commands.embedding import add_embedding, check_embedding, write_page
from foveate.apps.commands.record import heads, layers
from foveate.apps.errors import UsageError, UserError
from foveate.apps.shipped import BUILTINS, USUAL, builtin

_EXAMPLES = """  foveate view                                      the built-in model, no network needed
  foveate view qa                                   the built-in one that answers from a text
  foveate view --no-open                            print the address and serve, open no browser
  foveate view --text "The dog chased the ball because it was fast."
  foveate view --model bert-base-uncased --file doc.txt
  foveate view --model ./my-model --text "A text." --export page.html
  foveate view --model ./my-model --text "Once upon a time" --generate 20
  foveate view --model t5-small --text "translate English to German: Hello" --target "Hallo"
  foveate view ./my-vit --image picture.png         a vision model and a picture (ViT, CLIP, BLIP)
  foveate view ground --image picture.png --text "the red circle left of the square"
  foveate view --model ./my-blip --image picture.jpg --text "What colour is the roof?"
  foveate view run.fov                              a recording made by foveate record or seen.save
  foveate view before.fov after.fov                 two recordings side by side, and the difference
  foveate view run.fov --terminal --layer 3 --head 5 --token cat
  foveate view run.fov --export page.html           one file for everybody: what fits is chosen
  foveate view run.fov --export page.html --layer 3 --head 5 --embed exact
  foveate view my-translator --text "A text."       a folder that foveate train left
  foveate view heads.parquet                        what each head does over a corpus, by foveate heads
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "view", "look at a model, a text, a recording or a survey", _EXAMPLES)
    about = (
        "a saved recording, a folder that foveate train left or Hugging Face saved, the table that foveate heads "
        "wrote, or a built-in model"
    )
    parser.add_argument("recording", nargs="?", metavar="RUN.fov", help=f"{about}: {', '.join(BUILTINS)}")
    parser.add_argument(
        "other", nargs="?", metavar="OTHER.fov", help="a second recording, to compare the first one with"
    )
    about = f"a Hugging Face model, a folder that foveate train left, or a built-in one; default: {USUAL}"
    parser.add_argument("--model", metavar="PATH_OR_NAME", help=about)
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text", type=common.readable, help="the text to look at")
    texts.add_argument("--file", metavar="DOC.txt", help="a text file to look at; - reads standard input")
    parser.add_argument("--image", metavar="PICTURE", help="a picture for a vision model to look at (PNG, JPEG, ...)")
    common.add_target(parser)
    common.add_writing(parser)
    group = parser.add_argument_group("in the terminal")
    group.add_argument("--terminal", action="store_true", help="print one head here, without a page: for ssh")
    group.add_argument("--token", metavar="WORD", help="the word whose links are listed: itself, or its number from 0")
    group = parser.add_argument_group("in the terminal, and in a file")
    group.add_argument(
        "--layer", type=layers, metavar="WHICH", help="layers, from 0, in the order of the page (0-3,11)"
    )
    group.add_argument("--head", type=heads, metavar="WHICH", help="heads, by their numbers in the model (5 or 0-3,11)")
    add_embedding(parser)
    common.add_showing(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    writing = common.writing_of(arguments)
    if survey.is_table(arguments.recording) or survey.is_table(arguments.other):
        return survey.show(arguments)
    where = arguments.model if arguments.recording is None else arguments.recording
    model = _own(where) if arguments.other is None else None
    if arguments.image is not None:
        from foveate.apps.task_model import TaskModel

        if where is None or not isinstance(model, TaskModel):
            return picture.show(arguments, lambda source: _print(source, arguments))
        model.about(Path(arguments.image))
    if arguments.other is not None:
        return _show_two(arguments)
    if arguments.recording is not None:
        if model is None and not _is_network(arguments.recording):
            return _show_recording(arguments)
        if arguments.model is not None:
            raise UsageError(f"{arguments.recording} is a model, one model is shown; leave out --model")
    if writing is not None and model is not None:
        raise UsageError("--generate is for Hugging Face models: --model PATH_OR_NAME")
    text = common.text_of(arguments)
    quick = model is not None
    model = model or _hub_model(where, writing)
    if arguments.terminal:
        return _print_model(model, text or model.examples[0], arguments)
    return common.show_model(model, text or model.examples[0], arguments.target, arguments, quick=quick)


def _check(arguments: argparse.Namespace) -> None:
    """Options that exclude each other, and a file that cannot be written."""
    if arguments.terminal and arguments.export is not None:
        raise UsageError("--terminal prints and --export writes a page; leave out one of them")
    for option in ("layer", "head", "token"):
        where = arguments.terminal or (arguments.export is not None and option != "token")
        given = getattr(arguments, option)
        if given is not None and not where:
            both = "--terminal" if option == "token" else "--terminal and --export"
            raise UsageError(f"--{option} is for {both}; in the page it is chosen with a click")
        several = given is not None and option != "token" and not (len(given) == 1 and isinstance(given[0], int))
        if arguments.terminal and several:
            raise UsageError(f"--terminal prints one {option}: --{option} takes one number there")
    check_embedding(arguments)
    if arguments.export is not None:
        common.check_target(Path(arguments.export))


def _print_model(model: Any, text: str, arguments: argparse.Namespace) -> int:
    if arguments.target is not None and model.kind != "encoder-decoder":
        raise UsageError(f"--target is for encoder-decoder models; {model.name} has no decoder of its own")
    try:
        source = model.run(text, arguments.target, common.report)
    finally:
        common.report_end()
    return _print(source, arguments)


def _print(source: Any, arguments: argparse.Namespace) -> int:
    from foveate.apps.looking import Place, look

    one = {option: getattr(arguments, option) for option in ("layer", "head")}
    look(source, Place(**{option: given and given[0] for option, given in one.items()}, word=arguments.token))
    return 0


def _own(where: str | None) -> Any:
    """A built-in model, or the one that foveate train left in a folder; None if there is something else, or nothing."""
    found = builtin(where)
    if found is not None or where is None:
        return found
    from foveate.apps.task_model import open_folder

    with common.explained():
        return open_folder(where)


def _is_network(where: str) -> bool:
    """Whether a folder holds a Hugging Face model, and no recording."""
    return (Path(where) / "config.json").is_file() and not (Path(where) / "manifest.json").exists()


def _hub_model(name: str, writing: Any) -> Any:
    from foveate.apps.models import HubModel

    try:
        common.report(0.0, f"Looking for {name}")
        return HubModel(name, writing=writing)
    finally:
        common.report_end()


def _show_two(arguments: argparse.Namespace) -> int:
    if arguments.terminal or arguments.export is not None:
        raise UsageError("two recordings are compared in a page that is served; leave out --terminal and --export")
    from foveate.apps.workspace import Workspace

    paths = arguments.recording, arguments.other
    one, other = (_recording(arguments, path) for path in paths)
    names = [Path(path).name for path in paths]
    workspace = Workspace()
    workspace.add_compared(one, other, (names[0], names[1]) if names[0] != names[1] else paths)
    common.serve(common.open_page(workspace, arguments.host, arguments.port), not arguments.no_open)
    return 0


def _recording(arguments: argparse.Namespace, path: str) -> Any:
    """A saved recording as a source; options that are for models are refused.

    Raises:
        UserError: there is nothing of this name, or something else.
        UsageError: such an option is given.
    """
    from foveate.apps.viewing import source_of
    from foveate.recording import load

    if Path(path).is_dir() and not (Path(path) / "manifest.json").exists():
        raise UserError(f"{path} holds no recording, and no model that foveate train left or Hugging Face saved")
    try:
        found = load(path)
    except FileNotFoundError as error:
        raise UserError(f"{error.strerror}: {path}; the built-in models are {', '.join(BUILTINS)}") from None
    for option in ("model", "text", "file", "target", "generate"):
        if getattr(arguments, option) is not None:
            raise UsageError(f"a recording is shown as it is; leave out --{option}")
    try:
        return source_of(found)
    except ValueError as error:  # the file is whole, and says what cannot be
        raise UserError(f"{path}: {error}") from None


def _show_recording(arguments: argparse.Namespace) -> int:
    from foveate.apps.workspace import Workspace

    source = _recording(arguments, arguments.recording)
    if arguments.terminal:
        return _print(source, arguments)
    if arguments.export is not None:
        return write_page(source, arguments)
    workspace = Workspace()
    workspace.add(source)
    workspace.warm()
    common.serve(common.open_page(workspace, arguments.host, arguments.port), not arguments.no_open)
    return 0
