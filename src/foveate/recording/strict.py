"""JSON that is read as if an enemy wrote it: no duplicate keys, no NaN, no surprises of type or size.

`seal` and `unseal` add a checksum of the content, so that a damaged line is an error and never a number.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from typing import Any

__all__ = ["Record", "RecordingError", "RecordingWarning", "parse", "seal", "unseal"]


class RecordingError(Exception):
    """A recording on disk that breaks a rule of docs/format.md; the text names the file and the rule."""


class RecordingWarning(UserWarning):
    """A recording that can be read, but is not whole."""


def parse(text: bytes | str, where: str) -> Any:
    """Parse JSON strictly.

    Raises:
        RecordingError: not JSON, a duplicate key, NaN or Infinity, nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise RecordingError(f"{where}: the JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise RecordingError(f"{where}: not valid JSON: {_short(error)}") from None


def seal(content: dict[str, Any]) -> str:
    """One line of JSON: the content and the CRC-32 of its canonical form."""
    return json.dumps({"crc32": _checksum(content), "content": content}, ensure_ascii=True, allow_nan=False)


def unseal(text: bytes | str, where: str) -> Record:
    """The content of a sealed line.

    Raises:
        RecordingError: not JSON, or the checksum does not match.
    """
    outer = Record(parse(text, where), where)
    content = outer.take("content", dict)
    if outer.whole("crc32", most=2**32 - 1) != _checksum(content):
        raise RecordingError(f"{where}: the checksum does not match: the file is damaged")
    return Record(content, where)


class Record:
    """A JSON object whose fields are checked as they are read; errors name the file and the field."""

    def __init__(self, content: Any, where: str):
        if not isinstance(content, dict):
            raise RecordingError(f"{where}: must hold a JSON object; got {type(content).__name__}")
        self.content = content
        self.where = where

    def take(self, name: str, *kinds: type, none: bool = False) -> Any:
        """The field `name`, which must be of one of `kinds` (a bool is not an int)."""
        if name not in self.content:
            raise RecordingError(f"{self.where}: the field {name!r} is missing")
        value = self.content[name]
        if (value is None and none) or type(value) in kinds:
            return value
        expected = " or ".join([k.__name__ for k in kinds] + (["null"] if none else []))
        raise RecordingError(f"{self.where}: {name!r} must be {expected}; got {type(value).__name__}")

    def whole(self, name: str, most: int = 2**53) -> int:
        value = self.take(name, int)
        if not 0 <= value <= most:
            raise RecordingError(f"{self.where}: {name!r} must lie between 0 and {most}")
        return value

    def choice(self, name: str, choices: Iterable[str]) -> str:
        value = self.take(name, str)
        known = list(choices)
        if value not in known:
            raise RecordingError(f"{self.where}: {name!r} must be one of {', '.join(known)}; got {value[:40]!r}")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """A list of sizes, at most 16 of them and 2^53 elements in all."""
        sizes = self.numbers(name)
        if len(sizes) > 16 or math.prod(max(size, 1) for size in sizes) > 2**53:
            raise RecordingError(f"{self.where}: {name!r} is larger than any tensor")
        return sizes

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 0."""
        found = self.take(name, list)
        if any(type(number) is not int or number < 0 for number in found):
            raise RecordingError(f"{self.where}: {name!r} must hold whole numbers")
        return tuple(found)

    def nested(self, name: str, kind: type, depth: int) -> Any:
        """Lists of lists (`depth` of them) of `kind`, or null."""
        value = self.take(name, list, none=True)
        level = [value] if value is not None else []
        for d in range(depth):
            level = [item for part in level for item in part]
            expected = list if d + 1 < depth else kind
            if any(type(item) is not expected for item in level):
                raise RecordingError(f"{self.where}: {name!r} must hold {expected.__name__}s at depth {d + 1}")
        return value


def _checksum(content: dict[str, Any]) -> int:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return zlib.crc32(text.encode())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    return str(error)[:120]
