"""The grammar, its vocabulary, and a few steps of training. The trained model itself is tested in test_resolve.py."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foveate.tasks import files
from foveate.tasks.resolve import evaluate
from foveate.tasks.resolve import lexicon as lexicons
from foveate.tasks.resolve.batches import assemble, batches, read_english
from foveate.tasks.resolve.grammar import pairs, words_of
from foveate.tasks.resolve.model import Resolver, Size
from foveate.tasks.resolve.resolution import load
from foveate.tasks.resolve.train import Run, export, main, split_of, train
from foveate.tasks.resolve.vocabulary import Vocabulary, build
from foveate.tasks.training import checkpoint
from foveate.tasks.training.schedule import learning_rate

ENGLISH = [words_of(text) for text in ("The dog is asleep.", "I don't know him.", "We like the new house.")]
TINY = Run(
    steps=6, word_steps=5, pool=256, batch=16, vocabulary=9000, report_every=2, save_every=3, size=Size(12, 2, 2, 16)
)


@pytest.fixture(scope="module")
def drawn() -> list:
    lexicon = lexicons.load()
    return list(islice(pairs(lexicon, random.Random(3), split_of(lexicon)), 1500))


def test_both_members_of_a_pair_ask_about_the_same_two_words(drawn: list) -> None:
    for first, second in drawn:
        assert first.words[first.antecedent] == second.words[second.distractor]
        assert first.words[first.distractor] == second.words[second.antecedent]
        assert first.frame == second.frame
        for example in (first, second):
            assert len({example.pronoun, example.antecedent, example.distractor}) == 3
            assert example.words[example.pronoun] in ("it", "its", "they", "them", "their", "he", "she")


def test_position_gives_nothing_away(drawn: list) -> None:
    earlier = sum(e.antecedent < e.distractor for pair in drawn for e in pair)
    assert earlier == len(drawn)


def test_training_never_sees_what_is_held_out(drawn: list) -> None:
    split = split_of(lexicons.load())
    assert len(split.frames) >= 15
    assert len(split.nouns) >= 40
    english = lexicons.load().english
    hidden = {noun.split("_")[-1] for noun in split.nouns} | {english.plural_of(noun) for noun in split.nouns}
    for pair in drawn:
        for example in pair:
            assert example.frame not in split.frames
            assert example.words[example.antecedent] not in hidden
            assert example.words[example.distractor] not in hidden


def test_held_out_sentences_are_held_out() -> None:
    lexicon = lexicons.load()
    split = split_of(lexicon)
    for pair in islice(pairs(lexicon, random.Random(1), split, held_out="frames", people=0), 50):
        assert pair[0].frame in split.frames
    for first, _ in islice(pairs(lexicon, random.Random(1), split, held_out="nouns", people=0), 50):
        assert first.frame not in split.frames


def test_the_grammar_repeats_itself_only_from_the_same_seed() -> None:
    lexicon = lexicons.load()
    one, again, other = (list(islice(pairs(lexicon, random.Random(seed)), 20)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_predicates_never_hold_and_fail_of_one_noun() -> None:
    lexicon = lexicons.load()
    assert all(predicate.true_of.isdisjoint(predicate.false_of) for predicate in lexicon.predicates)
    said = Counter(saying.kind for predicate in lexicon.predicates for saying in predicate.sayings)
    assert sum(said.values()) > 1500
    assert len(lexicon.features) > 1000


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nouns.txt", "animal cat dog", "nouns.txt, line 1: expected 'something : something'"),
        ("predicates.txt", "adj anmal : hungry", "predicates.txt, line 1: 'anmal' is neither a feature nor a noun"),
        ("predicates.txt", "noun cat : hungry", "line 1: unknown kind 'noun'; expected adj, vp, own or obj"),
        ("predicates.txt", "obj cat : fed", "line 1: 'fed' says nothing of 'it'"),
        ("frames.txt", "A sat | cat | dog", "frames.txt, line 1: expected 'FRAME with A and B"),
        ("frames.txt", "A saw B | cat | dog\n\tc is: big", "frames.txt, line 2: expected 'a is:'"),
    ],
)
def test_mistakes_in_the_lexicon_are_named(name: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = lexicons._features()
    known = frozenset().union(*features.values())

    class Folder:
        def joinpath(self, *parts: str) -> Folder:
            return self

        def read_text(self, encoding: str) -> str:
            return text

    monkeypatch.setattr(lexicons.resources, "files", lambda package: Folder())
    read = {
        "nouns.txt": lambda: lexicons._features(),
        "predicates.txt": lambda: list(lexicons._predicates(features, known)),
        "frames.txt": lambda: list(lexicons._frames(name, features, known)),
    }[name]
    with pytest.raises(ValueError, match=message):
        read()


@pytest.mark.parametrize(
    ("past", "base", "progressive", "third"),
    [
        ("sat", "sit", "sitting", "sits"),
        ("chased", "chase", "chasing", "chases"),
        ("carried", "carry", "carrying", "carries"),
        ("stopped", "stop", "stopping", "stops"),
        ("watched", "watch", "watching", "watches"),
        ("needed", "need", "needing", "needs"),
        ("lay", "lie", "lying", "lies"),
    ],
)
def test_verbs(past: str, base: str, progressive: str, third: str) -> None:
    english = lexicons.load().english
    assert english.base_of(past) == base
    assert english.progressive(base) == progressive
    assert english.third_person(base) == third


def test_plurals() -> None:
    english = lexicons.load().english
    nouns = ("cat", "box", "mouse", "baby", "toy", "sheep", "ice_cream", "fire_truck")
    assert [english.plural_of(noun) for noun in nouns] == [
        "cats", "boxes", "mice", "babies", "toys", "sheep", "ice_creams", "fire_trucks",
    ]  # fmt: skip


def test_words_and_their_numbers() -> None:
    vocabulary = Vocabulary(("it", "'s", "can", "n't", "cat", "sit", "box", "t-shirt", "happy"))
    shown, numbers = vocabulary.tokenize("It’s a Cat, can't BOXES sit 2?")
    assert shown == ["It", "’s", "a", "Cat", ",", "ca", "n't", "BOXES", "sit", "2", "?"]
    index = vocabulary.index
    assert numbers[:2] == [index["it"], index["'s"]]
    assert numbers[3] == index["cat"]
    assert numbers[5:9] == [index["can"], index["n't"], index["box"], index["sit"]]
    assert vocabulary.number("sitting") == index["sit"]
    assert vocabulary.number("happily") == index["happy"]
    assert vocabulary.number("t-shirt") == index["t-shirt"]
    unknown = vocabulary.number("zorg")
    assert Vocabulary.FIRST_BUCKET <= unknown < Vocabulary.FIRST_WORD
    assert unknown == vocabulary.number("zorg")
    assert vocabulary.number("zorging") != unknown
    assert words_of("It's a Cat, can't.") == ["it", "'s", "a", "cat", ",", "can", "n't", "."]


def test_vocabulary_holds_every_word_the_grammar_writes(drawn: list) -> None:
    vocabulary = build(lexicons.load(), ENGLISH, 100_000)
    missing = {word for pair in drawn for e in pair for word in e.words if word not in vocabulary.index}
    assert not missing
    assert not [noun for noun in lexicons.load().held_out[1] if noun in vocabulary.index]


def test_batches_have_one_length_and_point_at_what_they_mean() -> None:
    lexicon = lexicons.load()
    vocabulary = build(lexicon, ENGLISH, 9000)
    source = batches(lexicon, vocabulary, ENGLISH, split_of(lexicon), random.Random(1), size=16, pool=512)
    for batch in islice(source, 10):
        assert batch.ids_BL.min() > Vocabulary.PAD
        assert len(batch.pronoun_R) == len(batch.antecedent_R) <= len(batch.ids_BL)
        if len(batch.words_N):
            assert batch.places_N2[:, 0].min() >= len(batch.pronoun_R)
    example = next(pairs(lexicon, random.Random(1)))[0]
    one = assemble([example], [], vocabulary, random.Random(2))
    assert one.ids_BL[0, one.pronoun_R[0]] == vocabulary.index[example.words[example.pronoun]]


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole = train(TINY, tmp_path / "whole", ENGLISH)
    train(TINY, tmp_path / "parts", ENGLISH, stop_after=3)
    resumed = train(TINY, tmp_path / "parts", ENGLISH, resume=True)
    for (name, a), (_, b) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        "checkpoint.safetensors", "log.jsonl", "model.json", "model.safetensors",
    ]  # fmt: skip


def test_a_run_begins_with_the_parameters_of_a_trained_model(tmp_path: Path) -> None:
    trained = train(TINY, tmp_path / "before", ENGLISH)
    one = replace(TINY, steps=1, peak=1e-9, vocabulary=8000)
    after = train(one, tmp_path / "after", ENGLISH, start=tmp_path / "before")
    assert after.vocabulary == trained.vocabulary
    for (name, a), (_, b) in zip(trained.state_dict().items(), after.state_dict().items(), strict=True):
        torch.testing.assert_close(a.half().float(), b, rtol=0, atol=1e-6, msg=name)
    with pytest.raises(ValueError, match=r"holds a model of \{'width': 12.*this run makes one of \{'width': 24"):
        train(replace(one, size=Size(24, 2, 2, 16)), tmp_path / "other", ENGLISH, start=tmp_path / "before")


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = Run(
        steps=180,
        word_steps=5,
        pool=256,
        batch=32,
        vocabulary=9000,
        warmup=5,
        peak=1e-2,
        report_every=60,
        save_every=200,
        size=TINY.size,
    )
    train(run, tmp_path, ENGLISH)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["resolve"] + log[-1]["identity"] < log[0]["resolve"] + log[0]["identity"] - 0.6


def test_an_exported_model_comes_back(tmp_path: Path) -> None:
    model = Resolver(build(lexicons.load(), ENGLISH, 9000), TINY.size).eval()
    export(model, TINY, tmp_path, {"seconds": 1})
    again = load(tmp_path)
    assert again.vocabulary == model.vocabulary
    for (name, a), (_, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a.half().float(), b), name


def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save_model(tmp_path, {"x": torch.ones(2)}, {"n": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save_model(tmp_path, {"x": torch.zeros(2)}, {"n": 2})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert load_file(tmp_path / "model.safetensors")["x"].tolist() == [1, 1]


def test_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, peak=2.0, warmup=10) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == pytest.approx(2.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.04, rel=0.05)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no train.tsv in data; set FOVEATE_DATA"):
        read_english(tmp_path / "data" / "train.tsv")
    with pytest.raises(SystemExit, match=r"error: no train.tsv in tatoeba-en-fr"):
        main(["-o", str(tmp_path), "--data", str(tmp_path)])
    with pytest.raises(ValueError, match=r"nothing to resume: no checkpoint.safetensors"):
        train(TINY, tmp_path, ENGLISH, resume=True)
    with pytest.raises(ValueError, match=r"no model.safetensors in nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1\ttest\tThe cat slept.", "line 2: expected 6 columns, got 3"),
        ("1\tdev\tThe cat sat on it.\tit\tdog\tcat", "line 2: the sentence has no word 'dog'"),
        ("1\ttest\tThe cat sat on it.\tit\tcat\tit", "has no sentences of the part 'dev'; it has test"),
    ],
)
def test_hand_written_sentences_that_cannot_be_used(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"pair\tsplit\tsentence\tpronoun\tantecedent\tdistractor\n{line}\n")
    with pytest.raises(ValueError, match=said):
        evaluate.handwritten(path, Vocabulary(("it",)), "dev")
    with pytest.raises(SystemExit, match=f"error: .*{said}"):
        evaluate.main(["--handwritten", str(path)])
