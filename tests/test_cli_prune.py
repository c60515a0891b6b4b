"""`foveate prune`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
import transformers

import tiny
from foveate.apps.cli import main
from foveate.tasks.translation import load, save
from miniatures import PAIRS
from translators import translator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models of each kind, and texts for them."""
    here = tmp_path_factory.mktemp("models")
    found = tiny.save_all(here)
    made = translator(arch="transformer")
    facts = {"parameters": 1, "settings": {"tokens": 300, "half": False}}
    save(here / "translator", made.model, made.subwords, made.shape, facts)
    other = translator(arch="rnn")
    save(here / "rnn", other.model, other.subwords, other.shape, facts)
    (here / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS[:24]))
    texts = [" ".join(tiny.WORDS[i : i + 5]) for i in range(len(tiny.WORDS) - 5)]
    (here / "texts.txt").write_text("\n".join(texts) + "\n\n")
    (here / "target.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairwise(texts)))
    more = {name: here / name for name in ("translator", "rnn", "pairs.tsv", "texts.txt", "target.tsv")}
    return {**found, **more}


def run(*words: object) -> int:
    return main(["prune", *map(str, words)])


def test_a_translator_is_pruned_and_restored(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, back = tmp_path / "small", tmp_path / "back"
    assert run(folders["translator"], "--keep", 0.5, "--data", folders["pairs.tsv"], "-o", small) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["before", "after"]
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:6]}
    assert rows["heads"] == ["12", "6", "x", "0.50"]
    assert rows["BLEU"]
    assert rows["ms"][:5] == ["for", "some", "of", "the", "data"]
    assert "heads that are left, by their first numbers:" in out
    assert f"foveate translate --model {small}" in out
    assert "1 of 6: without head" in err
    assert sum(layer.attention.heads for layer in load(small).model.encoder.layers) <= 4
    assert json.loads((small / "pruning.json").read_text())["plan"]["keep"] == 0.5
    assert run("--restore", small, "-o", back) == 0
    assert (back / "model.safetensors").read_bytes() == (folders["translator"] / "model.safetensors").read_bytes()
    assert main(["translate", "--model", str(small), "--no-alignment", "how are you ?"]) == 0


@pytest.mark.parametrize(
    ("schedule", "more"), [("iterative", ["--rounds", 2, "--rank", "gradient"]), ("gates", ["--rank", "leave-one-out"])]
)
def test_schedules_that_train(schedule: str, more: list[Any], folders: dict[str, Path], tmp_path: Path) -> None:
    texts = ["--data", folders["pairs.tsv"], "--train", folders["pairs.tsv"]]
    given = ["--keep", 0.5, *texts, "--schedule", schedule, *more, "--epochs", 1, "--warmup", 1, "-o", tmp_path]
    assert run(folders["translator"], *given) == 0
    assert json.loads((tmp_path / "pruning.json").read_text())["after"]["heads"] == 6
    assert run(folders["translator"], *given, "--resume") == 0  # it is done, and says so again


