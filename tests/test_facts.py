"""Made-up facts: what is asked stands in the page once, splits share no invented word, and the files are checked."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest

from foveate.tasks import facts
from foveate.tasks.facts import lexicon
from foveate.tasks.words import cut_words


def invented(split: str) -> set[str]:
    pages = facts.questions(3, 300, split=split)
    words = {word.lower() for one in pages for word in cut_words(f"{one.question} {one.context}") if word.isalpha()}
    return words - lexicon.load().words


def test_pages_have_the_answer_once_and_are_as_long_as_asked() -> None:
    shortest, longest = 20, 70
    lengths = []
    for one in facts.questions(1, 400, words=(shortest, longest)):
        assert one.context.count(one.answer) == 1
        assert one.question[0].isupper() and "{" not in one.question + one.context
        lengths.append(len(cut_words(one.context)))
    assert max(lengths) <= longest
    assert min(lengths) < 30 < 60 < max(lengths)
    assert sum(n < 48 for n in lengths) > 200


def test_the_same_seed_draws_the_same_and_the_longer_run_begins_with_the_shorter() -> None:
    five = list(facts.questions(5, 5))
    assert five == list(islice(facts.questions(5, 9), 5))
    assert five != list(facts.questions(6, 5))


def test_what_is_held_out_is_never_heard_of() -> None:
    train, valid, test = map(invented, facts.SPLITS)
    assert min(len(train), len(valid), len(test)) > 500
    assert not train & test and not train & valid and not valid & test


def test_pages_distract() -> None:
    """Most pages tell the same of something else, or something else of the same."""
    pages = list(facts.questions(2, 300, words=(40, 90)))
    several = [one for one in pages if len(re.findall(r"[.]", one.context)) >= 4]
    assert len(several) > 200
    relations = {one.relation for one in pages}
    assert len(relations) > 25


def test_facts_are_about_different_things_and_answer_their_questions() -> None:
    some = list(facts.facts(1, 500))
    assert len({(one.question.split()[0], one.context) for one in some}) == 500
    assert all(one.answer in one.context for one in some)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: facts.questions(1, 1, split="dev"), "unknown split 'dev'; expected 'train', 'valid' or 'test'"),
        (lambda: facts.questions(1, -1), "count must not be negative; got -1"),
        (lambda: facts.questions(1, 1, words=(30, 20)), r"12 <= shortest <= longest; got \(30, 20\)"),
        (lambda: facts.facts(1, 1, split=""), "unknown split ''"),
    ],
)
def test_numbers_out_of_range(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("kinds.txt", "[town]\n. {s} is one.\n", "kinds.txt:1: a kind is one word in brackets, with a name or word"),
        ("relations.txt", "[mayor of nothing: person]\n? Who?\n", r"relations.txt:1: expected \[NAME of KIND: KIND\]"),
        ("relations.txt", "[mayor of city: person]\n? Who rules {a}?\n", r"lines with \? have the slots 's'; got 'Who"),
        ("relations.txt", "[mayor of city: person]\n? Who rules {s}?\n", r"needs a question \(\?\) and a sentence"),
        ("relations.txt", "- {s}\n", r"relations.txt:1: expected \[a header\], then lines that begin with"),
    ],
)
def test_a_mistake_in_the_lexicon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, text: str, message: str
) -> None:
    real = Path(lexicon.__file__).parent / "lexicon"
    for path in real.iterdir():
        (tmp_path / path.name).write_text(path.read_text() if path.name != file else text)
    monkeypatch.setattr(lexicon, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=message):
        lexicon.load.__wrapped__()
