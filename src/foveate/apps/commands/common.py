"""What several commands share: reading texts, showing progress, serving until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.errors import UserError

if TYPE_CHECKING:
    from foveate.apps.serve import Page
    from foveate.apps.workspace import Workspace

MAX_FILE = 400_000  # bytes: 100,000 characters of any alphabet


def subcommand(commands: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """A parser with its examples below its options."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def add_target(parser: argparse.ArgumentParser) -> None:
    about = "for an encoder-decoder: its target text, instead of one it writes itself"
    parser.add_argument("--target", type=readable, help=about)


def add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the page")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; anything but loopback lets others with the address and its token in (127.0.0.1)",
    )
    group.add_argument("--port", type=int, help="port to serve on; 0 takes any (8420, or any if that is in use)")


def readable(text: str) -> str:
    """A text of the command line, as the type of an argument.

    Raises:
        ValueError: some bytes of it are no characters.
    """
    text.encode()
    return text


readable.__name__ = "text (UTF-8)"  # as argparse names it in "invalid ... value"


def text_of(arguments: argparse.Namespace) -> str:
    """The text that --text or --file gives; nothing without either.

    Raises:
        UserError: it is empty, or the file cannot be read.
    """
    if arguments.text is None and arguments.file is None:
        return ""
    text: str = arguments.text if arguments.file is None else read_text(arguments.file)
    if not text.strip():
        raise UserError("the text is empty" if arguments.file is None else f"{arguments.file} is empty")
    return text


def read_text(path: str) -> str:
    """The text of a UTF-8 file, or of standard input for "-".

    Raises:
        UserError: it cannot be read, is no text, or is too long.
    """
    try:
        data = sys.stdin.buffer.read(MAX_FILE + 1) if path == "-" else _read(Path(path))
        if len(data) > MAX_FILE:
            raise UserError(f"{path} has more than {MAX_FILE:,} bytes; take a part of it")
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE + 1)


def report(progress: float, message: str) -> None:
    """Progress on standard error, where someone is looking."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message} … {progress:.0%}", end="", file=sys.stderr, flush=True)


def report_end() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def open_page(workspace: Workspace, host: str, port: int | None) -> Page:
    """The page, listening but not yet served."""
    from foveate.apps.security import is_loopback
    from foveate.apps.serve import Page

    page = Page(workspace, host, port)
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
