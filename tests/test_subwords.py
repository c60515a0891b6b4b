"""Sub-words: texts come back, pieces stay inside words, nothing becomes a special token, training is repeatable."""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.tasks import subwords as module
from foveate.tasks.subwords import BEGIN, END, PAD, UNKNOWN, Encoded, Subwords, normalise, used

TEXTS = [
    "I don't know what it's about.",
    "The man who sees the cat isn't here, and we're late!",
    "How are you? I'm fine, thank you... they've gone to 12 cities.",
    "Je ne sais pas ce que c'est.",
    "L’homme qu’il voit n'est pas là, et aujourd'hui nous sommes en retard !",
    "Comment allez-vous ? Je vais bien, merci… ils sont allés dans 12 villes.",
    "deux jeunes hommes sont dehors près de l&apos; eau .",
    "the cats are outside near the water and the cat sees the men .",
]
TEXTS += [" ".join(reversed(text.split(" "))) for text in TEXTS]
NASTY = [
    "</s>",
    "<pad>",
    "<unk>",
    "<0x41>",
    "▁",
    "▁▁a",
    "a▁b",
    "\u00a0",
    "\u202f!",
    "e\u0301",
    "\n",
    "\0",
    "&apos;",
    "l'",
    "’s",
]
NASTY += ["日本", "🙂🏽‍❤️", "x\u0302\u0301", "\ud83d", "\ufeff", "￿", "12", "...", "?!", "Qu'est-ce", "don't", " "]
texts = st.one_of(st.text(), st.lists(st.sampled_from([*NASTY, *TEXTS[0].split(" ")])).map("".join))


@pytest.fixture(scope="module")
def learned() -> Subwords:
    return Subwords.train(TEXTS * 2, 700)


@given(texts)
@settings(deadline=None)
def test_normalised_text_has_single_spaces_and_is_composed(text: str) -> None:
    done = normalise(text)
    assert normalise(done) == done
    assert unicodedata.is_normalized("NFC", done)
    assert [c for c in done if c.isspace()] == [" "] * (len(done.split()) - 1 if done else 0)
    assert done == done.strip()
    done.encode()  # no surrogates


def test_normalised_text_is_otherwise_left_alone() -> None:
    assert normalise("  Va\u202f!\u00a0 Qu\u2019est-ce\t\n«e\u0301»  ") == "Va ! Qu’est-ce «é»"
    assert normalise("a\ud83d\ude00 b\ud83d") == "a😀 b\ufffd"


@given(texts)
@settings(deadline=None)
def test_every_text_comes_back_and_holds_no_special_token(learned: Subwords, text: str) -> None:
    one = learned.encode(text)
    assert learned.decode(one.ids) == normalise(text)
    assert min(one.ids, default=4) >= 4
    assert learned.pieces(one.ids) == list(one.pieces)


@given(texts)
@settings(deadline=None)
def test_words_are_counted_from_0_without_a_gap_and_hold_all_of_the_text(learned: Subwords, text: str) -> None:
    one = learned.encode(text)
    assert len(one) == len(one.words) == len(one.pieces)
    assert sorted(set(one.words)) == list(range(len(one.shown)))
    assert list(one.words) == sorted(one.words)
    assert "".join(one.shown) == normalise(text).replace(" ", "")
    for number, shown in enumerate(one.shown):
        assert learned.decode(i for i, word in zip(one.ids, one.words, strict=True) if word == number) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("l'homme qu'il L’HOMME jusqu'à", "l' homme qu' il L’ HOMME jusqu' à"),
        ("don't it's we're I’ve DON'T", "don 't it 's we 're I ’ve DON 'T"),
        ("she'd've y't'plaît j't'aime", "she 'd 've y' t' plaît j' t' aime"),
        ("aujourd'hui d’aujourd’hui o'clock", "aujourd'hui d’ aujourd’hui o' clock"),
        ("Va ! Quoi ?... Non!! ?!", "Va ! Quoi ? ... Non !! ? !"),
        ("est-ce 12,500 3rd A4", "est - ce 12 , 500 3 rd A 4"),
        ("the dogs' bone 'Sit'", "the dogs ' bone ' Sit '"),
        ("l&apos; herbe l&apos;herbe don &apos;t a &amp; b", "l&apos; herbe l&apos; herbe don &apos;t a &amp; b"),
        ("</s> a▁b ▁▁", "< / s > a ▁ b ▁▁"),
        ("❤️❤️ x̂́y", "❤️ ❤️ x̂́y"),
    ],
)
def test_what_a_word_is(learned: Subwords, text: str, words: str) -> None:
    assert list(learned.encode(text).shown) == words.split(" ")


