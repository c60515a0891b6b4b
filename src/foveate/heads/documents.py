"""A corpus on disk, read as a stream: one text at a time, never a whole file.

Text files (a text on each line, or each file one), JSON lines and Parquet, the first two also packed by gzip.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..extras import need
from ..lines import Malformed, decoded, explained, lines_in, name_of, opened, report

__all__ = ["Documents"]

MAX_BYTES = 1 << 26  # of a text
JSON_LINES, PARQUET = (".jsonl", ".ndjson"), (".parquet",)


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
        Malformed: while iterating: a text breaks a rule; or a file cannot be read, or is cut off.
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
                if isinstance(found, Malformed):
                    if not self.skip_bad or not found.rule:
                        raise found
                    self.skipped[found.rule] += 1
                    self.first_skipped = self.first_skipped or found.place
                    continue
                self.texts += 1
                yield found
        self._done = len(self.paths)

    def report(self) -> str:
        """One line: which texts were skipped, and why."""
        return report(self.skipped, self.texts + self.skipped.total(), "texts", self.first_skipped)

    def _texts(self, path: str) -> Iterator[Any]:
        ends = [suffix.lower() for suffix in Path(path).suffixes]
        kind = (ends[:-1] if ends[-1:] == [".gz"] else ends)[-1:]
        if kind and kind[0] in PARQUET:
            yield from self._rows(Path(path))
            return
        read = self._json if kind and kind[0] in JSON_LINES else self._text
        whole, name = self.per == "file" and read == self._text, name_of(path)
        pieces = iter([b"".join(self._lines(path))]) if whole else (raw.rstrip(b"\r\n") for raw in self._lines(path))
        for number, raw in enumerate(pieces, 1):
            place, what = (name, "text") if whole else (f"{name}:{number}", "line")
            try:
                text = read(place, decoded(raw, place, number, MAX_BYTES, what))
            except Malformed as error:
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
            raise Malformed(place, message, "no pair of texts")
        return sides[0], sides[1]

    def _json(self, place: str, line: str) -> Any:
        if not line.strip():
            return None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Malformed(place, f"expected a JSON object ({error})", "no JSON") from None
        if not isinstance(row, dict):
            raise Malformed(place, f"expected a JSON object; got {type(row).__name__}", "no JSON object")
        return self._of_fields(place, row)

    def _of_fields(self, place: str, row: dict[str, Any]) -> Any:
        found = []
        for name in (self.field,) if self.target is None else (self.field, self.target):
            if name not in row:
                raise Malformed(place, f"there is no field {name!r}; it has {_listed(row)}", f"no field {name!r}")
            if not isinstance(row[name], str) or not row[name].strip():
                what = "an empty text" if isinstance(row[name], str) else type(row[name]).__name__
                raise Malformed(place, f"{name!r} must be a text; got {what}", f"no text in {name!r}")
            found.append(row[name])
        return found[0] if self.target is None else (found[0], found[1])

    def _rows(self, path: Path) -> Iterator[Any]:
        need("pyarrow", "heads")
        parquet = need("pyarrow.parquet", "heads")
        try:
            with explained(path), path.open("rb") as self._open, parquet.ParquetFile(self._open) as file:
                wanted = [self.field] if self.target is None else [self.field, self.target]
                missing = [name for name in wanted if name not in file.schema_arrow.names]
                if missing:
                    there = _listed(file.schema_arrow.names)
                    raise Malformed(path.name, f"there is no column {missing[0]!r}; it has {there}")
                number = 0
                for batch in file.iter_batches(1024, columns=wanted):
                    for row in batch.to_pylist():
                        number += 1
                        try:
                            yield self._of_fields(f"{path.name}:{number}", row)
                        except Malformed as error:
                            yield error
        except Malformed:
            raise
        except ValueError as error:
            raise Malformed(path.name, f"this is no Parquet file ({error})") from None

    def _lines(self, path: str) -> Iterator[bytes]:
        with opened(path) as (file, plain):
            self._open = plain if path != "-" else None
            for number, line in enumerate(lines_in(file, path, MAX_BYTES), 1):
                if number == 1 and line.startswith(b"PAR1"):
                    raise Malformed(name_of(path), "expected UTF-8 text; this is Parquet. Let its name end in .parquet")
                yield line


def _listed(names: Any) -> str:
    shown = [repr(str(name)[:40]) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "") if shown else "none"
