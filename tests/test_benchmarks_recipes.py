"""The benchmark of tagging on made texts: models trained by the command, and looked up the second time."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import made_texts
from foveate.tasks.reports import Report

FOLDER = Path(__file__).parent.parent / "benchmarks"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("FOVEATE_DATA", str(tmp_path))
    (tmp_path / "ud-english-lines").mkdir()
    for seed, name in enumerate(("train", "dev", "test")):
        made_texts.write_tagged(tmp_path / "ud-english-lines" / f"{name}.conllu", 60, seed)
    return tmp_path


def test_tagging_beside_a_bilstm_and_the_most_frequent_tag(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag = importlib.import_module("tag")
    once = ["-o", f"{place}/runs", "--epochs", "1", "--threads", "1"]
    assert tag.main(once) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("=")]
    assert [line.split(" | ")[3].split(":")[0] for line in lines] == ["BiLSTM", "most frequent tag", "BiLSTM"]
    assert lines[0].split(" | ")[2] == "goal >= 92"
    before = (place / "runs" / "BiLSTM" / "model.json").stat().st_mtime_ns
    assert tag.main(once) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("=")] == lines
    assert (place / "runs" / "BiLSTM" / "model.json").stat().st_mtime_ns == before


def test_the_most_frequent_tag_of_a_word_and_of_all_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    tag = importlib.import_module("tag")
    learned = [[("can", "VERB"), ("can", "VERB"), ("can", "NOUN"), ("a", "DET"), ("b", "NOUN"), ("c", "NOUN")]]
    tried = [[("can", "VERB"), ("can", "NOUN"), ("new", "NOUN"), ("a", "DET")]]
    for name, sentences in (("train", learned), ("test", tried)):
        (tmp_path / name).write_text(made_texts.conllu(sentences), encoding="utf-8")
    assert tag.most_frequent(tmp_path / "train", tmp_path / "test") == 75


def test_headlines_beside_the_first_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summarise = importlib.import_module("summarise")
    assert (
        summarise.main(
            ["-o", f"{place}/runs", "--reports", "60", "--headlines", "5", "--epochs", "1", "--threads", "1"]
        )
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("=")]
    assert [line.split(" | ")[0] for line in lines[:3]] == [f"= ROUGE-{n}, held-out names" for n in "12L"]
    assert [line.split(" | ")[2] for line in lines[:3]] == ["goal >= 90", "goal >= 85", "goal >= 90"]
    assert all(line.split(" | ")[3].startswith("first 8 words: ") for line in lines if "word for word" not in line)
    assert len(lines) == 10


def test_which_unheard_of_words_were_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    summarise = importlib.import_module("summarise")
    given = [Report("", "Kane beat Orm 3-1", ""), Report("", "Lun is mayor", "")]
    assert summarise.copied(["Kan beat orm", "Lun Lun"], given, {"beat", "is", "mayor", "3", "1"}) == 100 * 2 / 3
