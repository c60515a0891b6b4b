"""ROUGE beside Google's rouge-score, and what that cannot count."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from foveate.tasks.rouge import rouge

NAMES = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
TEXTS = st.lists(
    st.sampled_from(["a", "the", "The", "cat", "3-1", "don't", "x_y", ",", "U.S.", "£5"]), max_size=12
).map(" ".join)


def peer(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    scorer = RougeScorer(list(NAMES.values()), use_stemmer=False)
    found = [scorer.score_multi(of_one, text) for text, of_one in zip(hypotheses, references, strict=True)]
    return {ours: 100 * sum(one[name].fmeasure for one in found) / len(found) for ours, name in NAMES.items()}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_it_is_what_rouge_score_gives(texts: list[tuple[str, list[str]]]) -> None:
    hypotheses, references = [text for text, _ in texts], [of_one for _, of_one in texts]
    assert rouge(hypotheses, references) == pytest.approx(peer(hypotheses, references), abs=1e-9)


def test_by_hand() -> None:
    """Lin 2004, section 3.1: "police killed the gunman" beside two sentences with the same words of it."""
    found = rouge(["police kill the gunman", "the gunman kill police"], [["police killed the gunman"]] * 2)
    assert found["ROUGE-1"] == pytest.approx(75)  # three of four words, both
    assert found["ROUGE-L"] == pytest.approx((75 + 50) / 2)  # in order: police the gunman; the gunman
    assert found["ROUGE-2"] == pytest.approx(100 / 3)  # of three pairs one, both: the gunman


def test_words_of_any_alphabet_count() -> None:
    text = "Ещё très élégant"
    assert rouge([text], [[text]]) == dict.fromkeys(NAMES, 100)
    assert rouge(["Ещё"], [["Ещё раз"]])["ROUGE-1"] == pytest.approx(200 / 3)
    assert rouge(["tres"], [["très"]])["ROUGE-1"] == 0


@pytest.mark.parametrize(("texts", "references"), [(["a"], []), (["a"], [[]]), ([], []), (["a", "b"], [["a"]])])
def test_each_text_needs_a_reference(texts: list[str], references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="each hypothesis needs at least one reference; got "):
        rouge(texts, references)
