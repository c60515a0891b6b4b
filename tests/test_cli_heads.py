"""`foveate heads`: from a folder with a model and a file with texts to a table."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("pyarrow")

import torch
import transformers

import tiny
from foveate.apps import surveying
from foveate.apps.cli import main
from foveate.heads import table

WORDS = tiny.TEXT.split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(" ".join(WORDS[n % 7 : n % 7 + 2 + n % 5]) for n in range(30)), encoding="utf-8")
    return path


def run(*words: object) -> int:
    return main(["heads", *map(str, words)])


def test_a_table_with_a_row_for_each_head(model: Path, corpus: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "heads.parquet"
    assert run(model, corpus, "-o", out, "--processes", 1) == 0
    assert "6 heads, 30 texts" in capsys.readouterr().out
    assert not out.with_name("heads.parquet.parts").exists()
    columns, facts = table.read_table(out)
    assert columns["head"] == [0, 1, 2, 0, 1, 2]
    assert columns["layer"] == [0, 0, 0, 1, 1, 1]
    assert set(columns["kind"]) == {"encoder"}
    assert facts["corpus"] == ["texts.txt"]
    assert facts["texts"] == 30
    assert facts["measures"]["separator"] == "share of special tokens but the first"
    example = columns["examples"][0][0]
    assert example["query_token"] in WORDS
    assert example["around_query"][example["at_query"]] == example["query_token"]
    assert all(0 < x < 1 for x in columns["separator"])
    again = tmp_path / "again.parquet"
    assert run(model, corpus, "-o", again, "--processes", 1) == 0
    assert again.read_bytes() == out.read_bytes()


def test_fields_of_json_lines_and_what_is_skipped(model: Path, tmp_path: Path, capsys: Any) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "h.parquet"
    path.write_text('{"body": "the cat"}\n{"text": "x"}\n{"body": "a dog sat on the mat"}\n', encoding="utf-8")
    assert run(model, path, "--field", "body", "-o", out, "--processes", 1) == 1
    assert "a.jsonl:2: there is no field 'body'; it has 'text'" in capsys.readouterr().err
    assert not out.with_name("h.parquet.parts").exists()
    assert run(model, path, "--field", "body", "-o", out, "--skip-bad", "--measures", "first", "--processes", 1) == 0
    assert "skipped 1 of 3 texts" in capsys.readouterr().err
    columns, facts = table.read_table(out)
    assert (facts["texts"], facts["skipped"]) == (2, {"no field 'body'": 1})
    assert "entropy" not in columns


def test_it_goes_on_after_it_was_stopped(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("foveate.heads.engine.jobs_of.__defaults__", (8,))
    whole, out = tmp_path / "whole.parquet", tmp_path / "heads.parquet"
    assert run(model, corpus, "-o", whole, "--processes", 1) == 0
    load, made = surveying.load, []

    def stopped(*given: Any) -> Any:
        subject = load(*given)
        plain, encode = subject.encode, made.append

        def counted(texts: Any) -> Any:
            encode(texts)
            if len(made) == 3:
                raise KeyboardInterrupt
            return plain(texts)

        subject.encode = counted
        return subject

    monkeypatch.setattr(surveying, "load", stopped)
    assert run(model, corpus, "-o", out, "--processes", 1) == 130
    said = capsys.readouterr().err
    assert "To go on:\n  foveate heads " in said
    assert said.rstrip().endswith("--resume")
    assert len(list((tmp_path / "heads.parquet.parts").glob("shard-*"))) == 2
    assert run(model, corpus, "-o", out, "--processes", 1) == 1
    assert "an unfinished survey is in" in capsys.readouterr().err
    assert run(model, corpus, "-o", out, "--processes", 1, "--rows", 3, "--resume") == 1
    assert "is of another survey: its rows is 256" in capsys.readouterr().err
    assert run(model, corpus, "-o", out, "--processes", 1, "--resume") == 0
    assert out.read_bytes() == whole.read_bytes()


def test_mistakes_are_one_sentence(model: Path, corpus: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "heads.parquet"
    for words, message in (
        ((model, tmp_path / "no.txt", "-o", out), "there is no file"),
        ((tmp_path / "none", corpus, "-o", out), "There is no folder"),
        ((model, corpus, "-o", tmp_path / "x" / "y.parquet"), "there is no folder"),
        ((model, corpus, "-o", out, "--measures", "entropie"), "measures are entropy,"),
        ((model, corpus, "-", "-o", out), "standard input (-) is a corpus of its own"),
        ((model, corpus, "-o", corpus), "exists already"),
    ):
        assert run(*words, "--processes", 1) == 1
        assert message in capsys.readouterr().err
        assert not out.with_name("heads.parquet.parts").exists()


def test_a_language_model_has_copying_scores(tmp_path: Path, corpus: Path) -> None:
    folder, out = tiny.save_gpt2(tmp_path / "gpt2"), tmp_path / "h.parquet"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert run(folder, corpus, "-o", out, "--processes", 1) == 0
    columns, _ = table.read_table(out)
    predicts = config["architectures"][0].endswith("LMHeadModel")
    assert [x is not None for x in columns["copy"]] == [predicts] * len(columns["copy"])
    assert not columns["module"][0].startswith("transformer.")  # as foveate record names it


def test_heads_that_are_nan_are_said_and_agree_with_none(corpus: Path, tmp_path: Path, capsys: Any) -> None:
    folder, out = tiny.save_bert(tmp_path / "nan"), tmp_path / "heads.parquet"
    _change(folder, lambda model: model.encoder.layer[0].attention.self.query.bias[:8].fill_(torch.nan))
    assert run(folder, corpus, "-o", out, "--processes", 1, "--layers", 0) == 0
    assert "nothing is known of 1 of 3 heads: their weights are NaN" in capsys.readouterr().err
    columns, _ = table.read_table(out)
    assert columns["redundancy"][0] is None
    assert columns["agreement"][0] == [None] * 3
    assert columns["nearest"] == [None, 2, 1]


def _change(folder: Path, change: Any) -> None:
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"model.json": "{}"}, "is a model of foveate train; this command takes a Hugging Face model"),
        ({"config.json": '{"model_type": "vit"}'}, "has no tokenizer: only a model that reads text can be used here"),
    ],
)
def test_folders_of_another_kind(files: dict[str, str], told: str, corpus: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert run(folder, corpus, "-o", tmp_path / "h.parquet", "--processes", 1) == 1
    assert told in capsys.readouterr().err


def test_rules_are_told_without_the_names_of_errors(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "h.parquet"
    assert run(model, corpus, "-o", out, "--processes", 1, "--layers", 9) == 1
    assert capsys.readouterr().err.startswith("foveate: layers=[9] matches no module of BertModel")
    assert run(model, corpus, "-o", out, "--processes", 1, "--max-tokens", 2) == 0
    assert "longer than --max-tokens 2, and cut off: 30 of 30 texts" in capsys.readouterr().err
    out.unlink()

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    monkeypatch.setattr("foveate.heads.table.write_parquet", full)
    assert run(model, corpus, "-o", out, "--processes", 1) == 1
    told = capsys.readouterr().err
    assert f"What is done is in {out}.parts: go on with --resume" in told
    assert f"foveate: No space left on device: {out}" in told
    assert run(model, corpus, "-o", out, "--processes", 1, "--resume", "--rows", 3) == 1
    assert "its rows is 256, and now it is 3" in capsys.readouterr().err
