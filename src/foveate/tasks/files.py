"""Files that are replaced in one step: who reads sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["replace_file", "save_text"]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make the file under another name beside `path`, and then give it that name. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave the new name on an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