def test_no_piece_spans_two_words(learned: Subwords) -> None:
    words = {f"▁{word}" for text in TEXTS for word in learned.encode(text).shown}
    pieces = learned.pieces(range(260, len(learned)))
    assert len(pieces) > 200
    assert [piece for piece in pieces if not any(piece in word for word in words)] == []


@given(st.lists(texts.map(normalise).flatmap(lambda t: st.sampled_from(t.split(" "))), max_size=6))
@settings(deadline=None)
def test_given_words_are_numbered_as_given(learned: Subwords, words: list[str]) -> None:
    one, joined = learned.encode_words(words), learned.encode(" ".join(words))
    assert (one.ids, one.pieces) == (joined.ids, joined.pieces)
    assert one.shown == tuple(words)
    for number, word in enumerate(words):
        assert learned.decode(i for i, w in zip(one.ids, one.words, strict=True) if w == number) == word


def test_given_words_may_be_empty_or_hold_white_space(learned: Subwords) -> None:
    one = learned.encode_words(["the", " ", "12\u00a0000", "cats"])
    by_word = [learned.decode(i for i, w in zip(one.ids, one.words, strict=True) if w == n) for n in range(4)]
    assert by_word == ["the", "", "12 000", "cats"]
    assert one.shown == ("the", "", "12 000", "cats")
    assert learned.encode_words([]) == Encoded((), (), (), ())


@given(st.lists(texts, max_size=4))
@settings(deadline=None)
def test_many_at_once_are_the_same_as_one_by_one(learned: Subwords, some: list[str]) -> None:
    assert learned.encode_batch(some) == [learned.encode(text) for text in some]
    assert [tuple(ids) for ids in learned.ids(some)] == [learned.encode(text).ids for text in some]


def test_decoding_anything_that_a_model_may_write(learned: Subwords) -> None:
    the = learned.encode("the").ids
    assert learned.decode([BEGIN, *the, PAD, UNKNOWN, *the, END, PAD]) == "the the"
    first = learned.pieces(range(len(learned))).index("<0xE2>")
    assert learned.decode([*the, first, *the]) == "the\ufffd the"
    space = learned.pieces(range(len(learned))).index("▁")
    assert learned.decode([space, space, *the, space]) == "the"


@given(st.lists(st.integers(0, 699)))
@settings(deadline=None)
def test_what_is_decoded_has_no_stray_white_space(learned: Subwords, ids: list[int]) -> None:
    text = learned.decode([i % len(learned) for i in ids])
    assert text == " ".join(text.split())


@given(texts)
@settings(deadline=None)
def test_spelling_what_was_encoded_is_the_same_again(learned: Subwords, text: str) -> None:
    one = learned.encode(text)
    assert learned.spell([BEGIN, *one.ids, END]) == one


@given(st.lists(st.integers(0, 699)))
@settings(deadline=None)
def test_spelling_anything_keeps_its_pieces_and_its_text(learned: Subwords, ids: list[int]) -> None:
    ids = [i % len(learned) for i in ids]
    one = learned.spell(ids)
    assert list(one.ids) == [i for i in ids if i > UNKNOWN]
    assert sorted(set(one.words)) == list(range(len(one.shown)))
    assert list(one.words) == sorted(one.words)


def test_spelling_cut_characters_keeps_the_words_behind_them(learned: Subwords) -> None:
    smile = learned.encode("🙂").ids[1:]
    words = [learned.encode(word).ids for word in ("the", "cat", "sees", "the", "water")]
    for cut in (smile[:1], smile[1:], smile[1:2] * 7):
        one = learned.spell([*cut, *(i for ids in words for i in ids)])
        assert one.shown[-5:] == ("the", "cat", "sees", "the", "water")
        assert one.shown[0].strip("\ufffd") == ""


