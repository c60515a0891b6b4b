"""Tagging words: CoNLL-U with its edge cases, and what is learned from neighbours and from endings."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

import foveate as fv
import made_texts
from foveate.tasks.conllu import Tagged, read_conllu
from foveate.tasks.recipe import Run, run
from foveate.tasks.rows import Malformed, Rows
from foveate.tasks.tagging import Shape, Tagging, load
from foveate.tasks.training import Options

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    "width": 32,
    "hidden": 32,
    "heads": 2,
    "inner": 64,
    "layers": 1,
    "dropout": 0.1,
    "buckets": 900,
}
OPTIONS = Options(
    epochs=10, peak=1e-2, warmup=10, patience=0, average=1, precision="float32", save_every=50, log_every=5
)


@pytest.mark.parametrize("arch", ["transformer", "rnn"])
def test_a_miniature_learns_from_neighbours_and_endings(tmp_path: Path, arch: Any) -> None:
    """Every third word is a noun or a verb by its place alone, and every fifth is new in each sentence."""
    files = [made_texts.write_tagged(tmp_path / f"{name}.conllu", count, seed)
             for seed, (name, count) in enumerate((("train", 300), ("valid", 60), ("test", 60)))]  # fmt: skip
    shape = Shape(arch=arch, unknown=0.2, **SMALL)
    run(Run(Tagging, shape, *files, options=OPTIONS, cells=128), tmp_path / "m", quiet=True)
    tagger = load(tmp_path / "m")
    test = tagger.facts["test"]
    assert test["accuracy"] >= 98
    assert test["accuracy of unknown words"] >= 95
    (found,) = tagger.tag(["They book the sillyish book."])
    assert found.words == ("They", "book", "the", "sillyish", "book", ".")
    assert found.tags == ("PRON", "VERB", "DET", "ADJ", "NOUN", "PUNCT")
    if arch == "transformer":
        with fv.watch(tagger.model) as seen:
            tagger.tag(["They can play."])
        assert [seen.info(name).kind for name in seen] == ["encoder"]
        assert seen["encoder.encoder.layers.0.attention"].shape == (1, 2, 4, 4)
    with pytest.raises(ValueError, match="texts must be a list of texts"):
        tagger.tag("one")
    with pytest.raises(ValueError, match="there is no word in this text"):
        tagger.tag([""])


GOOD = """# newdoc id = a
# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
2.1\tyou\tyou\tPRON\t_\t_\t_\t_\t3:nsubj\t_
3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_

# a comment may stand alone

0.1\tIt\tit\tPRON\t_\t_\t_\t_\t_\t_
1\t10 000\t10 000\tNUM\t_\t_\t0\troot\t_\t_
"""
READ = [Tagged(("Do", "n't", "go", "."), ("AUX", "PART", "VERB", "PUNCT")), Tagged(("10 000",), ("NUM",))]


@pytest.mark.parametrize("text", [GOOD, f"{GOOD}\n\n", GOOD.replace("\n", "\r\n"), f"\ufeff{GOOD}"],
                         ids=["no blank line at the end", "blank lines at the end", "CRLF", "BOM"])  # fmt: skip
@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz"])
def test_words_are_read_and_what_is_none_is_left_out(tmp_path: Path, name: str, text: str) -> None:
    raw = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert list(read_conllu(tmp_path / name)) == READ


BAD = {
    "columns": ("2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_", "2\tn't\tPART", 5,
                "expected 10 columns separated by a tab, ID, FORM, .*; got 3"),
    "spaces": ("3\tgo\tgo\tVERB\t_", "3 go go VERB _", 7, "expected 10 columns separated by a tab, .*; got 6"),
    "empty column": ("3\tgo\tgo", "3\t\tgo", 7, "FORM is empty; what is not known is written _"),
    "no tag": ("go\tVERB", "go\t_", 7, "'go' has no UPOS; expected one of ADJ, ADP,"),
    "unknown tag": ("go\tVERB", "go\tVB", 7, "'go' has the UPOS 'VB', which is none; expected one of"),
    "bad ID": ("3\tgo", "3a\tgo", 7, "expected an ID such as 1, 1-2 or 1.1; got '3a'"),
    "word left out": ("3\tgo", "4\tgo", 7, "words are numbered 1, 2, 3 ...; the word has 4 where 3 stands in turn"),
    "node elsewhere": ("2.1\tyou", "3.1\tyou", 6, "the empty node 3.1 has 3 where 2 stands in turn"),
    "range elsewhere": ("1-2\tDon't", "2-3\tDon't", 3, "the multiword token 2-3 has 2 where 1 stands in turn"),
    "range of one": ("1-2\tDon't", "1-1\tDon't", 3, "a multiword token covers several words, none of them twice"),
    "range twice": ("2\tn't\tnot", "2-3\tx\t_\t_\t_\t_\t_\t_\t_\t_\n2\tn't\tnot", 5, "none of them twice; got 2-3"),
    "range too long": ("1-2\tDon't", "1-9\tDon't", 3, "a multiword token ends with word 9; the sentence has 4"),
    "late comment": ("3\tgo", "# so\n3\tgo", 7, "a comment stands before the words of a sentence"),
    "no word": ("1\t10 000\t10 000\tNUM\t_\t_\t0\troot\t_\t_\n", "", 12, "a sentence has from 1 to 2,000 words; got 0"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "message"), BAD.values(), ids=BAD.keys())
def test_a_broken_sentence_is_named_or_skipped(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert GOOD.count(old) == 1
    path = tmp_path / "a.conllu"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(Malformed, match=rf"^a\.conllu:{line}: .*{message}"):
        list(read_conllu(path))
    rows = Rows.of(read_conllu(path, skip_bad=True), "sentences")
    assert rows.items == [READ[0 if "no word" in message or "got 0" in message else 1]]
    assert rows.report().startswith("skipped 1 of 2 sentences: 1 x ")
    assert rows.first == f"a.conllu:{line}"


def test_a_file_without_a_sentence_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text("# nothing\n\n", encoding="utf-8")
    with pytest.raises(Malformed, match=r"a\.conllu: no sentence can be used; read 0 sentences, skipped none"):
        Tagging.read(tmp_path / "a.conllu", None, skip_bad=False)
    (tmp_path / "b.conllu").write_bytes(b"1\tcaf\xe9\n")
    with pytest.raises(Malformed, match=r"b\.conllu:1: expected UTF-8 text; byte 6 of the line is 0xE9"):
        Tagging.read(tmp_path / "b.conllu", None, skip_bad=False)


def test_the_treebank(data: Path) -> None:
    rows = Tagging.read(data / "ud-english-lines" / "test.conllu", None, skip_bad=False)
    assert (len(rows), rows.report()) == (1121, "read 1,121 sentences, skipped none")
