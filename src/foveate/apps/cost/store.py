"""The file of measurements, JSON lines: a first line that says how and where, then one line for each measurement.

A line is written by one call and is whole once it ends with a newline. A process that was killed leaves at most one
line without it, which the next run drops.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from foveate.apps.errors import UserError

__all__ = ["NAME", "Store"]

NAME = "measurements.jsonl"
VERSION = 1


class Store:
    """The measurements of one folder, all made with the same settings on the same machine."""

    def __init__(self, folder: Path, settings: dict[str, Any], machine: dict[str, Any], *, fresh: bool = False) -> None:
        """Open the folder's file, or begin it.

        Raises:
            UserError: it holds measurements of other settings or another machine, or is not such a file.
        """
        self.path = folder / NAME
        self.machine = machine
        self.rows: list[dict[str, Any]] = []
        head = {"foveate_cost": VERSION, "settings": settings, "machine": machine}
        folder.mkdir(parents=True, exist_ok=True)
        if fresh or not self.path.exists() or not self._read(head):
            self._begin(head)

    def append(self, row: dict[str, Any]) -> None:
        """Keep one measurement; it is on disk when this returns."""
        line = json.dumps(row).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
        self.rows.append(row)

    def _begin(self, head: dict[str, Any]) -> None:
        draft = self.path.with_name(f".{NAME}.{os.getpid()}")
        draft.write_bytes(json.dumps(head).encode() + b"\n")
        os.replace(draft, self.path)
        self.rows = []

    def _read(self, head: dict[str, Any]) -> bool:
        """Take up what is there; False if there is nothing whole."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        if not lines:
            return False
        found = [self._parse(number, line) for number, line in enumerate(lines, 1)]
        self._check(found[0], head)
        for number, row in enumerate(found[1:], 2):
            if not (isinstance(row.get("form"), str) and isinstance(row.get("n"), int)):
                raise self._strange(number)
        self.rows = found[1:]
        if whole < len(data):
            os.truncate(self.path, whole)
        return True

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise self._strange(number)
        return row

    def _check(self, found: dict[str, Any], head: dict[str, Any]) -> None:
        if found.get("foveate_cost") != VERSION:
            raise self._strange(1)
        for part in ("settings", "machine"):
            old, new = found.get(part) or {}, head[part]
            for name in new:
                if old.get(name) != new[name]:
                    raise UserError(
                        f"{self.path} was measured with {name} {old.get(name)}, now it is {new[name]}; "
                        "choose another folder with -o, or start over with --fresh"
                    )

    def _strange(self, number: int) -> UserError:
        return UserError(
            f"line {number} of {self.path} is no measurement; choose another folder, or --fresh starts over"
        )