def test_the_same_texts_give_the_same_file_in_any_order(tmp_path: Path, learned: Subwords) -> None:
    mixed = TEXTS * 2
    random.Random(3).shuffle(mixed)
    for name, subwords in (("a", learned), ("b", Subwords.train(TEXTS * 2, 700)), ("c", Subwords.train(mixed, 700))):
        subwords.save(tmp_path / name)
    first, *others = [(tmp_path / name).read_bytes() for name in "abc"]
    assert others == [first, first]


def test_size_and_frequency_are_limits() -> None:
    syllables = ["".join(pair) for pair in product("bdfglmnr", "aeiou")]
    many = [" ".join(map("".join, product(syllables, syllables[:9])))]
    assert [len(Subwords.train(many * 2, size)) for size in (600, 650)] == [600, 650]
    frequent = Subwords.train(TEXTS, 5000, min_frequency=8)
    assert len(frequent) < len(Subwords.train(TEXTS, 5000, min_frequency=4)) < 5000
    counts = "".join(TEXTS)
    assert {piece for piece in frequent.pieces(range(260, len(frequent))) if len(piece) == 1} == {
        "▁",
        *(c for c in set(counts) - {" "} if counts.count(c) >= 8),
    }


def test_a_pair_that_is_too_rare_is_not_merged() -> None:
    subwords = Subwords.train(["ab"] * 3 + ["a b"] * 9, 600, min_frequency=4)
    assert set(subwords.pieces(range(260, len(subwords)))) == {"▁", "a", "b", "▁a", "▁b"}


def test_only_the_most_frequent_of_many_characters_get_pieces() -> None:
    many = [chr(0x4E00 + i) for i in range(400)]
    subwords = Subwords.train(many * 2 + many[300:], 600)
    assert [c for c in many if c in set(subwords.pieces(range(len(subwords))))] == many[:69] + many[300:]


def test_rare_characters_are_bytes_and_join_nothing() -> None:
    subwords = Subwords.train(["ab☃cd", "ab☄cd"] + ["xy"] * 9 + ["a b c d"] * 9, 600)
    assert subwords.encode("☃").pieces == ("▁", "<0xE2>", "<0x98>", "<0x83>")
    assert not {"bc", "abc", "bcd", "☃", "☄"} & set(subwords.pieces(range(len(subwords))))


def test_special_tokens_come_first(learned: Subwords) -> None:
    assert learned.pieces([PAD, BEGIN, END, UNKNOWN]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert (PAD, BEGIN, END, UNKNOWN) == (0, 1, 2, 3)


def test_used_sub_words_are_sorted_and_keep_the_special_ones() -> None:
    found = used([[9, 5, 9], (7,), []])
    assert found.tolist() == [0, 1, 2, 3, 5, 7, 9]
    assert found.dtype == torch.int64


def test_a_saved_vocabulary_is_the_same_when_loaded(tmp_path: Path, learned: Subwords) -> None:
    learned.save(tmp_path / "subwords.json")
    again = Subwords.load(tmp_path / "subwords.json")
    assert len(again) == len(learned)
    assert again.encode_batch(TEXTS + NASTY) == learned.encode_batch(TEXTS + NASTY)
    assert [path.name for path in tmp_path.iterdir()] == ["subwords.json"]
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "subwords.json").read_bytes()


def _added(content: dict[str, Any]) -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"] = [{"id": 2, "content": "</s>", "special": True, **flags}]


