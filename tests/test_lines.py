"""Lines of text files: one set of rules, whoever reads them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foveate.apps.lines import Unreadable, groups
from foveate.heads.documents import Documents
from foveate.lines import MAX_BYTES, Malformed, opened
from foveate.tasks.corpus import read_lines

Reader = Callable[[Path], list[str]]


def as_documents(path: Path) -> list[str]:
    return list(Documents([str(path)]))


def as_pairs(path: Path) -> list[str]:
    pairs: Iterator[Any] = read_lines([path, path], max_words=MAX_BYTES)
    return [pair.source for pair in pairs]


def as_groups(path: Path) -> list[str]:
    with opened(path) as (stream, _):
        found = [line for group in groups(stream, 3, path=str(path)) for line in group]
    for number, line in enumerate(found, 1):
        if isinstance(line, Unreadable):
            raise Malformed(f"{path.name}:{number}", line.why)
    return found


READERS: list[Reader] = [as_documents, as_pairs, as_groups]
GOOD = "\ufeffun café \r\ndeux\ntrois".encode()


@pytest.mark.parametrize("read", READERS)
def test_what_is_read(read: Reader, tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_bytes(GOOD)
    packed.write_bytes(gzip.compress(GOOD))
    assert read(plain) == read(packed) == ["un café", "deux", "trois"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"one\ncaf\xe9\n", r"^a\.txt:2: expected UTF-8 text; byte 4 of the line is 0xE9$"),
        ("a.txt", b"one\ntwo\nnul\0\n", r"^a\.txt:3: expected text; byte 4 of the line is 0x00$"),
        ("a.txt", "one\n".encode("utf-16"), r"^a\.txt: expected UTF-8 text; this is UTF-16\. Save it as UTF-8$"),
        ("a.txt", gzip.compress(b"one\n", mtime=0), r"^a\.txt: expected .* packed by gzip\. Let its name end in \.gz$"),
        ("a.txt.gz", b"one\n", r"^a\.txt\.gz: the file is broken, or not packed by gzip \("),
        (
            "a.txt.gz",
            gzip.compress(GOOD * 99, mtime=0)[:-9],
            r"^a\.txt\.gz: the file is cut off in the middle; copy it again$",
        ),
        (".", b"", r"^\.?[\w-]*: the file cannot be read: Is a directory$"),
        ("none.txt", None, r"^none\.txt: there is no file .*none\.txt$"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_what_breaks_a_rule(read: Reader, name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    if data:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Malformed, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("read", READERS[1:])
def test_a_line_may_be_so_long(read: Reader, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * MAX_BYTES + b"\ny")
    assert [len(line) for line in read(path)] == [MAX_BYTES, 1]
    path.write_bytes(b"y\n" + b"x" * (MAX_BYTES + 1))
    with pytest.raises(Malformed, match=r"^a\.txt:2: a line may have 1,048,576 bytes; got more$"):
        read(path)


def test_standard_input_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo"))
    assert list(Documents(["-"])) == ["one", "two"]
