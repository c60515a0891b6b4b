"""`foveate train classify` and `train tag`, the commands that use what they leave, and the page on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import made_texts
from foveate.apps.errors import UserError
from foveate.apps.task_model import TaskModel, open_folder
from foveate.apps.terminal import highlighted
from miniatures import Runner

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = "--width 32 --dropout 0.1 --warmup 10 --learning-rate 0.01 --batch-words 256 --precision float32 --threads 1"
SMALL += " --average 1 --buckets 500 --device cpu"
TEXT = "we saw the film , it was not dull"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    for seed, (name, count) in enumerate((("train", 400), ("valid", 50))):
        made_texts.write_verdicts(folder / f"{name}.tsv", count, seed)
        made_texts.write_tagged(folder / f"{name}.conllu", count, seed)
    return folder


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(place, capsys, monkeypatch)


def test_classify_from_texts_to_the_page(run: Runner, place: Path, tmp_path: Path) -> None:
    words = f"train classify --train train.tsv --valid valid.tsv --test valid.tsv -o m --hidden 32 --epochs 5 {SMALL}"
    code, out, err = run(words)
    assert (code, out.splitlines()[1]) == (0, '  foveate classify m "..."')
    assert "train: 400 examples of train.tsv; read 400 lines, skipped none\n" in err
    assert "epoch 5/5  accuracy " in err
    assert f"Command: `foveate {words}`" in (place / "m" / "CARD.md").read_text(encoding="utf-8")

    code, out, _ = run(f'classify m "{TEXT}"')
    label, _, _, text, bars = out.split("\n", 4)
    assert (code, label.split()[0], text) == (0, "good", TEXT)
    assert bars.strip()
    first, empty, last = run.lines("classify m -", stdin=f"{TEXT}\n\nthe plot was dull\n")
    assert (first.split("\t")[0], empty, last.split("\t")[0]) == ("good", "", "bad")
    told, nothing = map(json.loads, run.lines("classify m --json -", stdin=f"{TEXT}\n \n"))
    assert nothing == {"label": None, "probabilities": {}, "words": [], "weights": []}
    assert told["words"] == TEXT.split()
    assert sum(told["weights"]) == pytest.approx(1, abs=1e-4)

    assert run(f'view m --text "{TEXT}" --export {tmp_path}/page.html')[0] == 0
    model = open_folder("m")
    assert isinstance(model, TaskModel)
    document = model.run(TEXT, None, lambda progress, message: None).document()
    assert document.message.startswith("good (")
    assert document.sequences[0].source.text == tuple(TEXT.split())
    assert document.sequences[0].target is not None
    assert document.sequences[0].target.text == ("good",)
    assert [(call.kind, call.rows, call.columns) for call in document.calls] == [("cross", "target", "source")]
    assert len(model.examples) == 3
    code, out, _ = run(f'view m --text "{TEXT}" --terminal')
    assert (code, "good (0) reads" in out) == (0, True)


def test_a_classifier_without_layers_reads_words_without_their_context(run: Runner, place: Path) -> None:
    words = "train classify --train train.tsv --valid valid.tsv --arch transformer --layers 0 --epochs 1"
    assert run(f"{words} -o bare {SMALL}")[0] == 0
    one, other = (json.loads(run.lines(f'classify bare --json "{text}"')[0]) for text in ("dull film", "film dull"))
    assert one["weights"] == pytest.approx(other["weights"][::-1])  # no word knows its place
    code, _, err = run(f"{words.replace('transformer', 'rnn')} -o {place}/none {SMALL}")
    assert (code, "layers must be at least 1; got 0" in err.splitlines()[-1]) == (1, True)


def test_tag_from_a_treebank_to_the_page(run: Runner) -> None:
    words = (
        f"train tag --train train.conllu --valid valid.conllu -o t --heads 2 --inner 32 --layers 1 --epochs 10 {SMALL}"
    )
    code, out, _ = run(words)
    assert code == 0
    assert "accuracy of unknown words" in out
    assert run.lines('tag t "They watch the can."') == [
        "They   PRON",
        "watch  VERB",
        "the    DET",
        "can    NOUN",
        ".      PUNCT",
    ]
    assert run.lines("tag t They watch the can .") == run.lines('tag t "They watch the can."')
    assert run.lines("tag t \x1b \u9ed2\u3044")[0].startswith("?     ")  # as wide as the next word, and two spaces
    assert run.lines("tag t -", stdin="You sadly book the book .\n") == [
        "You/PRON sadly/ADV book/VERB the/DET book/NOUN ./PUNCT"
    ]
    assert json.loads(run.lines("tag t - --json", stdin="We sadly play the can .")[0]) == {
        "words": ["We", "sadly", "play", "the", "can", "."],
        "tags": ["PRON", "ADV", "VERB", "DET", "NOUN", "PUNCT"],
    }
    model = open_folder("t")
    assert model is not None
    document = model.run("We sadly play the can.", None, lambda progress, message: None).document()
    assert document.message == "We/PRON sadly/ADV play/VERB the/DET can/NOUN ./PUNCT"
    assert [(call.kind, call.heads, call.queries) for call in document.calls] == [("encoder", 2, 6)]


def test_what_is_wrong_is_one_sentence(run: Runner, place: Path, tmp_path: Path) -> None:
    tiny = f"{SMALL} --epochs 1 --width 8"
    (place / "bad.tsv").write_text("fine\tgood\nalone\ndull\tbad\n", encoding="utf-8")
    for command, message in (
        (f"train classify --train bad.tsv --valid valid.tsv -o {tmp_path}/x {tiny}",
         "bad.tsv:2: expected 2 columns, a text and its label, separated by a tab; got 1"),
        (f"train tag --train train.tsv --valid valid.conllu -o {tmp_path}/x {tiny}",
         "train.tsv:1: expected 10 columns separated by a tab, ID, FORM"),
        (f"train classify --train train.tsv --valid valid.tsv --heads 2 -o {tmp_path}/x {tiny}",
         "--arch rnn has no --heads; leave it out, or choose the other architecture"),
        (f"train classify --train train.tsv --valid valid.tsv --arch transformer --heads 3 -o {tmp_path}/x {tiny}",
         "width must be a multiple of heads; got width 8, heads 3"),
        ("classify nowhere text", "no model: there is no folder nowhere"),
        (f"classify {place} text", "no model.safetensors in"),
    ):  # fmt: skip
        code, out, err = run(command)
        assert (code in (1, 2), out) == (True, "")
        assert message in err.splitlines()[-1]
    assert not (tmp_path / "x").exists()
    skipping = f"train classify --train bad.tsv --valid valid.tsv --skip-bad --pooling mean -o {tmp_path}/y {tiny}"
    code, _, err = run(skipping)
    assert (code, "skipped 1 of 3 lines: 1 x not 2 columns (first: bad.tsv:2)" in err) == (0, True)
    code, out, err = run(f"classify {tmp_path}/y - --json", stdin="a film\n<\x00>\n")
    assert (code, len(out.splitlines())) == (1, 2)
    assert json.loads(out.splitlines()[1]) == {"error": "expected text; byte 2 of the line is 0x00"}
    assert "foveate: line 2: expected text; byte 2 of the line is 0x00" in err
    model = open_folder(tmp_path / "y")
    assert model is not None
    with pytest.raises(UserError, match="has no attention to look at; train one with another --arch or --pooling"):
        model.run("a film", None, lambda progress, message: None)
    with pytest.raises(UserError, match="there is no word in this text"):
        model.run(" ", None, lambda progress, message: None)


def test_a_folder_that_is_none_or_broken(tmp_path: Path) -> None:
    assert open_folder(tmp_path) is None
    (tmp_path / "model.json").write_text('{"task": ')
    with pytest.raises(UserError, match=r"model\.json in .* is cut off"):
        open_folder(tmp_path)
    (tmp_path / "model.json").write_text('{"task": "tagging"}')
    with pytest.raises(UserError, match=r"no model\.safetensors in"):
        open_folder(tmp_path)


def test_a_highlighted_text_breaks_into_lines_and_marks_the_heaviest_word(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*["word"] * 20, "heavy", "half"]
    highlighted(words, [*[0.0] * 20, 0.4, 0.2])
    first, second, below = capsys.readouterr().out.split("\n")[:3]
    assert len(first) < 80
    assert f"{first} {second}".split() == words
    assert below.split()[-2:] == ["█████", "▒▒▒▒"]
    highlighted(["a"], [0.0])
    assert capsys.readouterr().out == "a\n"  # no line of bars where there is none