def _swapped(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["<s>"], vocabulary["</s>"] = END, BEGIN


FOREIGN = {
    "added tokens": (_added, "different are its added_tokens"),
    "another order": (_swapped, "different are its ids"),
    "other words": (lambda c: c["pre_tokenizer"]["pattern"].update(Regex="a"), "different are its pre_tokenizer"),
    "no bytes": (lambda c: c["model"].update(byte_fallback=False), "different are its model's byte_fallback"),
    "normaliser": (lambda c: c.update(normalizer={"type": "NFC"}), "different are its normalizer"),
    "a bad merge": (lambda c: c["model"]["merges"].append(["q", "zz"]), "no tokenizers file, or broken"),
}


@pytest.mark.parametrize(("change", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_files_that_are_not_ours(tmp_path: Path, learned: Subwords, change: Any, message: str) -> None:
    path = tmp_path / "other.json"
    learned.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"^other\.json .*{message}"):
        Subwords.load(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": {"type": "BPE"'])
def test_files_that_are_broken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^a\.json holds no sub-words: it is no tokenizers file, or broken"):
        Subwords.load(tmp_path / "a.json")


def test_a_tokenizer_of_another_kind_and_a_missing_file(tmp_path: Path) -> None:
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "a.json"))
    with pytest.raises(
        ValueError, match=r"^a\.json does not hold sub-words of foveate; different are its .*model's type"
    ):
        Subwords.load(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"there is no file b\.json"):
        Subwords.load(tmp_path / "b.json")


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="at least 600 pieces, 260 for special tokens and bytes; got 599"):
        Subwords.train(TEXTS, 599)
    with pytest.raises(ValueError, match="no text to learn"):
        Subwords.train([" ", ""], 600)
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"at least 0 and below 1; got {dropout}"):
            Subwords.train(TEXTS, 600, dropout=dropout)


def test_without_tokenizers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for call in (lambda: Subwords.train(TEXTS, 600), lambda: Subwords.load(tmp_path / "a.json")):
        with pytest.raises(
            ModuleNotFoundError, match=r"^tokenizers is not installed; run: pip install 'foveate\[train\]'$"
        ):
            call()


def test_merges_are_left_out_at_random_only_when_asked(tmp_path: Path, learned: Subwords) -> None:
    Subwords.train(TEXTS * 2, 700, dropout=0.5).save(tmp_path / "a.json")
    subwords = Subwords.load(tmp_path / "a.json")
    plain = learned.encode_batch(TEXTS)
    assert subwords.dropout == 0.5
    assert subwords.encode_batch(TEXTS) == plain
    assert learned.encode_batch(TEXTS, chance=random.Random(1)) == plain
    some, again, other = (subwords.encode_batch(TEXTS, chance=random.Random(seed)) for seed in (1, 1, 2))
    assert some == again != other
    assert sum(map(len, some)) > sum(map(len, plain))
    for text, one in zip(TEXTS, some, strict=True):
        assert subwords.decode(one.ids) == normalise(text)
        for number, shown in enumerate(one.shown):
            assert subwords.decode(i for i, word in zip(one.ids, one.words, strict=True) if word == number) == shown


def test_all_pieces_that_can_be_drawn_are_known_before(learned: Subwords) -> None:
    subwords = Subwords(learned._description)
    some = [*TEXTS, "the" * 300]
    found = subwords.reachable(some)
    for dropout in (0.1, 0.5, 0.9):
        subwords.dropout = dropout
        drawn = [list(subwords.drawn_ids(some, random.Random(seed))) for seed in range(20)]
        assert {number for texts in drawn for ids in texts for number in ids} <= found
    assert {number for ids in learned.ids(some) for number in ids} <= found
    assert found < set(range(len(learned)))
    assert drawn[0] == list(subwords.drawn_ids(some, random.Random(0))) != drawn[1]
    assert [subwords.decode(ids) for ids in drawn[0]] == [normalise(text) for text in some]


@given(st.lists(texts, max_size=4))
@settings(deadline=None, max_examples=50)
def test_merging_without_chance_is_what_tokenizers_does(learned: Subwords, some: list[str]) -> None:
    never = Subwords(json.loads(json.dumps(learned._description)))
    never.dropout = 1e-300
    assert never.encode_batch(some, chance=random.Random(0)) == learned.encode_batch(some)


def test_very_long_words_are_not_cut_at_random(learned: Subwords) -> None:
    subwords = Subwords(learned._description)
    subwords.dropout = 0.3
    word = "the" * 300
    (one,) = subwords.encode_batch([word], chance=random.Random(0))
    assert one == learned.encode(word)
    assert len(one) > module.LONGEST and one.shown == (word,)
