"""What several commands share: numbers and texts of the command line, progress, a model's page until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.errors import UsageError, UserError

if TYPE_CHECKING:
    from foveate.apps.serve import Page
    from foveate.apps.workspace import Workspace
    from foveate.apps.writing import Writing
    from foveate.tasks.translation import Translator

MAX_FILE = 400_000  # bytes: 100,000 characters of any alphabet


def subcommand(
    commands: Any, name: str, summary: str, examples: str, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser with its examples below its options."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        aliases=aliases,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def add_target(parser: argparse.ArgumentParser) -> None:
    about = "for an encoder-decoder: its target text, instead of one it writes itself"
    parser.add_argument("--target", type=readable, help=about)


def add_writing(parser: argparse.ArgumentParser) -> None:
    """The options of `writing_of`."""
    group = parser.add_argument_group("a model that writes")
    add = group.add_argument
    add("--generate", type=whole(1), metavar="N", help="have the model write at most N tokens, and show them, too")
    add(
        "--temperature",
        type=positive,
        help="of --generate: draw tokens, as likely as they are (1); below 1 closer to the best",
    )
    add("--top-p", type=chance, help="of --generate: draw from the most probable tokens with this share together (1)")
    add("--seed", type=whole(0), help="of --generate: the same one draws the same (0)")


def writing_of(arguments: argparse.Namespace) -> Writing | None:
    """What --generate asks for; without a temperature or a share nothing is drawn.

    Raises:
        UsageError: options that say nothing without others.
    """
    drawn = arguments.temperature is not None or arguments.top_p is not None
    for option in ("temperature", "top_p", "seed"):
        if getattr(arguments, option) is not None and arguments.generate is None:
            raise UsageError(f"--{option.replace('_', '-')} is for --generate: say how many tokens")
    if arguments.seed is not None and not drawn:
        raise UsageError("--seed is for drawing: give a --temperature or --top-p, too")
    if arguments.generate is None:
        return None
    if arguments.target is not None:
        raise UsageError("--target gives what --generate would write; leave out one of them")
    from foveate.apps.writing import Writing

    temperature = (arguments.temperature or 1.0) if drawn else None
    return Writing(arguments.generate, temperature, arguments.top_p or 1.0, arguments.seed or 0)


def add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the page")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; anything but loopback lets others with the address and its token in (127.0.0.1)",
    )
    group.add_argument("--port", type=int, help="port to serve on; 0 takes any (8420, or any if that is in use)")


def add_showing(parser: argparse.ArgumentParser) -> None:
    """The options of `show_model`."""
    parser.add_argument("--export", metavar="PAGE.html", help="write one self-contained page and end")
    parser.add_argument("--no-open", action="store_true", help="print the address, open no browser")
    add_serving(parser)


def whole(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """The type of an argument that is a whole number, from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > 19 or not least <= int(text) <= most:
            to = f" to {most:,}" if most < 2**31 or len(text) >= 19 else ""
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}{to}; got {text!r}")
        return int(text)

    return parse