@pytest.mark.parametrize(("name", "texts"), [("bert", "texts.txt"), ("gpt2", "texts.txt"), ("t5", "target.tsv")])
def test_models_of_transformers(
    name: str, texts: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, back, page = tmp_path / "small", tmp_path / "back", tmp_path / "page.html"
    data = folders[texts]
    assert run(folders[name], "--keep", 0.5, "--data", data, "--train", data, "--epochs", 1, "-o", small) == 0
    out = capsys.readouterr().out
    assert ("agreement" if name == "bert" else "perplexity") in out
    assert f"foveate view --model {small}" in out
    text = " ".join(data.read_text().split()[:4])
    assert main(["view", "--model", str(small), "--text", text, "--export", str(page)]) == 0
    assert page.stat().st_size > 1000
    assert run("--restore", small, "-o", back) == 0
    assert {p.name for p in back.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    less = tmp_path / "less"
    assert run(folders[name], "--remove", _first(name), "-o", less) == 0
    assert run("--restore", less, "-o", tmp_path / "whole") == 0
    first = (folders[name] / "model.safetensors").read_bytes()
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(("name", "bad"), [("bert", b"one\n\xff\ntwo\n"), ("translator", b"a\tb\n\xff\tb\n")])
def test_lines_that_break_a_rule(
    name: str, bad: bytes, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bad.txt"
    data.write_bytes(bad)
    given = [folders[name], "--keep", 0.99, "--data", data, "-o", tmp_path / "x"]
    assert run(*given) == 1
    assert "bad.txt:2: expected UTF-8 text; byte 1 of the line is 0xFF" in capsys.readouterr().err
    assert run(*given, "--skip-bad") == 1  # all heads are to stay
    assert "1 x bad UTF-8 (first: bad.txt:2)" in capsys.readouterr().err


def _first(name: str) -> str:
    return {"bert": "0:0,1", "gpt2": "1:1", "t5": "encoder.block.0.layer.0.SelfAttention:0,1"}[name]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--keep", "0.5", "--data", "pairs.tsv"], "name the model to prune"),
        (["translator", "--keep", "0.5"], "--keep chooses heads by what the model loses without them: give --data"),
        (
            ["translator", "--keep", "0.5", "--data", "pairs.tsv", "--schedule", "gates"],
            "trains the model: give --train",
        ),
        (
            ["translator", "--keep", "0.5", "--data", "pairs.tsv", "--epochs", "2"],
            "--epochs is of training: give --train",
        ),
        (["translator", "--keep", "0.99", "--data", "pairs.tsv"], "12 are there, and none would go"),
        (
            ["translator", "--remove", "7:0"],
            "layer 7 fits none of the attention modules that can be pruned: encoder.layers.0",
        ),
        (["translator", "--remove", "0:0"], "layer 0 fits several attention modules, encoder.layers.0"),
        (["bert", "--remove", "0:3"], r"3\): encoder.layer.0.attention.self has heads 0 to 2"),
        (["rnn", "--keep", "0.5", "--data", "pairs.tsv"], "it has one attention with one head, and nothing to prune"),
        (["translator", "--keep", "0.5", "--data", "texts.txt"], "texts.txt:1"),
        (["bert", "--keep", "0.5", "--data", "missing.txt"], "missing.txt: there is no file"),
        (["nowhere", "--keep", "0.5", "--data", "pairs.tsv"], "Cannot find a model|There is no folder"),
        (["translator", "--keep", "0.5", "--data", "pairs.tsv", "--resume"], "nothing to resume"),
        (["bert", "--keep", "0.5", "--data", "texts.txt", "--rank", "gradient"], "its gradient there is 0; rank by"),
        (["--restore", "translator"], "no heads were removed from the model in translator"),
        (["--restore", "bert"], "there is no removed.safetensors in bert"),
        (["translator", "--restore", "bert"], "names the model already"),
    ],
)
def test_what_cannot_be(
    words: list[str], told: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = folders["rnn"].parent
    given = [here / word if (here / word).exists() or word in ("missing.txt", "nowhere") else word for word in words]
    assert run(*given, "-o", tmp_path / "out") in (1, 2)
    assert re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_model_without_a_loss_is_refused_before_heads_are_tried(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = transformers.AutoModel.from_pretrained(folders["bert"])
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.fill_(torch.nan)
    folder = shutil.copytree(folders["bert"], tmp_path / "nan")
    model.save_pretrained(folder)
    data = folders["rnn"].parent / "texts.txt"
    assert run(folder, "--keep", "0.5", "--data", data, "-o", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "on its data is nan: no head can be told from another by it" in told.err
    assert not (tmp_path / "out").exists(), "nothing is left that a second try would have to remove"
    assert "without head" not in told.out + told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["m", "--keep", "1", "--data", "x"], "expected a number from 0 and below 1; got '1'"),
        (["m", "--remove", "3"], "a colon, and heads, such as 3:0,5; got '3'"),
        (["m", "--remove", "3:a"], "a colon, and heads, such as 3:0,5; got '3:a'"),
        (["m", "--keep", "0.5", "--remove", "3:1"], "not allowed with argument"),
        (["m"], "one of the arguments --keep --remove --restore is required"),
    ],
)
def test_what_cannot_be_meant(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*words, "-o", tmp_path)
    assert told in capsys.readouterr().err


def test_folders_are_not_written_over(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note").write_text("mine")
    assert run(folders["bert"], "--remove", "0:1", "-o", tmp_path) == 1
    assert "is not empty; --resume goes on, --overwrite begins anew" in capsys.readouterr().err
    assert run(folders["bert"], "--remove", "0:1", "-o", folders["bert"], "--overwrite") == 2
    assert "goes into another folder than the whole one" in capsys.readouterr().err
