"""A translation behind the page: its rows are what the model read, its steps what it wrote, and all of it survives the
way into a file. Models are random and small; nothing is trained."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.apps import cli, export, terminal
from foveate.apps.errors import UserError
from foveate.apps.translation import FIXED, TranslationModel, open_folder, tokens_of
from foveate.tasks.translation import Translator, save
from foveate.views.document import Beside
from foveate.views.source import Source
from test_export import array, data_of
from translators import SUBWORDS, TARGET, TEXT, forced, quiet, shown, translator


@pytest.fixture(scope="module")
def rnn() -> Translator:
    return translator()


@pytest.fixture(scope="module")
def source(rnn: Translator) -> Source:
    return shown(rnn)


# what the page is told


def test_both_rows_are_the_sub_words_of_the_texts_and_their_ends(source: Source) -> None:
    (texts,) = source.document().sequences
    words = {
        side: ["".join(tokens.text[i] for i, w in enumerate(tokens.word) if w == n) for n in set(tokens.word)]
        for side, tokens in (("source", texts.source), ("target", texts.side("target")))
    }
    assert words == {"source": [*TEXT.split(), "</s>"], "target": ["<s>", *TARGET.split(), "</s>"]}
    for tokens in (texts.source, texts.side("target")):
        assert {text for text, special in zip(tokens.text, tokens.special, strict=True) if special} <= {"<s>", "</s>"}
        assert sum(tokens.special) == len({"<s>", "</s>"} & set(tokens.text))
    assert len(texts.side("target")) > len(words["target"])  # some word has several sub-words


@pytest.mark.parametrize(
    "shape", [{}, {"attention": "dot"}, {"attention": "general"}, {"arch": "transformer"}], ids=str
)
def test_rows_are_what_the_model_read(shape: Any) -> None:
    made = translator(**shape)
    source, one = shown(made), forced(made)
    calls = {call.name: call for call in source.document().calls}
    for module, weights in one.maps.items():
        call = calls[module]
        assert (call.kind, call.rows, call.columns, call.offset) == ("cross", "target", "source", 1)
        for t in range(call.queries):
            found = source.row(call.index, 0, t, "reads", "token")
            torch.testing.assert_close(found, weights[:, t].float(), rtol=1e-4, atol=1e-6)


def test_a_decoder_that_looks_at_its_own_words_looks_at_those_before() -> None:
    source = shown(translator(arch="transformer"))
    document = source.document()
    (call, *_) = [call for call in document.calls if call.kind == "decoder"]
    target = document.sequences[0].side("target")
    rows, columns = source.axes(call.index, 0)
    assert rows.tokens.text[rows.offset] == "deux" and columns.tokens.text[columns.offset] == "<s>"
    assert rows.length == columns.length == len(target) - 1
    for t in (0, 3):
        row = source.row(call.index, 0, t, "reads", "token")
        assert (row[:, t + 1 :] == 0).all()
        torch.testing.assert_close(row.sum(-1), torch.ones(2))


def test_the_alignment_of_a_transformer_is_read_one_step_later_and_shown_so() -> None:
    made = translator(arch="transformer")
    assert made.reading.shift == "input"
    source, one = shown(made), forced(made)
    document = source.document()
    assert document.focus is not None
    call = document.calls[document.focus.call]
    assert call.label == "cross alignment, layer 0" and "once a word was written" in " ".join(document.notes)
    expected = one.word_weights(made.reading)
    for w, weights in enumerate(expected):
        if one.target.words.count(w) == 1:
            row = source.row(call.index, 0, w, "reads", "word").mean(0)[:-1]
            torch.testing.assert_close(row / row.sum(), weights, rtol=1e-4, atol=1e-6)


def test_steps_are_the_tokens_and_their_probabilities(rnn: Translator, source: Source) -> None:
    document, one = source.document(), forced(rnn)
    assert document.decoding is not None
    (steps,) = document.decoding.steps
    target = document.sequences[0].side("target")
    assert [step.token for step in steps] == list(range(1, len(target)))
    for step, score in zip(steps, one.token_scores, strict=True):
        came = step.alternatives[step.chosen]
        assert came.probability == pytest.approx(math.exp(score), rel=1e-3)
        assert came.text.removeprefix("…") == target.text[step.token]
        others = [one.probability for n, one in enumerate(step.alternatives) if n != 5]
        assert others == sorted(others, reverse=True) and len(others) == 5
    assert {len(step.alternatives) for step in steps} == {5, 6}  # a given word may be none of the five best
    assert document.decoding.calls == (0,)


def test_alternatives_that_say_the_same_are_told_apart() -> None:
    from foveate.apps.translation import _told_apart

    assert _told_apart(["▁ici", "là", "ici", "▁", "</s>", "<0xC3>"]) == ["ici", "là", "…ici", "", "</s>", "<0xC3>"]


def test_a_translation_of_its_own_is_what_translate_gives(rnn: Translator) -> None:
    (found,) = rnn.translate([TEXT])
    document = shown(rnn, target=None, fixed=translator(2, attention="none")).document()
    assert document.message == found.text
    assert document.title == TEXT
    assert document.decoding is not None
    (steps,) = document.decoding.steps
    probabilities = [step.alternatives[step.chosen].probability for step in steps]
    np.testing.assert_allclose(probabilities, np.exp(found.token_scores), rtol=1e-3)
    assert found.finished == (document.sequences[0].side("target").text[-1] == "</s>")
    assert not found.finished  # it babbles up to the limit, and then no end was written
    (beside,) = document.beside
    answer = translator(2, attention="none").translate([TEXT])[0].text
    assert beside == Beside(FIXED, answer or "(nothing)")
    assert shown(rnn, fixed=rnn).document().beside == (Beside("RNN, additive attention", found.text),)


def test_a_given_translation_is_said_to_be_given(rnn: Translator, source: Source) -> None:
    assert source.document().message == TARGET
    assert source.document().beside == ()
    assert any("was given" in note for note in source.document().notes)
    assert shown(rnn, target=None).document().notes == ()


def test_bytes_of_one_character_are_one_character() -> None:
    tokens = tokens_of(SUBWORDS.encode("le 😀 é"), end=True)
    assert [text for text in tokens.text if text] == ["le", "😀", "é", "</s>"]
    assert tokens.text[list(tokens.text).index("😀") + 1] == ""
    whole = "".join(text for text, number in zip(tokens.text, tokens.word, strict=True) if number == 1)
    assert whole == "😀"


@pytest.mark.parametrize(
    ("text", "target", "sentence"),
    [
        ("how " * 600, None, r"The text has \d+ tokens; RNN, additive attention takes at most 511. Shorten the text."),
        ("how", "tapis " * 600, r"The target has \d+ tokens; .* Shorten the target."),
        ("how", " ", "There is no word in this target."),
    ],
)
def test_what_cannot_be_translated_is_told(rnn: Translator, text: str, target: str | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        shown(rnn, text, target)


def test_a_model_without_attention_has_nothing_to_show() -> None:
    with pytest.raises(UserError, match="one fixed vector and no attention to look at"):
        TranslationModel(translator(attention="none"))


# folders


def test_a_folder_is_opened_with_what_it_holds(rnn: Translator, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert open_folder(folder) is None
    save(folder, rnn.model, SUBWORDS, rnn.shape, {"examples": ["how are you ?"]})
    model = open_folder(folder)
    assert model is not None and (model.name, model.examples) == ("mine", ["how are you ?"])
    torch.testing.assert_close(
        model.run(TEXT, TARGET, quiet).row(0, 0, 2, "reads", "token"), shown(rnn).row(0, 0, 2, "reads", "token")
    )
    (folder / "subwords.json").write_text("{}")
    with pytest.raises(UserError, match="holds no sub-words"):
        open_folder(folder)
    (folder / "model.json").write_text('{"task": "resolve"}')
    assert open_folder(folder) is None


def test_view_opens_a_folder(rnn: Translator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "mine", tmp_path / "page.html"
    folder.mkdir()
    save(folder, rnn.model, SUBWORDS, rnn.shape, {})
    given = ["--text", TEXT, "--target", TARGET, "--export", str(page)]
    for way in ([str(folder)], ["--model", str(folder)]):
        assert cli.main(["view", *way, *given]) == 0
        assert capsys.readouterr().out.strip() == str(page)
        document = data_of(page.read_text(encoding="utf-8"))["document"]
        assert (document["title"], document["message"], document["model"]) == (TEXT, TARGET, "mine")
    assert cli.main(["view", str(folder), "--model", str(folder)]) == 2
    assert "leave out --model" in capsys.readouterr().err


# in a file


def test_a_file_holds_the_weights_that_a_page_cannot_compute(source: Source) -> None:
    data = data_of(export.page_of(source))
    (call,) = data["calls"]
    assert call["score"] == {"name": "additive", "scale": None, "softcap": None}
    dense = {name: array(data, call["dense"][name]) for name in ("weights", "scores", "statistic")}
    np.testing.assert_allclose(dense["weights"], source.maps[0].dense().numpy(), rtol=1e-5)
    pair = source.pair(0, 0, 0, 3, 2)
    assert dense["scores"][0, 0, 3, 2] == pytest.approx(pair["score"], rel=1e-4)
    assert dense["statistic"][0, 0, 3] == pytest.approx(pair["logsumexp"], rel=1e-5)
    assert (call["dense"]["normalizer"], call["dense"]["statistic_name"]) == ("softmax", "log-sum-exp")


# in the terminal


def test_the_terminal_shows_words_by_words_in_percent(rnn: Translator) -> None:
    one = forced(rnn)
    weights, out = one.word_weights(rnn.reading), io.StringIO()
    terminal.alignment(one.source.shown, one.target.shown, weights, file=out)
    header, *rows = out.getvalue().splitlines()
    assert header.split() == list(one.source.shown)
    ends = [match.end() for match in re.finditer(r"\S+", header)]
    for name, row, line in zip(one.target.shown, rows, weights.tolist(), strict=True):
        assert row.split()[0] == name
        shares = [re.sub(r"\D", "", row[end - 3 : end]) for end in ends]
        assert shares == [str(round(100 * w)) if round(100 * w) else "" for w in line]


def test_a_long_alignment_goes_on_below_in_80_columns() -> None:
    names = [f"word{i}" for i in range(30)]
    weights = torch.eye(30) * 0.96 + 0.04 / 30
    out = io.StringIO()
    terminal.alignment(names, names, weights, file=out)
    bands = out.getvalue().split("\n\n")
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert [name for band in bands for name in band.splitlines()[0].split()] == names
    assert [line.split()[0] for band in bands for line in band.splitlines()[1:]] == names  # each beside what it reads
    assert out.getvalue().count("96") == 30


@pytest.mark.parametrize(
    ("columns", "rows", "weights", "expected"),
    [
        ([], ["a"], [[]], ["", "a"]),
        (["a"], [], [], ["     a"]),
        (["a"], ["unaligned"], [[0.0]], ["             a", "unaligned"]),
        (
            ["猫が", "b"],
            ["e\u0301", "\x1b[1m"],
            [[1.0, 0.0], [0.0, 1.0]],
            ["      猫が   b", "   e\u0301  #100", "?[1m      #100"],
        ),
    ],
)
def test_small_and_strange_alignments(columns: list[str], rows: list[str], weights: Any, expected: list[str]) -> None:
    out = io.StringIO()
    terminal.alignment(columns, rows, weights, file=out)
    assert out.getvalue().splitlines() == expected
