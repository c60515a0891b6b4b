"""Classifying texts: what is read, what is learned, what was read for it, and what a folder holds."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
import made_texts
from foveate.tasks.classification import Classification, Classifier, Shape, load
from foveate.tasks.recipe import Run, run
from foveate.tasks.rows import Malformed
from foveate.tasks.training import Options

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"width": 32, "hidden": 32, "heads": 2, "inner": 32, "dropout": 0.1, "unknown": 0.0, "buckets": 500}
OPTIONS = Options(epochs=5, warmup=10, patience=0, average=1, precision="float32", save_every=7, log_every=5)
RATES = {"rnn": 1e-2, "transformer": 5e-3}
SHAPES = {
    "rnn": Shape(arch="rnn", **SMALL),
    "gru, mean": Shape(arch="rnn", cell="gru", pooling="mean", **SMALL),
    "transformer": Shape(arch="transformer", **SMALL),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdicts")
    for name, count, seed in (("train", 500, 1), ("valid", 100, 2), ("test", 100, 3)):
        made_texts.write_verdicts(folder / f"{name}.tsv", count, seed)
    return folder


def given(texts: Path, shape: Shape, **changed: Any) -> Run[Any]:
    options = replace(OPTIONS, peak=RATES[shape.arch], **changed)
    return Run(Classification, shape, texts / "train.tsv", texts / "valid.tsv", texts / "test.tsv", options, cells=128)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_miniature_learns_what_a_negation_does(texts: Path, tmp_path: Path, shape: Shape) -> None:
    """Without it 70 of 100 verdicts could be told."""
    outcome = run(given(texts, shape), tmp_path, quiet=True)
    assert outcome.metrics["accuracy"] >= 97
    classifier = load(tmp_path)
    assert classifier.facts["test"]["accuracy"] >= 97
    good, bad = classifier.classify(["The plot was not bad.", "we saw it at home , the music was bad"])
    assert (good.label, bad.label) == ("good", "bad")
    assert sum(good.probabilities.values()) == pytest.approx(1)
    assert good.words == ("The", "plot", "was", "not", "bad", ".")
    if shape.pooling == "mean":
        assert good.weights is None
    else:
        assert bad.weights is not None
        assert sum(bad.weights) == pytest.approx(1)


def test_attention_reads_the_words_that_decide(texts: Path, tmp_path: Path) -> None:
    """A Transformer without layers is a bag of words: what its query reads is what its answer is made of."""
    classifier = _trained(texts, tmp_path)
    for word, label in (("funny", "good"), ("dull", "bad")):
        (found,) = classifier.classify([f"at the end of this long week the story was {word} with friends"])
        assert found.label == label
        assert found.weights is not None
        assert found.words[found.weights.index(max(found.weights))] == word
        assert max(found.weights) > 0.5


def test_watch_sees_the_pooling_as_what_its_query_read(texts: Path, tmp_path: Path) -> None:
    classifier = _trained(texts, tmp_path)
    with fv.watch(classifier.model) as seen:
        (found,) = classifier.classify(["the cast was moving"])
    assert list(seen) == ["pooling"]
    assert seen.info("pooling").kind == "cross"
    assert seen["pooling"].shape == (1, 1, 1, 4)
    assert seen["pooling"][0, 0, 0].tolist() == pytest.approx(list(found.weights or ()))


def _trained(texts: Path, folder: Path) -> Classifier:
    run(given(texts, replace(SHAPES["transformer"], layers=0), epochs=4), folder, quiet=True)
    return load(folder)


BAD = {
    "one column": ("alone", "expected 2 columns, a text and its label, separated by a tab; got 1"),
    "three columns": ("a\tb\tc", "expected 2 columns, a text and its label, separated by a tab; got 3"),
    "no text": (" \tgood", "the text is empty"),
    "no label": ("fine\t ", "the label is empty"),
    "too long": ("w " * 2001 + "\tgood", "the text has 2,001 words; at most 2,000 are allowed"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"fine\tgood\n{line}\nlost\tbad\n", encoding="utf-8")
    with pytest.raises(Malformed, match=f"a.tsv:2: {message}"):
        Classification.read(path, None, skip_bad=False)
    rows = Classification.read(path, None, skip_bad=True)
    assert [one.label for one in rows.items] == ["good", "bad"]
    assert rows.report().startswith("skipped 1 of 3 lines: 1 x ")


def test_a_label_that_training_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("fine\tgood\nso so\tmiddling\n", encoding="utf-8")
    known = {"labels": ["bad", "good"]}
    message = r"a.tsv:2: no text of the training data has the label 'middling'; it knows 'bad', 'good'"
    with pytest.raises(Malformed, match=message):
        Classification.read(tmp_path / "a.tsv", known, skip_bad=False)
    assert len(Classification.read(tmp_path / "a.tsv", known, skip_bad=True)) == 1
    with pytest.raises(Malformed, match="no line can be used; skipped 2 of 2 lines: 2 x unknown label"):
        Classification.read(tmp_path / "a.tsv", {"labels": ["a", "b"]}, skip_bad=True)


def test_one_label_alone_cannot_be_learned(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("fine\tgood\nfunny\tgood\n", encoding="utf-8")
    one = replace(given(texts, SHAPES["rnn"]), train=tmp_path / "train.tsv")
    with pytest.raises(ValueError, match="a classifier needs at least 2 labels; all 2 texts have 'good'"):
        run(one, tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_shapes_say_what_they_do_not_know() -> None:
    for wrong, message in (
        ({"arch": "cnn"}, "unknown arch 'cnn'; expected 'rnn' or 'transformer'"),
        ({"cell": "rnn"}, "unknown cell 'rnn'; expected 'gru' or 'lstm'"),
        ({"pooling": "max"}, "unknown pooling 'max'; expected 'attention' or 'mean'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1; got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Shape(**wrong)  # type: ignore[arg-type]


def test_a_folder_tells_all_of_it_and_one_of_another_kind_is_refused(texts: Path, tmp_path: Path) -> None:
    shape = replace(SHAPES["rnn"], width=8, hidden=8)
    run(replace(given(texts, shape, epochs=1), command="foveate train classify ..."), tmp_path, quiet=True)
    facts = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert facts["shape"] == asdict(shape)
    assert facts["data"]["test"] == {"file": "test.tsv", "examples": 100, "reading": "read 100 lines, skipped none"}
    card = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    for told in ("BiLSTM, attention pooling", "seed 1", "train.tsv, 500 examples", "`foveate train classify ...`",
                 f"looked at once: accuracy {facts['test']['accuracy']:.4g} %", "cell lstm"):  # fmt: skip
        assert told in card
    assert "heads" not in card
    with pytest.raises(ValueError, match="texts must be a list of texts"):
        load(tmp_path).classify("one")
    with pytest.raises(ValueError, match="there is no word in this text"):
        load(tmp_path).classify([" "])
    (tmp_path / "known.json").write_text('{"labels": ["a", "b", "c"], "words": {"known": [], "buckets": 500}}')
    with pytest.raises(ValueError, match="do not belong together: Error"):
        load(tmp_path)
    (tmp_path / "known.json").unlink()
    with pytest.raises(ValueError, match=r"known.json in .* is missing or broken"):
        load(tmp_path)
    (tmp_path / "model.json").write_text('{"task": "translation"}')
    with pytest.raises(ValueError, match="holds a model for 'translation', not for classification"):
        load(tmp_path)


@pytest.mark.parametrize("shape", [SHAPES["rnn"], SHAPES["transformer"]], ids=["rnn", "transformer"])
def test_padding_changes_no_logit(shape: Shape) -> None:
    known = {"labels": ["a", "b"], "words": {"known": ["the", "plot"], "buckets": 500}}
    recipe = Classification(shape, known)
    model = recipe.model().double().eval()
    texts = [("the", "plot"), ("a", "long", "text", "the", "plot"), ("one",)]
    together, _ = model(recipe.words.batch(texts))
    for row, text in enumerate(texts):
        alone, _ = model(recipe.words.batch([text]))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-10, atol=1e-12)
