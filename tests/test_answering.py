"""Questions answered from texts and stores: a miniature learns to, rows are checked one by one, places are found."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import foveate as fv
from foveate.apps.task_model import TaskModel
from foveate.tasks import answering, facts, identity
from foveate.tasks.answerer import Answerer, load, load_builtin
from foveate.tasks.answering import Answering, Example, Shape, asked, best, of_row
from foveate.tasks.recipe import Run, run
from foveate.tasks.rows import Malformed
from foveate.tasks.training import Options
from foveate.tasks.training.checkpoint import save_model
from stopping import stopped_at

pytestmark = pytest.mark.usefixtures("one_thread")

MINIATURE = 60  # percent of answers right
TINY = Shape(width=16, layers=1, heads=2, inner=16, window=4, signs=64)


def untrained(shape: Shape = TINY, words: tuple[str, ...] = ("is", "the", "capital", "of", "?", ".")) -> Answerer:
    torch.manual_seed(1)
    recipe = Answering(shape, {"words": dict.fromkeys(words, 0.5), "longest": 3})
    return Answerer(recipe, recipe.model().eval(), {})


def test_signs_tell_words_apart_and_follow_from_their_letters() -> None:
    one, same, other = identity.signs(["Orsk", "ORSK", "Orsq"], 128)
    assert torch.equal(one, same)
    assert set(one.tolist()) == {-1.0, 1.0}
    assert abs(float(one @ other)) < 64
    assert identity.signs(["Orsk"], 16).tolist() == identity.signs(["orsk"], 512)[:, :16].tolist()
    assert identity.signs([], 8).shape == (0, 8)
    with pytest.raises(ValueError, match="multiple of 8 from 8 to 512; got 12"):
        identity.signs(["a"], 12)


def test_a_question_ends_with_its_mark_whatever_it_ended_with() -> None:
    for text in ("Who rules Orsk?", "Who rules Orsk", "Who rules Orsk.", "Who rules Orsk??"):
        assert asked(text) == ("Who", "rules", "Orsk", "?")
    assert asked(" ? ") == ()


def test_a_word_of_the_text_sees_the_question_and_its_neighbours_only() -> None:
    answerer = untrained()
    question, near = asked("What is the capital of Orsk?"), ("The", "capital", "of", "Orsk", "is", "Tal", ".")
    with torch.no_grad(), fv.watch(answerer.model) as seen:
        answerer.of_words(question, [*near, *["so"] * 30])
    own, begins, ends = seen[next(iter(seen))], seen["begins"], seen["ends"]
    n, length = len(question), len(question) + len(near) + 30
    allowed = torch.zeros(length, length, dtype=torch.bool)
    allowed[:, :n] = True
    place = torch.arange(length)
    allowed |= (place[:, None] - place).abs() <= TINY.window
    assert torch.equal(own[0, 0] > 0, allowed)
    assert (begins.shape, ends.shape) == ((1, 1, 1, length), (1, 1, length, length))
    assert (seen.info("begins").kind, seen.info("ends").kind) == ("cross", "encoder")
    assert float(begins[0, 0, 0, :n].sum()) == 0.0
    torch.testing.assert_close(begins[0, 0, 0].sum(), torch.ones(()))
    further = place - place[:, None]
    assert torch.equal(ends[0, 0] > 0, (further >= 0) & (further < answerer.recipe.longest))


@pytest.mark.parametrize("rows", [512, 4])
def test_a_span_is_as_likely_as_its_beginning_and_then_its_end(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ROWS", rows)
    answerer = untrained()
    question, context = asked("What is the capital of Orsk?"), ("Orsk", "is", "old", ".", "Tal", "rules", "it", ".")
    batch = answerer.recipe.batch([Example(question, context, ())])
    with torch.no_grad():
        begins, ends = answerer.model(batch)
        likely_LA = answering.spans(begins, ends, longest=3)[0]
    assert float(likely_LA.sum()) == pytest.approx(1, abs=1e-5)
    first_L, last_LL = begins[0, 0, 0], ends[0, 0]
    for first in range(len(likely_LA)):
        wanted = [first_L[first] * last_LL[first, last] for last in range(first, min(first + 3, len(likely_LA)))]
        assert likely_LA[first, : len(wanted)].tolist() == pytest.approx([float(one) for one in wanted], abs=1e-6)
        assert float(likely_LA[first, len(wanted) :].sum()) == 0.0
    found = answerer.of_words(question, context)
    both_L = first_L + (first_L[:, None] * last_LL).sum(0)
    assert found.weights == pytest.approx((both_L[len(question) :] / 2).tolist(), abs=1e-6)


def test_batches_are_their_rows_alone() -> None:
    answerer = untrained()
    rows = [
        of_row("What is the capital of Orsk?", "Orsk is old . Tal is the capital of Orsk .", "Tal", ""),
        of_row("What is the capital of Bel?", "Tal is the capital of Orsk . New Ulm is the capital of Bel .",
               "New Ulm", ""),
        of_row("What is old ?", "Tal is old , and Tal is the capital .", "Tal", ""),
    ]  # fmt: skip
    model = answerer.model
    model.requires_grad_(False)
    together, targets = answerer.recipe.logits(model, rows)
    places = [(11, 1), (14, 2), (4, 1)]  # first word, and how many
    assert targets.tolist() == [first * 3 + words - 1 for first, words in places]
    for i, one in enumerate(rows):
        alone, wanted = answerer.recipe.logits(model, [one])
        length = alone.shape[1]
        assert torch.equal(wanted, targets[i : i + 1])
        torch.testing.assert_close(together[i : i + 1, :length].exp(), alone.exp(), atol=1e-6, rtol=1e-4)
    twice = together[2].exp()
    torch.testing.assert_close(twice.sum(), torch.ones((), dtype=twice.dtype), atol=1e-5, rtol=1e-5)
    assert float(twice[9 * 3]) == 0.0  # the second "Tal" counts where the first is


def test_answers_of_one_word_have_an_end_to_choose_and_a_page() -> None:
    torch.manual_seed(1)
    recipe = Answering(TINY, {"words": {"rules": 0.5}, "longest": 1})
    answerer = Answerer(recipe, recipe.model().eval(), {})
    found = answerer.ask("Who rules Bel?", "Tal rules Bel. Orsk is old.")
    assert found.past - found.first == 1
    source = TaskModel(answerer).run("Who rules Bel? Tal rules Bel.", None, lambda progress, message: None)
    assert [call.kind for call in source.document().calls] == ["encoder", "cross", "encoder"]


def test_the_best_span_is_the_likeliest_of_all() -> None:
    likely_LA = torch.tensor([[0.1, 0.2], [0.1, 0.4], [0.3, 0.0]])
    assert best(likely_LA) == (1, 3)
    assert best(likely_LA[2:]) == (0, 1)


def test_a_model_whose_pointers_are_of_another_form_is_refused(tmp_path: Path) -> None:
    answerer = untrained()
    tensors = {name.replace("begins", "pointer"): t for name, t in answerer.model.state_dict().items()}
    save_model(tmp_path, tensors, {"task": "answering", "shape": asdict(TINY)})
    (tmp_path / "known.json").write_text(json.dumps(answerer.recipe.known), encoding="utf-8")
    with pytest.raises(ValueError, match=r"do not belong together.*begins\.query\.weight"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Who?\tBel.", r"rows.tsv:2: expected 3 columns separated by tabs, a question, a text and the answer; got 2"),
        ("?\tBel.\tBel", r"rows.tsv:2: the question has no word"),
        ("Who?\t \tBel", r"rows.tsv:2: the text has no word"),
        ("Who?\tBel.\t ", r"rows.tsv:2: the answer has no word"),
        ("Who?\tBel rules.\tTal", r"rows.tsv:2: the answer 'Tal' does not stand in the text"),
        ("Who?\t" + "a " * 20 + "\t" + "a " * 13, r"rows.tsv:2: the answer has 13 words; at most 12 are allowed"),
        ("Who?\t" + "a " * 4000 + "\ta", r"rows.tsv:2: question and text have 4,002 words; at most 4,000 are allowed"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(f"Who rules?\tBel rules.\tbel\n{line}\n", encoding="utf-8")
    with pytest.raises(Malformed, match=message):
        Answering.read(path, None, skip_bad=False)
    kept = Answering.read(path, None, skip_bad=True)
    assert kept.items == [Example(("Who", "rules", "?"), ("Bel", "rules", "."), ((0, 1),))]
    assert kept.skipped.total() == 1


def test_answers_are_cut_from_the_text_as_it_is_written() -> None:
    answerer = untrained()
    text = "Paris,\n  (the capital) of France."
    found = answerer.ask("What is the capital of France?", text)
    assert found.words == ("Paris", ",", "(", "the", "capital", ")", "of", "France", ".")
    assert found.answer in " ".join(text.split())
    assert sum(found.weights) == pytest.approx(1, abs=1e-5)
    assert 0 < found.probability <= 1
    for question, context, message in (
        ("?", text, "there is no word in the question"),
        ("Who?", " ", "there is no word in the text"),
        ("Who?", "a " * 4000, "question and text have 4,002 words; at most 4,000 are read"),
    ):
        with pytest.raises(ValueError, match=message):
            answerer.ask(question, context)
    with pytest.raises(ValueError, match="a question with its question mark comes first"):
        answerer.look("Paris is the capital.")
    with pytest.raises(ValueError, match="there is no word in the text"):
        answerer.look("Who rules Bel?")
    assert answerer.look("Who rules Bel? Tal does.").words == ("Who", "rules", "Bel", "?", "Tal", "does", ".")


def test_a_store_finds_the_facts_that_share_the_rarest_words() -> None:
    answerer = untrained()
    lines = [f"The capital of Land{i} is Town{i}." for i in range(500)]
    lines[7] = ""
    store = answerer.store(lines)
    assert store.keys_NS.shape == (500, 512)
    found = answerer.ask_store("What is the capital of Land321?", store, k=1)
    assert (found.fact, " ".join(found.words)) == (321, "The capital of Land321 is Town321 .")
    many = answerer.ask_store("What is the capital of Land321?", store, k=3)
    assert len(many.words) == 21 and many.words[:7] == found.words
    assert many.fact is not None and many.words[many.first] in lines[many.fact].replace(".", " .").split()
    with pytest.raises(ValueError, match="a store needs at least one fact"):
        answerer.store([" ", ""])


def test_a_run_that_was_stopped_ends_where_it_would_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MADE", {"train": 60, "valid": 10, "test": 10})
    options = Options(epochs=2, peak=1e-2, warmup=2, patience=0, precision="float32", save_every=3)
    given = Run(Answering, replace(TINY, unknown=0.2, dropout=0.1), None, None, options=options, cells=300)
    run(given, tmp_path / "whole", quiet=True)
    with stopped_at(5):
        run(given, tmp_path / "parts", quiet=True)
    run(given, tmp_path / "parts", resume=True, quiet=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_miniature_learns_to_read_names_that_it_never_saw(tmp_path: Path) -> None:
    def write(name: str, count: int) -> Path:
        rows = facts.questions(1, count, split=name, words=(12, 20))
        text = "".join(f"{one.question}\t{one.context}\t{one.answer}\n" for one in rows)
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
        return tmp_path / f"{name}.tsv"

    shape = Shape(width=48, layers=2, inner=96, window=10, signs=64, unknown=0.0)
    options = Options(epochs=4, peak=8e-3, warmup=20, patience=0, average=1, precision="float32")
    files = [write(name, count) for name, count in (("train", 2000), ("valid", 100), ("test", 200))]
    run(Run(Answering, shape, *files, options=options, cells=800), tmp_path / "m", quiet=True)
    answerer = load(tmp_path / "m")
    assert answerer.facts["test"]["accuracy"] > MINIATURE
    found = answerer.ask("What is the capital of France?", "France is a country. Paris is the capital.")
    assert found.answer == "Paris"
    assert max(zip(found.weights, found.words, strict=True))[1] == "Paris"


def test_what_shapes_refuse() -> None:
    for change, message in (
        ({"arch": "rnn"}, "unknown arch 'rnn'; expected 'transformer'"),
        ({"window": 0}, "window must be at least 1; got 0"),
        ({"layers": 0}, "layers must be at least 1; got 0"),
        ({"signs": 12}, "signs must be a multiple of 8 from 8 to 512; got 12"),
        ({"unknown": 1.0}, "unknown must be at least 0 and less than 1"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(TINY, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="train and valid are files"):
        Run(Answering, TINY, None, Path("x"))
    for known in ({"words": {"is": 0.0}, "longest": 3}, {"words": {"is": 0.5}, "longest": 0}):
        with pytest.raises(
            ValueError, match="shares of words are above 0 and at most 1, and an answer has 1 to 12 words"
        ):
            Answering(TINY, known)


def test_the_built_in_model_reads_names_it_never_saw_and_texts_four_times_as_long() -> None:
    answerer = load_builtin()

    def right(count: int, words: tuple[int, int]) -> float:
        given = list(facts.questions(5, count, words=words, split="test"))
        found = [answerer.ask(one.question, one.context).answer.lower() == one.answer.lower() for one in given]
        return 100 * sum(found) / count

    assert right(200, (12, 60)) >= 98
    assert right(50, (240, 300)) >= 92
    found = answerer.ask("What is the capital of France?", "France is a country. Paris is the capital.")
    assert (found.answer, found.words.index("Paris")) == ("Paris", found.first)
    assert found.weights[found.first] > 0.99


def test_the_built_in_model_finds_one_fact_among_thousands() -> None:
    answerer = load_builtin()
    given = list(facts.facts(3, 2000))
    store = answerer.store(one.context for one in given)
    found = [(answerer.ask_store(given[line].question, store), given[line]) for line in range(0, 2000, 100)]
    assert sum(answer.answer.lower() == one.answer.lower() for answer, one in found) >= 18
