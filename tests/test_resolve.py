"""The trained model of the package: what it answers, how sure it is, where its heads look, and what it refuses."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest
import torch

import foveate as fv
from foveate.operator import observe
from foveate.tasks.resolve import Resolution, load_builtin, resolve
from foveate.tasks.resolve import lexicon as lexicons
from foveate.tasks.resolve.evaluate import held_out, looks, score
from foveate.tasks.resolve.grammar import pairs
from foveate.tasks.resolve.model import Resolver, Size
from foveate.tasks.resolve.train import split_of
from foveate.tasks.resolve.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model() -> Resolver:
    return load_builtin()


@pytest.mark.parametrize(
    ("sentence", "antecedent"),
    [
        ("The cat sat on the mat because it was tired.", "cat"),
        ("The cat sat on the mat because it was dirty.", "mat"),
        ("The trophy does not fit in the suitcase because it is too big.", "trophy"),
        ("The trophy does not fit in the suitcase because it is too small.", "suitcase"),
        ("The dog chased the ball because it was hungry.", "dog"),
        ("The dog chased the ball because it was bouncy.", "ball"),
        ("The bird sat on the branch until it got tired.", "bird"),
        ("The bird sat on the branch until it broke.", "branch"),
    ],
)
def test_one_word_flips_the_answer(sentence: str, antecedent: str) -> None:
    assert resolve(sentence).antecedent == antecedent


def test_a_resolution_is_complete_and_consistent(model: Resolver) -> None:
    found = resolve("Yesterday the CAT sat on the mat, because It was tired.")
    assert isinstance(found, Resolution)
    assert (found.pronoun, found.antecedent) == ("it", "CAT")
    assert found.tokens[found.pronoun_index] == "It"
    assert found.tokens[found.antecedent_index] == "CAT"
    assert sum(candidate.probability for candidate in found.candidates) == pytest.approx(1)
    assert found.probability == max(candidate.probability for candidate in found.candidates)
    assert len(found.heads) == model.size.layers * model.size.heads + 1
    weights = [look.weight for look in found.heads]
    assert weights == sorted(weights, reverse=True)


def test_heads_are_those_of_the_maps(model: Resolver) -> None:
    text = "The cat sat on the mat because it was tired."
    found = resolve(text)
    maps: list = []
    with observe(maps.append):
        model(torch.tensor([model.tokenize(text)[1]]))
    best = found.heads[0]
    weight = maps[best.layer][0, best.head, found.pronoun_index, found.antecedent_index]
    assert best.weight == pytest.approx(float(weight))


def test_the_line(model: Resolver) -> None:
    found = resolve("The cat sat on the mat because it was tired.")
    best = found.heads[0]
    line = found.line(heads=1)
    assert line.startswith("it -> cat  ")
    assert line.endswith(f" %   heads: {best.layer}.{best.head} ({best.weight:.2f})")
    assert "\n" not in found.line()


def test_padding_changes_no_answer(model: Resolver) -> None:
    texts = ["The cat sat on the mat because it was tired.", "The cat slept because it was tired."]
    rows = [model.tokenize(text)[1] for text in texts]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [Vocabulary.PAD] * (longest - len(row)) for row in rows])
    together = model(padded, torch.tensor([len(row) for row in rows]))
    for i, row in enumerate(rows):
        for batched, alone in zip(together, model(torch.tensor([row])), strict=True):
            torch.testing.assert_close(batched[i, : len(row)], alone[0], rtol=1e-4, atol=1e-4)


def test_the_reader_hands_on_the_embeddings_of_other_words_by_its_weights(model: Resolver) -> None:
    _, ids = model.tokenize("The cat sat on the mat because it was tired.")
    with fv.watch(model) as seen:
        read = model(torch.tensor([ids])).read
    weights = seen["reader"].dense()[0, 0]
    assert torch.equal(weights == 0, torch.eye(len(ids)).bool())
    torch.testing.assert_close(read[0], weights @ model.embedding(torch.tensor(ids)))


def test_one_head_carries_the_antecedent(model: Resolver) -> None:
    lexicon = lexicons.load()
    found = list(islice(pairs(lexicon, random.Random(1), split_of(lexicon), held_out="frames", people=0), 100))
    antecedent, distractor = looks(model, found)[f"{model.size.layers}.0"]
    assert antecedent > max(0.4, 2 * distractor)
    whole = score(model, found).single
    with fv.knockout(model, heads={("reader", 0)}):
        assert score(model, found).single < whole - 0.2
    lost = []
    for name, head in (("encoder.layers.0.attention", 3), ("encoder.layers.2.attention", 5)):
        with fv.knockout(model, heads={(name, head)}):
            lost.append(whole - score(model, found).single)
    assert max(lost) < 0.03


def test_held_out_nouns_and_frames(model: Resolver) -> None:
    lexicon = lexicons.load()
    scores = held_out(model, lexicon, split_of(lexicon), 150)
    assert scores["frames"].single > 0.85
    assert scores["frames"].pair > 0.7
    assert scores["nouns"].single > 0.6


def test_an_untrained_model_is_no_good(model: Resolver) -> None:
    lexicon = lexicons.load()
    found = list(islice(pairs(lexicon, random.Random(1)), 100))
    untrained = Resolver(model.vocabulary, Size(12, 2, 1, 16)).eval()
    assert score(untrained, found).single < 0.4
    assert score(model, found).single > 0.8


def test_some_head_looks_at_the_antecedent(model: Resolver) -> None:
    lexicon = lexicons.load()
    found = list(islice(pairs(lexicon, random.Random(1), split_of(lexicon), held_out="frames", people=0), 60))
    best = max(looks(model, found).values(), key=lambda weights: weights[0] - weights[1])
    assert best[0] > 0.25
    assert best[0] > 1.5 * best[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pronoun to resolve; expected one of it, they, he"),
        ("The cat sat on the mat.", "no pronoun to resolve"),
        ("It was.", "no word that 'it' could stand for"),
        ("?!", "no pronoun to resolve"),
        ("cat " * 70 + "it", "at most 64 words and punctuation marks can be read at once; got 71"),
    ],
)
def test_what_cannot_be_resolved(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(text)


@pytest.mark.parametrize(
    "text",
    ["blorp zug it", "IT IT CAT", "Ünïcödé cats ate 3 pies — it's späť 猫.", "it's the cat's", "a\nb\tit\u200bcat dog"],
)
def test_nonsense_gets_some_answer(text: str) -> None:
    found = resolve(text)
    assert 0 < found.probability <= 1


def test_which_pronoun_is_meant() -> None:
    assert resolve("It was late, so the cat slept because it was tired.").pronoun_index == 9
    assert resolve("He put the book on the table because it was heavy.").pronoun == "it"
    assert resolve("The boys ate the apple because they were hungry.").pronoun == "they"


def test_a_word_that_occurs_twice_counts_once() -> None:
    found = resolve("The cat saw the cat because it was tired.")
    assert [candidate.word for candidate in found.candidates].count("cat") == 1


def test_the_weights_are_small_and_described() -> None:
    from foveate.tasks import resolve as package

    folder = Path(package.__file__).parent / "weights"
    assert (folder / "model.safetensors").stat().st_size < 8_000_000
    card = (folder / "CARD.md").read_text()
    for needed in ("not learned", "CC BY 2.0", "tatoeba.org", "python -m foveate.tasks.resolve.train", "seed"):
        assert needed in card
