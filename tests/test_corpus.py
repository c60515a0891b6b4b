"""Parallel text: what is read, which rules a line may break and how they are named, what is skipped, memory."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import sacrebleu

from foveate.tasks.corpus import Corpus, Pair, read_pairs, reference_streams, references
from foveate.tasks.rows import MAX_BYTES, Malformed

Write = Callable[[str, bytes | str], Path]
GOOD = "Go.\tVa !\nHi.\tSalut !\n"
PAIRS = [Pair("Go.", "Va !"), Pair("Hi.", "Salut !")]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return to


@pytest.mark.parametrize(
    "content",
    [GOOD, GOOD[:-1], GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD.replace("Hi.", "  Hi.\u00a0")],
    ids=["plain", "no newline at the end", "CRLF", "BOM", "white space around"],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_all_ways_to_write_the_same_pairs(write: Write, name: str, content: str) -> None:
    corpus = read_pairs([write(name, content)])
    assert corpus.pairs == PAIRS
    assert (len(corpus), corpus.report()) == (2, "read 2 lines, skipped none")


def test_two_line_aligned_files_are_one_tsv(write: Write) -> None:
    files = [write("a.en", "\ufeffGo.\nHi.\n"), write("a.fr.gz", "\ufeffVa !\nSalut !")]
    assert read_pairs(files).pairs == PAIRS
    assert read_pairs([str(path) for path in files]).pairs == PAIRS


def test_more_columns_are_allowed_if_announced_and_only_two_are_read(write: Write) -> None:
    path = write("a.tsv", GOOD.replace("\n", "\tCC BY\n"))
    assert read_pairs([path], columns=3).pairs == PAIRS


def test_only_a_line_feed_ends_a_line(write: Write) -> None:
    corpus = read_pairs([write("a.tsv", "a\u2028b\x0bc\u0085d\tx\ry\n")])
    assert corpus.pairs == [Pair("a\u2028b\x0bc\u0085d", "x\ry")]


BAD = {
    "one column": (b"alone", r"a\.tsv:3: expected 2 columns separated by a tab; got 1", "not 2 columns"),
    "an empty line": (b"", r"a\.tsv:3: expected 2 columns separated by a tab; got 1", "not 2 columns"),
    "three columns": (b"a\tb\tc", r"a\.tsv:3: expected 2 columns separated by a tab; got 3", "not 2 columns"),
    "bad UTF-8": (b"caf\xe9\tb", r"a\.tsv:3: expected UTF-8 text; byte 4 of the line is 0xE9", "bad UTF-8"),
    "cut UTF-8": (b"a\tcaf\xc3", r"a\.tsv:3: expected UTF-8 text; byte 6 of the line is 0xC3", "bad UTF-8"),
    "no source": (b"\tb", r"a\.tsv:3: the source is empty", "empty side"),
    "blank target": (b"a\t \xc2\xa0", r"a\.tsv:3: the target is empty", "empty side"),
    "many words": (
        b"a\t" + b"w " * 10_000,
        r"a\.tsv:3: the target has 10,000 words; at most 250",
        "more than 250 words",
    ),
    "a long line": (
        b"a\t" + b"w" * MAX_BYTES,
        r"a\.tsv:3: a line may have 1,048,576 bytes; got more",
        "more than 1,048,576 bytes",
    ),
}


@pytest.mark.parametrize(("line", "message", "rule"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_named_or_skipped(write: Write, line: bytes, message: str, rule: str) -> None:
    path = write("a.tsv", GOOD.encode() + line + b"\n" + GOOD.encode())
    with pytest.raises(Malformed, match=message):
        read_pairs([path])
    corpus = read_pairs([path], skip_bad=True)
    assert corpus.pairs == PAIRS * 2
    assert dict(corpus.skipped) == {rule: 1}
    assert corpus.report() == f"skipped 1 of 5 lines: 1 x {rule} (first: a.tsv:3)"


def test_the_side_that_is_bad_names_its_own_file(write: Write) -> None:
    english = write("a.en", "one\ntwo\n")
    with pytest.raises(Malformed, match=r"^a\.fr:2: the target is empty$"):
        read_pairs([english, write("a.fr", "un\n\n")])
    with pytest.raises(Malformed, match=r"^a\.fr:1: expected UTF-8 text; byte 2 "):
        read_pairs([english, write("a.fr", b"u\xff\ndeux\n")])


def test_the_report_counts_per_rule_most_frequent_first(write: Write) -> None:
    lines = ["a\tb"] * 1000
    lines[16], lines[500], lines[999] = "a", "a\t", "\tb"
    corpus = read_pairs([write("train.tsv", "\n".join(lines))], skip_bad=True)
    assert corpus.report() == ("skipped 3 of 1,000 lines: 2 x empty side, 1 x not 2 columns (first: train.tsv:17)")
    assert len(corpus) == 997


def test_limits_are_inclusive(write: Write) -> None:
    words = " ".join(["w"] * 7)
    assert len(read_pairs([write("a.tsv", f"{words}\tb\n")], max_words=7)) == 1
    with pytest.raises(Malformed, match=r"the source has 7 words; at most 6 are allowed"):
        read_pairs([write("a.tsv", f"{words}\tb\n")], max_words=6)
    for end in (b"", b"\n", b"\r\n"):
        assert len(read_pairs([write("b.tsv", b"a\t" + b"w" * (MAX_BYTES - 2) + end)])) == 1
        with pytest.raises(Malformed, match=r"b\.tsv:1: a line may have"):
            read_pairs([write("b.tsv", b"a\t" + b"w" * (MAX_BYTES - 1) + end)])


@pytest.mark.parametrize("skip_bad", [False, True])
def test_files_of_different_lengths_are_never_right(write: Write, skip_bad: bool) -> None:
    long, short = write("a.en", "a\n" * 1005), write("a.fr", "b\n" * 3)
    with pytest.raises(Malformed, match=r"^a\.en and a\.fr: line-aligned files .* got 1,005 and 3$"):
        read_pairs([long, short], skip_bad=skip_bad)
    with pytest.raises(Malformed, match=r"^a\.fr and a\.en: line-aligned files .* got 3 and 1,005$"):
        read_pairs([short, long], skip_bad=skip_bad)


WHOLE = {
    "empty": ("a.tsv", b"", r"^a\.tsv: the file is empty$"),
    "UTF-16": ("a.tsv", GOOD.encode("utf-16"), r"^a\.tsv: expected UTF-8 text; this is UTF-16\. Save it as UTF-8$"),
    "packed": (
        "a.tsv",
        gzip.compress(GOOD.encode(), mtime=0),
        r"^a\.tsv: .* packed by gzip\. Let its name end in \.gz$",
    ),
    "nothing usable": ("a.tsv", b"x\n\ty\n", r"^a\.tsv: no line can be used; skipped 2 of 2 lines: 1 x not 2 col"),
}


@pytest.mark.parametrize(("name", "content", "message"), WHOLE.values(), ids=WHOLE.keys())
def test_a_bad_file_is_an_error_even_when_lines_are_skipped(
    write: Write, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(Malformed, match=message):
        read_pairs([write(name, content)], skip_bad=True)


def test_broken_archives(tmp_path: Path) -> None:
    packed = gzip.compress(("".join(f"{i} {i * i}\t{i}\n" for i in range(5000))).encode())
    path = tmp_path / "a.tsv.gz"
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    for content, message in (
        (packed[: len(packed) // 2], r"^a\.tsv\.gz: the file is cut off in the middle; copy it again$"),
        (bytes(flipped), r"^a\.tsv\.gz: the file is broken, or not packed by gzip \("),
        (GOOD.encode(), r"^a\.tsv\.gz: the file is broken, or not packed by gzip \("),
        (b"", r"^a\.tsv\.gz: the file is empty$"),
    ):
        path.write_bytes(content)
        with pytest.raises(Malformed, match=message):
            read_pairs([path], skip_bad=True)


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"^no\.tsv: there is no file .*no\.tsv$"):
        read_pairs([tmp_path / "no.tsv"])
    with pytest.raises(Malformed, match=r": the file cannot be read: Is a directory$"):
        read_pairs([tmp_path])


def test_wrong_calls(write: Write) -> None:
    path = write("a.tsv", GOOD)
    for paths in ([], [path] * 3):
        with pytest.raises(ValueError, match=rf"one TSV file or two line-aligned files; got {len(paths)} paths"):
            read_pairs(paths)
    with pytest.raises(ValueError, match=r"at least 2 columns; got columns=1"):
        read_pairs([path], columns=1)


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_a_line_of_any_length_takes_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) if name.endswith(".gz") else path.open("wb") as file:
        file.write(b"a\t")
        for _ in range(30):
            file.write(b"w " * (MAX_BYTES // 2))
        file.write(b"\n" + GOOD.encode())
    tracemalloc.start()
    try:
        corpus = read_pairs([path], skip_bad=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert corpus.pairs == PAIRS
    assert corpus.report().endswith("(first: a.tsv:1)" if name == "a.tsv" else "(first: a.tsv.gz:1)")
    assert peak < 6 * MAX_BYTES  # of 30


def test_references_group_the_targets_of_a_source_in_order() -> None:
    pairs = [Pair("b", "x"), Pair("a", "y"), Pair("b", "w"), Pair("b", "x"), Pair("a", "z")]
    assert references(pairs) == (["b", "a"], [["x", "w"], ["y", "z"]])
    assert references([]) == ([], [])


def test_streams_give_sacrebleu_exactly_the_references_that_there_are() -> None:
    of_each = [
        ["le chat est sur le tapis", "un chat est là"],
        ["bonjour à tous mes amis"],
        ["a b c d e", "a b", "a c d"],
    ]
    answers = ["le chat est là sur le tapis", "bonjour tous mes amis", "a b"]
    streams = reference_streams(of_each)
    assert [len(stream) for stream in streams] == [3, 3, 3]
    assert [[s[i] for s in streams if s[i] is not None] for i in range(3)] == of_each
    got = sacrebleu.corpus_bleu(answers, streams)
    alone = [
        sacrebleu.corpus_bleu([answer], [[one] for one in refs]) for answer, refs in zip(answers, of_each, strict=True)
    ]
    for name in ("counts", "totals"):  # BLEU's parts are sums over sentences
        assert getattr(got, name) == [sum(column) for column in zip(*(getattr(a, name) for a in alone), strict=True)]
    assert got.ref_len == sum(one.ref_len for one in alone)
    assert reference_streams([]) == []


def test_tatoebas_test_sentences_have_several_references(data: Path) -> None:
    path = data / "tatoeba-en-fr" / "test.tsv"
    if not path.is_file():
        pytest.skip("needs tatoeba-en-fr")
    corpus: Corpus = read_pairs([path])
    sources, of_each = references(corpus.pairs)
    assert len(set(sources)) == len(sources) < len(corpus)
    assert sum(map(len, of_each)) == len(set(corpus.pairs))
