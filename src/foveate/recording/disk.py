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

__all__ = ["Opened", "append_line", "flush_directory", "read_small", "write_whole"]

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


class Opened:
    """A plain file inside a recording, open for reading; a context manager.

    `name` may have one folder in front. Neither the folder nor the file may be a link.

    Raises:
        RecordingError: a name that is not plain, a link, something that is not a file, a wrong size.
    """

    def __init__(self, root: Path, name: str, size: int | None = None):
        parts = name.split("/")
        if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
            raise RecordingError(f"{root}: {name[:80]!r} is not a plain file name inside a recording")
        self.where = f"{root.name}/{name}"
        try:
            if len(parts) == 2 and stat.S_ISLNK(os.lstat(root / parts[0]).st_mode):
                raise RecordingError(f"{self.where}: the folder is a link; links are not followed")
            self.fd = os.open(root / name, _PLAIN)
        except FileNotFoundError:
            raise RecordingError(f"{self.where}: the file is missing") from None
        except OSError as error:
            raise RecordingError(f"{self.where}: cannot be opened as a plain file: {error.strerror}") from None
        facts = os.fstat(self.fd)
        self.size = facts.st_size
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise RecordingError(f"{self.where}: is not a plain file")
        if size is not None and self.size != size:
            self.close()
            raise RecordingError(f"{self.where}: must be {size} bytes long; it has {self.size}: cut off or replaced")

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
