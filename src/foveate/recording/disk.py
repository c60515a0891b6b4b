"""Files that are there whole or not at all, opened without following links, read with pread and never mapped.

Truncating a memory-mapped file kills its reader with SIGBUS; a short pread is an ordinary error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .strict import RecordingError

__all__ = ["Opened", "append_line", "check_listed", "flush_directory", "plain_path", "read_small", "write_whole"]

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def write_whole(path: Path, fill: Callable[[BinaryIO], None]) -> int:
    """Write `path` by temporary file, fsync, rename and fsync of its directory. Returns its size."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    os.rename(temporary, path)
    flush_directory(path.parent)
    return size


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until it is on the disk."""
    with open(path, "ab") as file:
        file.write(line.encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def flush_directory(path: Path) -> None:
    """Make renames in `path` durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def plain_path(root: Path, name: str) -> str:
    """The path of a file inside a recording; `name` may have one folder in front, which may not be a link.

    Raises:
        RecordingError: a name that is not plain (absolute, `..`, hidden), or a folder that is a link.
    """
    parts = name.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
        raise RecordingError(f"{root.name}: {name[:80]!r} is not a plain file name inside a recording")
    if len(parts) == 2 and os.path.islink(os.path.join(root, parts[0])):
        raise RecordingError(f"{root.name}/{name}: the folder is a link; links are not followed")
    return os.path.join(root, *parts)


def check_listed(root: Path, name: str, size: int) -> None:
    """Raise RecordingError unless the file is there, plain, and `size` bytes long. It is not opened."""
    where = f"{root.name}/{name}"
    try:
        facts = os.lstat(plain_path(root, name))
    except OSError:
        raise RecordingError(f"{where}: the file is missing") from None
    _check(where, facts, size)


def _check(where: str, facts: os.stat_result, size: int | None) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise RecordingError(f"{where}: is not a plain file; links are not followed")
    if size is not None and facts.st_size != size:
        raise RecordingError(f"{where}: must be {size} bytes long; it has {facts.st_size}: cut off or replaced")


class Opened:
    """A plain file inside a recording, open for reading; a context manager.

    Raises:
        RecordingError: a name that is not plain, a link, something that is not a file, a wrong size.
    """

    def __init__(self, root: Path, name: str, size: int | None = None):
        self.where = f"{root.name}/{name}"
        try:
            self.fd = os.open(plain_path(root, name), _PLAIN)
        except FileNotFoundError:
            raise RecordingError(f"{self.where}: the file is missing") from None
        except OSError as error:
            raise RecordingError(f"{self.where}: cannot be opened as a plain file: {error.strerror}") from None
        facts = os.fstat(self.fd)
        self.size = facts.st_size
        try:
            _check(self.where, facts, size)
        except RecordingError:
            self.close()
            raise

    def read(self, start: int, count: int) -> bytearray:
        """`count` bytes from `start`; a short file is an error."""
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            if hasattr(os, "preadv"):
                got = os.preadv(self.fd, [view[done:]], start + done)
            else:  # pragma: no cover - no preadv here
                os.lseek(self.fd, start + done, os.SEEK_SET)
                part = os.read(self.fd, count - done)
                got = len(part)
                view[done : done + got] = part
            if got == 0:
                raise RecordingError(f"{self.where}: ends before byte {start + count}: cut off")
            done += got
        return data

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_small(root: Path, name: str, most: int) -> bytes:
    """A whole small file.

    Raises:
        RecordingError: it is missing, a link, or longer than `most` bytes.
    """
    with Opened(root, name) as file:
        if file.size > most:
            raise RecordingError(f"{file.where}: is {file.size} bytes long; at most {most} are read")
        return bytes(file.read(0, file.size))
