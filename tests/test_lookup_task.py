"""Answering from a page: invented facts, a pointer that finds names it has never seen, and what its rows must be."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

import foveate as fv
from foveate.tasks import facts
from foveate.tasks.lookup import Example, LookingUp, Shape, load, parted
from foveate.tasks.recipe import Run, run
from foveate.tasks.rows import Malformed
from foveate.tasks.training import Options
from foveate.tasks.words import Words, cut_words

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_miniature_finds_names_it_has_never_seen(tmp_path: Path) -> None:
    facts.write(tmp_path, train=3000, held=200, facts=4, seed=3)
    shape = Shape(arch="rnn", cell="gru", width=32, hidden=48, dropout=0.0, unknown=0.0, buckets=2000)
    options = Options(
        epochs=2, peak=1e-2, warmup=30, patience=0, average=1, precision="float32", save_every=500, log_every=50
    )
    files = [tmp_path / f"{name}.tsv" for name in ("train", "valid", "test")]
    run(Run(LookingUp, shape, *files, options=options, cells=1024), tmp_path / "m", quiet=True)
    reader = load(tmp_path / "m")
    assert reader.facts["test"]["accuracy"] >= 95
    long = LookingUp.read(tmp_path / "long.tsv", None, skip_bad=False).items
    with torch.no_grad():
        assert reader.recipe.scores(reader.model, long, 2048)["accuracy"] >= 80
    page = "The river of Veldania is Tarn. Veldania's capital is Morpeth. The capital of Bruskia is Ulm."
    with fv.watch(reader.model, "pointer") as seen:
        found = reader.find("What is the capital of Veldania?", page)
    assert found.answer == "Morpeth"
    assert found.probability == max(found.weights) > 0.5
    assert seen.info("pointer").kind == "cross"
    map_ = seen["pointer"]
    assert isinstance(map_, fv.AttentionMap)
    assert map_[0, 0, 0].tolist() == pytest.approx(list(found.weights), abs=1e-6)


def test_training_and_answering_agree() -> None:
    recipe = LookingUp(Shape(width=16, hidden=8, dropout=0.0, unknown=0.0), {"words": Words(("is",)).as_json()})
    examples = [Example(("Who", "?"), page, 0) for page in (("Ann", "is", "so"), ("Bo",))]
    model = recipe.model().double()
    learned, _ = recipe.logits(model.train(), examples)
    told, _ = recipe.logits(model.eval(), examples)
    torch.testing.assert_close(learned.log_softmax(-1), told)
    assert told[1].exp().tolist() == [1, 0, 0]


def test_pages_cannot_be_answered_by_half_of_the_question() -> None:
    alike: Counter[str] = Counter()
    for one in islice(facts.pages(random.Random(1), 6), 300):
        words = cut_words(one.page)
        assert words.count(one.answer) == 1
        assert one.answer not in one.question
        owner = next(word for word in cut_words(one.question) if word[0].isupper() and word in words
                     and word not in ("The", "In", "What", "Which", "Name"))  # fmt: skip
        relation = next(r for r in facts.RELATIONS if f" {r} " in f" {one.question} ".replace(" ?", "  ?"))
        alike["owner"] += words.count(owner) > 1
        alike["relation"] += one.page.count(f"{relation}") > 1
    assert alike["owner"] > 250
    assert alike["relation"] > 200


def test_pages_follow_from_the_seed_and_long_ones_have_four_times_as_many_facts(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        facts.write(tmp_path / folder, train=20, held=200, facts=4, seed=7)
    texts = [(tmp_path / folder / "test.tsv").read_text(encoding="utf-8") for folder in ("a", "b")]
    assert texts[0] == texts[1] != (tmp_path / "a" / "valid.tsv").read_text(encoding="utf-8")
    short, long = (
        sum(len(one.page) for one in LookingUp.read(tmp_path / "a" / f"{name}.tsv", None, skip_bad=False).items)
        for name in ("test", "long")
    )
    assert 3.5 < long / short < 4.5
    with pytest.raises(ValueError, match="a page needs at least 3 facts, so that others are like the one asked for"):
        next(facts.pages(random.Random(1), 2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tb", "expected 3 columns, a question, a page and the answer, separated by a tab; got 2"),
        ("\tb\tb", "the question is empty"),
        ("a\t \tb", "the page is empty"),
        ("a\tb\t ", "the answer is empty"),
        ("a\tb c\td", "the answer must be a word that stands in the page once; 'd' does 0 times"),
        ("a\tb c b\tb", "the answer must be a word that stands in the page once; 'b' does 2 times"),
        ("a\t" + "b " * 5000 + "\tb", "question and page have 5,001 words; at most 5,000 are allowed"),
    ],
)
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(f"Who?\tIt was Ann.\tAnn\n{line}\n", encoding="utf-8")
    with pytest.raises(Malformed, match=rf"a\.tsv:2: {message}"):
        LookingUp.read(tmp_path / "a.tsv", None, skip_bad=False)
    rows = LookingUp.read(tmp_path / "a.tsv", None, skip_bad=True)
    assert [(one.page, one.place) for one in rows.items] == [(("It", "was", "Ann", "."), 2)]


def test_a_text_is_parted_at_a_tab_or_the_first_question_mark() -> None:
    assert parted("Who? Ann. Why? So.") == ("Who?", " Ann. Why? So.")
    assert parted("Name her.\tAnn? Yes.") == ("Name her.", "Ann? Yes.")
    with pytest.raises(ValueError, match=r"the question ends with \? or a tab"):
        parted("Ann.")
