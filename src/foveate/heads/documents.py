"""A corpus on disk, read as a stream: one text at a time, never a whole file.

Text files (a text on each line, or each file one), JSON lines and Parquet, the first two also packed by gzip.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import UserError
from ..extras import need

__all__ = ["BadTextError", "Documents"]

MAX_BYTES = 1 << 26  # of a text
JSON_LINES, PARQUET = (".jsonl", ".ndjson"), (".parquet",)


class BadTextError(UserError):
    """A text, or a whole file, breaks a rule; the message says which one and where."""

    def __init__(self, place: str, message: str, rule: str = "") -> None:
        super().__init__(f"{place}: {message}")
        self.place, self.rule = place, rule  # no rule: of a whole file, which cannot be skipped


class Documents:
    """The texts of some files, in order; iterate over them once. Blank lines of text files are no texts.

    Args:
        paths: files; "-" is standard input, a text on each line. What a file holds, its name says: .jsonl, .ndjson,
            .parquet, anything else is text. Before .gz, too.
        field: of JSON lines and Parquet, where the text stands.
        target: the field of what a decoder of its own reads; of text files (any name), what comes after a tab.
        per: "line", or "file": each text file is one text.
        skip_bad: leave out texts that break a rule, and count them in `skipped`, instead of raising.

    Raises:
        BadTextError: while iterating: a text breaks a rule; or a file cannot be read, or is cut off.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        field: str = "text",
        target: str | None = None,
        per: str = "line",
        skip_bad: bool = False,
    ) -> None:
        if per not in ("line", "file"):
            raise ValueError(f"a text is a line or a file; got per={per!r}")
        self.paths, self.field, self.target, self.per, self.skip_bad = list(paths), field, target, per, skip_bad
        self.skipped: Counter[str] = Counter()
        self.first_skipped = ""
        self.texts = 0
        self._sizes = [Path(path).stat().st_size if path != "-" and Path(path).is_file() else 0 for path in paths]
        self._done = 0
        self._open: BinaryIO | None = None

    @property
    def names(self) -> list[str]:
        return [Path(path).name for path in self.paths]

    @property
    def fraction(self) -> float | None:
        """How much has been read, by bytes; None where nobody knows how much there is."""
        if not all(self._sizes):
            return None
        here = 0 if self._open is None or self._open.closed else self._open.tell()
        return min(1.0, (sum(self._sizes[: self._done]) + here) / sum(self._sizes))

    def __iter__(self) -> Iterator[Any]:
        for at, path in enumerate(self.paths):
            self._done = at
            for found in self._texts(path):
                if isinstance(found, BadTextError):
                    if not self.skip_bad or not found.rule:
                        raise found
                    self.skipped[found.rule] += 1
                    self.first_skipped = self.first_skipped or found.place
                    continue
                self.texts += 1
                yield found
        self._done = len(self.paths)

    def report(self) -> str:
        """One line, such as `skipped 3 of 1,000 texts: 2 x no field 'text', 1 x not UTF-8 (first: a.jsonl:17)`."""
        rules = ", ".join(f"{count:,} x {rule}" for rule, count in self.skipped.most_common())
        total = self.texts + self.skipped.total()
        return f"skipped {self.skipped.total():,} of {total:,} texts: {rules} (first: {self.first_skipped})"

    def _texts(self, path: str) -> Iterator[Any]:
        ends = [suffix.lower() for suffix in Path(path).suffixes]
        kind = (ends[:-1] if ends[-1:] == [".gz"] else ends)[-1:]
        if kind and kind[0] in PARQUET:
            yield from self._rows(Path(path))
            return
        read = self._json if kind and kind[0] in JSON_LINES else self._text
        name = "standard input" if path == "-" else Path(path).name
        pieces = self._whole(path) if self.per == "file" and read == self._text else self._lines(path)
        for number, raw in pieces:
            place = f"{name}:{number}" if self.per == "line" or read == self._json else name
            try:
                text = read(place, _decoded(place, raw, number))
            except BadTextError as error:
                yield error
                continue
            if text is not None:
                yield text

    def _text(self, place: str, line: str) -> Any:
        if self.target is None:
            return line.strip() or None
        if not line.strip():
            return None
        sides = [side.strip() for side in line.split("\t")]
        if len(sides) != 2 or not all(sides):
            message = f"expected a text, a tab, and its target; got {len(sides)} columns"
            raise BadTextError(place, message, "no pair of texts")
        return sides[0], sides[1]

    def _json(self, place: str, line: str) -> Any:
        if not line.strip():
            return None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadTextError(place, f"expected a JSON object ({error})", "no JSON") from None
        if not isinstance(row, dict):
            raise BadTextError(place, f"expected a JSON object; got {type(row).__name__}", "no JSON object")
        return self._of_fields(place, row)

    def _of_fields(self, place: str, row: dict[str, Any]) -> Any:
        found = []
        for name in (self.field,) if self.target is None else (self.field, self.target):
            if name not in row:
                raise BadTextError(place, f"there is no field {name!r}; it has {_listed(row)}", f"no field {name!r}")
            if not isinstance(row[name], str) or not row[name].strip():
                what = "an empty text" if isinstance(row[name], str) else type(row[name]).__name__
                raise BadTextError(place, f"{name!r} must be a text; got {what}", f"no text in {name!r}")
            found.append(row[name])
        return found[0] if self.target is None else (found[0], found[1])

    def _rows(self, path: Path) -> Iterator[Any]:
        need("pyarrow", "heads")
        parquet = need("pyarrow.parquet", "heads")
        try:
            with path.open("rb") as self._open, parquet.ParquetFile(self._open) as file:
                wanted = [self.field] if self.target is None else [self.field, self.target]
                missing = [name for name in wanted if name not in file.schema_arrow.names]
                if missing:
                    there = _listed(file.schema_arrow.names)
                    raise BadTextError(path.name, f"there is no column {missing[0]!r}; it has {there}")
                number = 0
                for batch in file.iter_batches(1024, columns=wanted):
                    for row in batch.to_pylist():
                        number += 1
                        try:
                            yield self._of_fields(f"{path.name}:{number}", row)
                        except BadTextError as error:
                            yield error
        except BadTextError:
            raise
        except OSError as error:
            raise BadTextError(path.name, f"the file cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise BadTextError(path.name, f"this is no Parquet file ({error})") from None

    def _whole(self, path: str) -> Iterator[tuple[int, bytes]]:
        yield 1, b"".join(raw for _, raw in self._lines(path, keep_ends=True))

    def _lines(self, path: str, keep_ends: bool = False) -> Iterator[tuple[int, bytes]]:
        """Lines with their numbers; of one that is longer than `MAX_BYTES` only one byte more than that."""
        name, most = Path(path).name, MAX_BYTES + 1
        try:
            with _opened(path) as plain:
                self._open = plain if path != "-" else None
                packed = path.endswith(".gz")
                file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain
                number = 0
                while line := file.readline(most):
                    number += 1
                    if number == 1:
                        _check_beginning(name, line)
                    yield number, line if keep_ends else line.rstrip(b"\r\n")
                    while len(line) == most and not line.endswith(b"\n"):
                        line = file.readline(most)
                if not number:
                    raise BadTextError(name, "the file is empty")
        except FileNotFoundError:
            raise BadTextError(name, f"there is no file {path}") from None
        except EOFError:
            raise BadTextError(name, "the file is cut off in the middle; copy it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise BadTextError(name, f"the file is broken, or not packed by gzip ({error})") from None
        except OSError as error:
            raise BadTextError(name, f"the file cannot be read: {error.strerror or error}") from None


def _opened(path: str) -> BinaryIO:
    return sys.stdin.buffer if path == "-" else Path(path).open("rb")


def _check_beginning(name: str, line: bytes) -> None:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadTextError(name, "expected UTF-8 text; this is UTF-16. Save it as UTF-8")
    if line.startswith(b"\x1f\x8b"):
        raise BadTextError(name, "expected UTF-8 text; this is packed by gzip. Let its name end in .gz")
    if line.startswith(b"PAR1"):
        raise BadTextError(name, "expected UTF-8 text; this is Parquet. Let its name end in .parquet")


def _decoded(place: str, raw: bytes, number: int) -> str:
    if len(raw) > MAX_BYTES:
        raise BadTextError(place, f"a text may have {MAX_BYTES:,} bytes; got more", f"more than {MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text; byte {error.start + 1} of the line is 0x{raw[error.start]:02X}"
        raise BadTextError(place, message, "not UTF-8") from None
    return text.removeprefix("\ufeff") if number == 1 else text


def _listed(names: Any) -> str:
    shown = [repr(str(name)[:40]) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "") if shown else "none"
