"""What was made from a recording and may be thrown away: the folder `cache` inside it, see docs/format.md.

A file there is as untrusted as any other of a recording: read by its checksums, taken only in the shapes expected, and
passed over wherever something is wrong. Nothing fails because the folder cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .disk import plain_path
from .strict import RecordingError
from .tensorfile import FileFacts, TensorFile, write_tensors

__all__ = ["Beside", "Kept", "Shapes"]

FOLDER, VERSION = "cache", 1
LIMIT = 1 << 29  # bytes in all
STALE = 24 * 3600.0  # seconds after which what a killed writer left is removed
_NAME = re.compile(r"[a-z]+-[0-9a-f]{32}\.safetensors")
_LEFT = re.compile(r"\.?w[0-9a-f]{16}\.safetensors(\.tmp)?")
_SPARE = 1 << 16  # bytes of a file that are not numbers, at most, beside its checksums

Shapes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


class Beside:
    """Named sets of tensors beside a recording. Without a recording nothing is kept.

    Args:
        root: the recording's directory, or None.
        limit: bytes of all files; the ones longest unused go first.
    """

    def __init__(self, root: Path | None, limit: int = LIMIT) -> None:
        self._root, self._limit = root, limit

    def kept(self, kind: str, *facts: Any) -> Kept:
        """The place of what follows from these facts (JSON), and from nothing else."""
        text = json.dumps([VERSION, kind, *facts], sort_keys=True)
        return Kept(self, f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}")

    def read(self, name: str, shapes: Shapes) -> dict[str, Tensor] | None:
        """The tensors kept under a name; None unless they are all there, whole, and of these dtypes and shapes."""
        if self._root is None:
            return None
        file = f"{FOLDER}/{name}.safetensors"
        numbers = sum(torch.Size(shape).numel() * dtype.itemsize for dtype, shape in shapes.values())
        try:
            path = plain_path(self._root, file)
            size = os.lstat(path).st_size
            if size > numbers + numbers // 1024 + _SPARE:
                return None
            stored = TensorFile(self._root, FileFacts(file, size, None, None))
            found = {key: stored[key] for key in shapes}
            if any(
                (found[key].dtype, found[key].shape) != (dtype, tuple(shape)) for key, (dtype, shape) in shapes.items()
            ):
                return None
            loaded = {key: one.load() for key, one in found.items()}
            os.utime(path)
        except (OSError, RecordingError):
            return None
        return loaded

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a name, whole or not at all; nothing where that is not possible, or not wanted."""
        if self._root is None:
            return
        file, mine = f"{FOLDER}/{name}.safetensors", f"{FOLDER}/w{secrets.token_hex(8)}.safetensors"
        try:
            size = sum(t.nbytes for t in tensors.values())
            if size + _SPARE > self._limit or not self._root.is_dir():
                return
            final = plain_path(self._root, file)
            (self._root / FOLDER).mkdir(exist_ok=True)
            self._make_room(size + _SPARE)
            write_tensors(self._root, mine, dict(tensors))
            os.replace(self._root / mine, final)
        except (OSError, RecordingError):
            return

    def _make_room(self, size: int) -> None:
        """Remove what is longest unused until `size` more bytes fit, and what killed writers left."""
        kept = []
        with os.scandir(self._root / FOLDER) as entries:  # type: ignore[operator]
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if _NAME.fullmatch(entry.name):
                    kept.append((facts.st_mtime, facts.st_size, entry.path))
                elif _LEFT.fullmatch(entry.name) and time.time() - facts.st_mtime > STALE:
                    os.unlink(entry.path)
        held = sum(bytes_ for _, bytes_, _ in kept)
        for _, bytes_, path in sorted(kept):
            if held + size <= self._limit:
                return
            os.unlink(path)
            held -= bytes_


@dataclass(frozen=True)
class Kept:
    """One named set of tensors, see `Beside`."""

    beside: Beside
    name: str

    def read(self, shapes: Shapes) -> dict[str, Tensor] | None:
        return self.beside.read(self.name, shapes)

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        self.beside.write(self.name, tensors)