def number(rule: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """The type of an argument that is a finite number for which a rule holds; `rule` says it in words."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not holds(value):
            raise argparse.ArgumentTypeError(f"expected a number {rule}; got {text!r}")
        return value

    return parse


positive = number("above 0", lambda value: value > 0)
share = number("from 0 and below 1", lambda value: 0 <= value < 1)
chance = number("above 0 and at most 1", lambda value: 0 < value <= 1)


def readable(text: str) -> str:
    """A text of the command line, as the type of an argument.

    Raises:
        ValueError: some bytes of it are no characters.
    """
    text.encode()
    return text


readable.__name__ = "text (UTF-8)"  # as argparse names it in "invalid ... value"


def text_of(arguments: argparse.Namespace, most: int = MAX_FILE) -> str:
    """The text that --text or --file gives, of at most so many bytes; nothing without either.

    Raises:
        UserError: it is empty, or the file cannot be read.
    """
    if arguments.text is None and arguments.file is None:
        return ""
    text: str = arguments.text if arguments.file is None else read_text(arguments.file, most)
    if not text.strip():
        named = "standard input" if arguments.file == "-" else arguments.file
        raise UserError("the text is empty" if named is None else f"{named} is empty")
    return text


def read_text(path: str, most: int = MAX_FILE) -> str:
    """The text of a UTF-8 file, or of standard input for "-".

    Raises:
        UserError: it cannot be read, is no text, or is too long.
    """
    name = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read(most + 1) if path == "-" else _read(Path(path), most)
        if len(data) > most:
            raise UserError(f"{name} has more than {most:,} bytes; take a part of it")
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UserError(f"{name} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What libraries say of input (a line or an option breaks a rule, a package is missing) is for the user to read.

    Raises:
        UserError: in the place of a ValueError, FloatingPointError or ModuleNotFoundError.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, FloatingPointError, ModuleNotFoundError) as error:
        raise UserError(str(error)) from error


def load_translator(folder: str | None) -> Translator:
    """The translator that `foveate train translation -o FOLDER` left; None: the built-in one.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from foveate.tasks.translation.store import builtin, builtins, load

    if folder is None:
        if "en-fr" not in builtins():
            raise UserError(
                "the built-in translator is not part of this installation; name another one: --model DIR, as "
                "foveate train translation leaves it"
            )
        return builtin()
    if not Path(folder).is_dir():
        raise UserError(f"no model: there is no folder {folder}")
    with explained():
        return load(folder)


def report(progress: float, message: str) -> None:
    """Progress on standard error, where someone is looking."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message} … {progress:.0%}", end="", file=sys.stderr, flush=True)


def report_end() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def open_page(workspace: Workspace, host: str, port: int | None, front: str | None = None) -> Page:
    """The page, listening but not yet served."""
    from foveate.apps.security import is_loopback
    from foveate.apps.serve import Page

    page = Page(workspace, host, port, front)
    if not is_loopback(host):
        print(
            f"foveate: serving on {host}: whoever can reach this machine and has the address below sees the page",
            file=sys.stderr,
        )
    return page


def serve(page: Page, browser: bool) -> None:
    """Print the address, show it if asked, and serve until Ctrl-C.

    It ends the process itself: threads may still be inside a model, and an orderly exit would abort them loudly.
    """
    from foveate.apps.serve import share_cores

    share_cores()
    print(page.url, flush=True)
    if browser:
        import threading

        threading.Thread(target=page.open, name="foveate-browser", daemon=True).start()
    if sys.stderr.isatty():
        print("Serving this page until Ctrl-C.", file=sys.stderr)
    try:
        page.run()
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)


def check_target(path: Path) -> None:
    """Before a model runs, rather than after.

    Raises:
        UserError: no file can be written there.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def show_model(model: Any, text: str, target: str | None, arguments: argparse.Namespace, *, quick: bool) -> int:
    """What a model (a `workspace.Model`) reads in a text: the page in a file, or served, as the options ask.

    Without `quick` the page is served at once, and shows how the model loads, or what went wrong if it does not.

    Raises:
        UsageError: a target for a model that takes none.
    """
    if target is not None and model.kind != "encoder-decoder":
        raise UsageError(f"--target is for encoder-decoder models; {model.name} has no decoder of its own")
    if arguments.export is None:
        return _serve_model(model, text, target, arguments, quick)
    from foveate.apps.commands.embedding import write_page

    try:
        source = model.run(text, target, report)
    finally:
        report_end()
    return write_page(source, arguments)


def _serve_model(model: Any, text: str, target: str | None, arguments: argparse.Namespace, quick: bool) -> int:
    from foveate.apps.workspace import Workspace

    workspace = Workspace(model)
    page = open_page(workspace, arguments.host, arguments.port)
    first = workspace.start_text(text, target)
    workspace.first = first.id
    if quick:
        first.finished.wait()  # it takes a second: then the page opens complete

    def watch_first() -> None:
        first.finished.wait()
        if first.state == "failed":
            print(f"foveate: {first.message}", file=sys.stderr)
        workspace.warm()

    threading.Thread(target=watch_first, name="foveate-first", daemon=True).start()
    serve(page, not arguments.no_open)
    return 0
