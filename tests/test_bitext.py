"""The English-French grammar: its links, what it draws and what it holds out, and the command."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitexts import ADJECTIVES, LEXICON, SEEDS, SPLITS, few, nouns_of, some
from foveate.tasks.bitext import HELD_OUT, PHENOMENA, Sentence, generate
from foveate.tasks.bitext.__main__ import main
from foveate.tasks.bitext.draft import Draft, held_out, view
from foveate.tasks.bitext.drawing import SPLITS as SPLIT_NAMES
from foveate.tasks.bitext.drawing import split_of
from foveate.tasks.bitext.lexicon import Nouns, block
from foveate.tasks.bitext.morphology import conjugate
from foveate.tasks.bitext.relatives import relative_clause
from foveate.tasks.bitext.sentence import finish
from foveate.tasks.bitext.sentences import write_sentence

# Words without a sure link of their own; all others are content words.
ENGLISH = "to will is was the 's ' are of a an did it on were there does in has do up at be have for off am any long"
FRENCH = "de d' du des que qu' ne n' à au aux il y est-ce le la l' les un une se s' me m' nous vous en dont plus ce"
AUXILIARIES = [LEXICON.conjugations[verb] for verb in ("être", "avoir", "faire")]
SMALL_ENGLISH = set(f"{ENGLISH} down from about away how".split())
SMALL_FRENCH = set(f"{FRENCH} dans avec".split()).union(
    *({c.infinitive, c.participle, *c.present, *c.imperfect, *c.future} for c in AUXILIARIES)
)


@pytest.fixture(scope="module")
def train() -> list[Sentence]:
    return list(generate(1, 1500))


@pytest.fixture(scope="module")
def test() -> list[Sentence]:
    return list(generate(1, 600, split="test"))


# Links


@some
@given(SEEDS, SPLITS)
def test_links_are_in_range_and_sure_ones_are_possible(seed: int, split: str) -> None:
    for s in few(seed, split):
        assert s.sure <= s.possible
        assert {i for i, _ in s.possible} == set(range(len(s.source)))
        assert {j for _, j in s.possible} == set(range(len(s.target)))
        assert set(s.phenomena) <= set(PHENOMENA)


@some
@given(SEEDS, SPLITS)
def test_every_content_word_has_a_sure_link(seed: int, split: str) -> None:
    for s in few(seed, split):
        for side, words, small in ((0, s.source, SMALL_ENGLISH), (1, s.target, SMALL_FRENCH)):
            linked = {link[side] for link in s.sure}
            bare = {word for place, word in enumerate(words) if place not in linked}
            assert bare <= small, (bare - small, s)


def test_a_phenomenon_has_all_links_of_its_target_words(test: list[Sentence]) -> None:
    for s in test:
        for links in s.phenomena.values():
            assert links == {(i, j) for i, j in s.possible if j in {target for _, target in links}}


def error_rate(found: set[tuple[int, int]], s: Sentence) -> float:
    """Och & Ney 2003."""
    return 1 - (len(found & s.sure) + len(found & s.possible)) / (len(found) + len(s.sure))


@some
@given(SEEDS, st.randoms(use_true_random=False))
def test_the_error_rate_is_zero_for_sure_links_and_any_possible_ones(seed: int, rng: random.Random) -> None:
    for s in few(seed, "train", 4):
        optional = sorted(s.possible - s.sure)
        assert error_rate(set(s.sure), s) == 0
        assert error_rate(s.sure | set(rng.sample(optional, rng.randint(0, len(optional)))), s) == 0
        wrong = {(i, j) for i in range(len(s.source)) for j in range(len(s.target))} - s.possible
        assert error_rate(s.sure | {rng.choice(sorted(wrong))}, s) > 0
        assert error_rate(set(s.sure) - {rng.choice(sorted(s.sure))}, s) > 0


def test_not_is_surely_pas_and_possibly_ne(train: list[Sentence]) -> None:
    seen = 0
    for s in train:
        for i, word in enumerate(s.source):
            if word == "not":
                seen += 1
                assert [s.target[j] for k, j in s.sure if k == i] == ["pas"]
                extra = [(s.target[j], j) for k, j in s.possible - s.sure if k == i]
                assert [form for form, _ in extra] in (["ne"], ["n'"])
                if s.source[i - 1] in ("do", "does", "did"):
                    assert {j for k, j in s.possible if k == i} <= {j for k, j in s.possible if k == i - 1}
    assert seen > 100


def test_a_block_is_sure_in_its_content_words_and_possible_in_the_others() -> None:
    potatoes = block("here", ["potato"], ["pomme", "de", "terre"])
    assert (potatoes.sure, potatoes.possible) == (((0,), (), (0,)), ((), (0,), ()))
    machine = next(noun for noun in LEXICON.nouns if noun.name == "washing_machine").block
    assert (machine.french, machine.sure, machine.possible) == (
        ("machine", "à", "laver"), ((1,), (), (0,)), ((), (0,), ()),
    )  # fmt: skip


def test_links_of_a_contraction_are_sure_only_without_a_sure_article() -> None:
    de, le, chat = ("de", (), (0,), 0), ("le", (1,), (2,), 0), ("chat", (2,), (), 0)
    of_the_cat = finish(("of", "the", "cat"), [de, le, chat], frozenset())
    assert of_the_cat.target == ("du", "chat")
    assert (of_the_cat.sure, of_the_cat.possible) == ({(2, 1)}, {(0, 0), (1, 0), (2, 0), (2, 1)})
    wine = [("de", (0,), (), 0), ("le", (), (0, 1), 0), ("vin", (1,), (), 0)]
    assert finish(("some", "wine"), wine, frozenset()).sure == {(0, 0), (1, 1)}


# What is drawn


def test_a_source_has_one_translation_and_one_alignment() -> None:
    known: dict[tuple[str, ...], Sentence] = {}
    draw, again = random.Random(7).random, 0
    for _ in range(9000):
        draft = Draft(view(True), draw, relative_clause)
        tokens = write_sentence(draft, 3 + int(draw() * 5))
        s = finish(draft.english, tokens, LEXICON.aspirated)
        other = known.setdefault(s.source, s)
        again += other is not s
        assert (s.target, s.sure, s.possible) == (other.target, other.sure, other.possible)
    assert again > 500


@some
@given(SEEDS, SPLITS)
def test_the_seed_decides_and_a_shorter_run_is_the_beginning_of_a_longer_one(seed: int, split: str) -> None:
    first = few(seed, split)
    assert first == list(islice(generate(seed, 1000, lengths=(3, 40), split=split), len(first)))
    assert first != few(seed + 1, split)
    assert len({s.source for s in first}) == len(first)


def test_no_source_is_in_two_splits() -> None:
    drawn = {split: [s.source for s in generate(5, 250, lengths=(3, 4), split=split)] for split in SPLIT_NAMES}
    assert all(split_of(" ".join(source)) == split for split, sources in drawn.items() for source in sources)
    assert len({source for sources in drawn.values() for source in sources}) == sum(map(len, drawn.values())) == 750


def test_lengths_are_spread_evenly(train: list[Sentence]) -> None:
    lengths = Counter(len(s.source) for s in train)
    assert set(lengths) == set(range(3, 61))
    tens = [sum(lengths[n] for n in range(start, start + 10)) for start in range(11, 61, 10)]
    assert all(0.75 < ten / (len(train) * 10 / 58) < 1.25 for ten in tens)
    assert {len(s.source) for s in generate(1, 60, lengths=(20, 21))} == {20, 21}


def test_every_phenomenon_is_there(train: list[Sentence], test: list[Sentence]) -> None:
    assert {name for s in train for name in s.phenomena} == set(PHENOMENA) - {"held-out"}
    assert {name for s in test for name in s.phenomena} == set(PHENOMENA)


def adjective_pairs(sentences: list[Sentence]) -> list[tuple[str, str]]:
    """What stands before a noun and may be said of it."""
    return [
        (s.source[place - 1], noun.name)
        for s in sentences
        for place, noun, _ in nouns_of(s)
        if place and s.source[place - 1] in ADJECTIVES and noun in ADJECTIVES[s.source[place - 1]].nouns
    ]


def verb_pairs(sentences: list[Sentence]) -> list[tuple[str, str]]:
    """A verb, "the", and a noun that can be its object."""
    verbs = {
        form: verb
        for verb in LEXICON.verbs
        if verb.kind == "transitive" and verb.words == 1
        for form in (
            verb.english.base,
            verb.english.third,
            verb.english.past,
            verb.english.participle,
            verb.english.ing,
        )
    }
    return [
        (verbs[s.source[place - 2]].name, noun.name)
        for s in sentences
        for place, noun, _ in nouns_of(s)
        if place > 1 and s.source[place - 1] == "the" and s.source[place - 2] in verbs
        if noun in verbs[s.source[place - 2]].objects
    ]


@pytest.mark.parametrize("pairs", [adjective_pairs, verb_pairs])
def test_pairs_of_words_are_held_out(pairs: type[adjective_pairs], train: list[Sentence], test: list[Sentence]) -> None:
    assert len(pairs(train)) > 200
    assert not [pair for pair in pairs(train) if held_out(*pair)]
    assert [pair for pair in pairs(test) if held_out(*pair)]


REFLEXIVE = r"(get|gets|getting|wake|wakes|waking|sit|sits|sitting|hurry|hurries|hurrying|rest|rests|resting)"
COMBINED = {
    ("relative", "negation", "clitic"): r"\w (who|that) (do|does|did|will) not \w+ ((at|for|to) )?(him|me|us|it|them) ",
    ("question", "clitic-pair"): r"^(do|does|did|will) \w+ \w+ (it|them) to (him|her|us|me|them|you) ",
    ("near-future", "negation-other"): r"\b(am|is|are) (never|no longer) going to ",
    ("complement", "reflexive"): rf"\b\w+ that (i|he|she|we|you) (\w+ )?{REFLEXIVE} ",
}


@pytest.mark.parametrize("names", HELD_OUT)
def test_combinations_of_phenomena_are_held_out(names: tuple[str, ...]) -> None:
    pattern = re.compile(COMBINED[names])
    assert not [text for text in drawn(False) if pattern.search(text)]
    assert any(pattern.search(text) for text in drawn(True))


@cache
def drawn(everything: bool) -> list[str]:
    """Sources as the test split, or the others, draw them, and nouns with a relative clause."""
    draw, texts = random.Random(11).random, []
    man = next(noun for noun in LEXICON.nouns if noun.name == "man")
    for _ in range(2500):
        draft = Draft(view(everything), draw, relative_clause)
        write_sentence(draft, 5 + int(draw() * 12))
        texts.append(" ".join(draft.english))
        draft = Draft(view(everything), draw, relative_clause)
        draft.say_all(("the", "man"))
        relative_clause(draft, man, False, 9)
        texts.append(" ".join((*draft.english, ".")))
    return texts


def test_the_lexicon_is_no_toy() -> None:
    assert len([noun for noun in LEXICON.nouns if not noun.proper]) >= 150
    assert len({verb.french.infinitive for verb in LEXICON.verbs}) >= 80
    assert len(LEXICON.adjectives) >= 60
    assert all(verb.objects for verb in LEXICON.verbs if verb.kind in ("transitive", "ditransitive"))
    assert all(view(False).objects[verb] for verb in LEXICON.verbs if verb.objects)


# Errors, and the command


def test_errors_name_the_rule() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'; expected 'train', 'valid' or 'test'"):
        generate(0, 1, split="dev")
    with pytest.raises(ValueError, match=r"3 <= shortest <= longest; got \(2, 9\)"):
        generate(0, 1, lengths=(2, 9))
    with pytest.raises(ValueError, match="count must not be negative; got -1"):
        generate(0, -1)
    with pytest.raises(ValueError, match="here: a link of '0-3' points beyond 1 English and 1 French words"):
        block("here", ["cat"], ["chat"], "0-3")
    with pytest.raises(ValueError, match="here: 'terre' has no link; give it one"):
        block("here", ["potato"], ["pomme", "terre"], "0-0")
    with pytest.raises(ValueError, match="here: '-unicorn' is neither a class nor a noun"):
        Nouns(list(LEXICON.nouns)).select("here", "person -unicorn")
    with pytest.raises(ValueError, match="'chat' ends in none of -er, -ir, -re; list its forms"):
        conjugate("chat")


def test_running_out_of_short_sentences_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.tasks.bitext.drawing.PATIENCE", 50)
    with pytest.raises(
        ValueError, match=r"found only \d+ valid sentences of 3 to 3 words; ask for fewer, or for longer"
    ):
        list(generate(0, 10**6, lengths=(3, 3), split="valid"))


def test_the_command_writes_pairs_and_links(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    wanted = list(generate(3, 5, lengths=(4, 9), split="test"))
    options = ["--count", "5", "--seed", "3", "--lengths", "4-9", "--split", "test"]
    main([*options, "-o", str(tmp_path / "pairs.tsv"), "--pharaoh", str(tmp_path / "gold")])
    text = "".join(f"{' '.join(s.source)}\t{' '.join(s.target)}\n" for s in wanted)
    assert (tmp_path / "pairs.tsv").read_text(encoding="utf-8") == text
    for line, s in zip((tmp_path / "gold").read_text().splitlines(), wanted, strict=True):
        links = {re.fullmatch(r"(\d+)([-p])(\d+)", link).groups() for link in line.split()}  # type: ignore[union-attr]
        assert {(int(i), int(j)) for i, _, j in links} == s.possible
        assert {(int(i), int(j)) for i, kind, j in links if kind == "-"} == s.sure
    main(options)
    assert capsys.readouterr().out == text
    with pytest.raises(SystemExit, match="error: lengths must be"):
        main(["--lengths", "1-9"])
    with pytest.raises(SystemExit, match="2"):
        main(["--lengths", "nine"])
    assert "expected SHORTEST-LONGEST, as in 3-60; got 'nine'" in capsys.readouterr().err
