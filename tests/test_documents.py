"""Corpora of every kind, and what is said of those that break a rule."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from foveate.heads.documents import Documents
from foveate.lines import Malformed


def texts(path: Path, **options: Any) -> list[Any]:
    return list(Documents([str(path)], **options))


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def parquet(path: Path, **columns: list[Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def test_a_text_on_each_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\ufeffone cat\n\n  a dog \r\nthe end")
    assert texts(path) == ["one cat", "a dog", "the end"]
    packed = written(tmp_path / "a.txt.gz", gzip.compress(path.read_bytes()))
    assert texts(packed) == ["one cat", "a dog", "the end"]
    assert texts(path, per="file") == ["one cat\n\n  a dog \r\nthe end"]
    assert list(Documents([str(path), str(packed)])) == ["one cat", "a dog", "the end"] * 2


def test_pairs_stand_on_both_sides_of_a_tab(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv", "one\tun\n\ntwo\tdeux\n")
    assert texts(path, target="second") == [("one", "un"), ("two", "deux")]
    written(path, "one\tun\ntwo\n")
    with pytest.raises(Malformed, match=r"^a.tsv:2: expected a text, a tab, and its target; got 1 columns"):
        texts(path, target="second")


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"text": "one", "fr": "un"}, {"text": "two\nlines", "fr": "deux"}]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert texts(path) == ["one", "two\nlines"]
    assert texts(path, field="fr", target="text") == [("un", "one"), ("deux", "two\nlines")]
    packed = written(tmp_path / "a.jsonl.gz", gzip.compress(path.read_bytes()))
    assert texts(packed, field="fr") == ["un", "deux"]


def test_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=["one", "two", "three"], fr=["un", "deux", "trois"])
    assert texts(path) == ["one", "two", "three"]
    assert texts(path, target="fr")[2] == ("three", "trois")
    with pytest.raises(Malformed, match=r"^a.parquet: there is no column 'body'; it has 'text', 'fr'"):
        texts(path, field="body")
    path = parquet(tmp_path / "b.parquet", text=["one", None, "", "two"])
    with pytest.raises(Malformed, match=r"^b.parquet:2: 'text' must be a text; got NoneType"):
        texts(path)
    some = Documents([str(path)], skip_bad=True)
    assert list(some) == ["one", "two"]
    assert some.report() == "skipped 2 of 4 texts: 2 x no text in 'text' (first: b.parquet:2)"


@pytest.mark.parametrize(
    ("line", "message", "rule"),
    [
        ("{", r"expected a JSON object \(", "no JSON"),
        ("[" * 100_000, r"expected a JSON object \(", "no JSON"),
        ("[1]", "expected a JSON object; got list", "no JSON object"),
        ('{"body": "x"}', "there is no field 'text'; it has 'body'", "no field 'text'"),
        ('{"text": 3}', "'text' must be a text; got int", "no text in 'text'"),
        ('{"text": " "}', "'text' must be a text; got an empty text", "no text in 'text'"),
        (b'{"text": "\xff"}', "expected UTF-8 text; byte 11 of the line is 0xFF", "bad UTF-8"),
    ],
)
def test_rows_that_break_a_rule(line: str | bytes, message: str, rule: str, tmp_path: Path) -> None:
    bad = line.encode() if isinstance(line, str) else line
    path = written(tmp_path / "a.jsonl", b'{"text": "one"}\n' + bad + b'\n{"text": "two"}\n')
    with pytest.raises(Malformed, match=r"^a.jsonl:2: " + message):
        texts(path)
    some = Documents([str(path)], skip_bad=True)
    assert list(some) == ["one", "two"]
    assert dict(some.skipped) == {rule: 1}
    assert some.first_skipped == "a.jsonl:2"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.txt", "text".encode("utf-16"), "this is UTF-16. Save it as UTF-8"),
        ("a.txt", gzip.compress(b"text", mtime=0), "packed by gzip. Let its name end in .gz"),
        ("a.txt", b"PAR1....", "this is Parquet. Let its name end in .parquet"),
        ("a.txt.gz", b"text", "not packed by gzip"),
        ("a.txt.gz", gzip.compress(b"text" * 1000, mtime=0)[:-9], "the file is cut off in the middle"),
        ("a.parquet", b"text", "this is no Parquet file"),
    ],
)
def test_files_that_are_something_else(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    """Whatever --skip-bad says."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(Malformed, match=rf"^{name}: .*{message}"):
        texts(written(tmp_path / name, data), skip_bad=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"^a.txt: there is no file .*a.txt"):
        texts(tmp_path / "a.txt")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert list(Documents(["-"])) == ["one", "two"]


def test_a_corpus_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    """Neither all lines at once, nor a line without an end."""
    path = written(tmp_path / "a.txt", "word " * 20 + "\n" + "word\n" * 500_000)
    some = Documents([str(path)])
    found = iter(some)
    assert next(found) == ("word " * 20).strip()
    assert some.fraction is not None
    assert some.fraction < 0.1
    assert sum(1 for _ in found) == 500_000
    assert some.fraction == 1
