"""A translator, from files of parallel text to a folder and back: what a run writes, loads, translates and shows."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import miniature
import oracle
from foveate.nn import search
from foveate.tasks.alignment import Reading
from foveate.tasks.corpus import read_pairs
from foveate.tasks.rows import Malformed
from foveate.tasks.subwords import BEGIN, END, PAD, UNKNOWN, Subwords
from foveate.tasks.training.loop import Stopped
from foveate.tasks.training.world import World
from foveate.tasks.translation import Sampling, Shape, Translator, forcing, load, save, store
from foveate.tasks.translation.metrics import bleu
from foveate.tasks.translation.task import TranslationTask
from foveate.tasks.translation.train import Run, run

KINDS = {"rnn": (miniature.RNN, 1.5e-2, 3), "transformer": (miniature.TRANSFORMER, 1e-2, 4)}
SOME = [pair.source for pair in miniature.pairs(7, seed=9)]
TEXTS = ["they have two cats.", *SOME, "I have six red dogs.", "you have", "I have four blue books and five cats."]
TINY = replace(miniature.RNN, width=8, hidden=12)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of the two kinds, trained when they are first asked for."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            torch.set_num_threads(1)
            here = tmp_path_factory.mktemp(kind)
            shape, peak, epochs = KINDS[kind]
            options = replace(
                miniature.OPTIONS, epochs=epochs, peak=peak, warmup=20, save_every=1000, log_every=10, seed=4
            )
            where = given(here, 800, shape=shape, options=options, half=kind == "rnn")
            run(where, here / "model", quiet=True)
            made[kind] = here / "model"
        return made[kind]

    return folder


def given(folder: Path, count: int = 240, **others: Any) -> Run:
    pairs = miniature.pairs(count)
    train, valid = miniature.write(folder / "train.tsv", pairs), miniature.write(folder / "valid.tsv", pairs[:20])
    return Run((train,), (valid,), **{"vocabulary": 600, "tokens": 200, **others})


@pytest.fixture(scope="module")
def exact(learned: Any) -> Any:
    """The trained translators in float64."""

    def translator(kind: str) -> Translator:
        found = load(learned(kind))
        return Translator(found.model.double(), found.subwords, found.shape, found.facts)

    return translator


# Learning


@pytest.mark.parametrize(("kind", "modules", "least"), [
    ("rnn", ["attention"], 0.8), ("transformer", [f"decoder.layers.{i}.cross_attention" for i in range(2)], 0.8),
])  # fmt: skip
def test_the_miniature_is_learned_and_its_numbers_aligned(
    kind: str, modules: list[str], least: float, learned: Any
) -> None:
    translator = load(learned(kind))
    assert translator.facts["trained"]["validation"]["BLEU"] > 90
    pairs, right = miniature.pairs(30), []
    for module in modules:
        found, total = 0, 0
        weights = translator.align([(p.source, p.target) for p in pairs], Reading((module,), "mean", "output"))
        for pair, weights_JI in zip(pairs, weights, strict=True):
            source, target = pair.source.split(), pair.target.split()
            for j, word in enumerate(target):
                if word in miniature.NUMBERS.values():
                    total += 1
                    found += miniature.NUMBERS.get(source[int(weights_JI[j].argmax())]) == word
        right.append(found / total)
    assert max(right) >= least, right


def test_what_a_run_writes(learned: Any) -> None:
    folder = learned("rnn")
    assert sorted(path.name for path in folder.iterdir()) == [
        "CARD.md", "checkpoint.safetensors", "curves.png", "epochs", "log.jsonl", "model.json", "model.safetensors",
        "pictures", "subwords.json",
    ]  # fmt: skip
    pictures = sorted((folder / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"epoch-{e:02d}.png" for e in (1, 2, 3)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (*pictures, folder / "curves.png"))
    examples = load(folder).facts["examples"]
    valid = {pair.source for pair in read_pairs([folder.parent / "valid.tsv"]).pairs}
    assert len(set(examples)) == 3 and set(examples) < valid
    tensors = load_file(folder / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16, torch.int32}
    assert {t.dtype for t in load_file(learned("transformer") / "model.safetensors").values()} == {
        torch.float32, torch.int64,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_is_true(kind: str, learned: Any) -> None:
    folder = learned(kind)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    translator = load(folder)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    parameters = sum(p.numel() for p in translator.model.parameters())
    assert f"{parameters:,} parameters,\n  {len(translator.subwords):,} sub-words" in card
    assert len(translator.subwords) < 600
    assert ("kept in float16" in card) == (kind == "rnn")
    last = lines[-1]
    assert f"Training: {KINDS[kind][2]} epochs, {last['step']:,} steps, " in card
    assert "on\n  1 thread in float32; seed 4." in card
    assert f"Chosen: {last['chosen']}." in card
    assert "Data: train.tsv, 800 pairs; read 800 lines, skipped none." in card
    valid = miniature.pairs()[:20]
    found = translator.translate([p.source for p in valid], beam=1)
    score, _ = bleu([t.text for t in found], [[p.target] for p in valid])
    assert re.search(
        rf"Validation on valid.tsv, 20 pairs \(greedy search,\s+sacrebleu tokenize=13a\): BLEU {score:g}\.", card
    )
    sizes = "width 32, hidden 48" if kind == "rnn" else "width 48, 2 + 2 layers, 4 heads, inner width 96"
    assert sizes in card
    assert translator.shape.name in card.splitlines()[0]


def test_a_card_of_several_processes_and_of_the_other_direction(tmp_path: Path) -> None:
    options = replace(miniature.OPTIONS, epochs=1)
    where = given(tmp_path, shape=TINY, options=options, tokens=4000, reverse=True)
    run(where, tmp_path / "model", quiet=True)
    card = (tmp_path / "model" / "CARD.md").read_text(encoding="utf-8")
    assert "240 pairs (second language to first); " in card
    translator = load(tmp_path / "model")
    french = set(translator.numbers(translator.subwords.encode("vous avez deux oiseaux rouges").ids))
    english = set(translator.numbers(translator.subwords.encode("you have two red birds").ids))
    assert UNKNOWN in french
    assert UNKNOWN not in english


# A run that is refused, stopped, resumed


def test_mistakes_are_found_before_anything_is_written(tmp_path: Path) -> None:
    where, out = given(tmp_path), tmp_path / "model"
    bad = tmp_path / "bad.tsv"
    bad.write_text("one\tun\ntwo\n", encoding="utf-8")
    for changed in (replace(where, train=(bad,)), replace(where, valid=(bad,))):
        with pytest.raises(Malformed, match=r"^bad.tsv:2: expected 2 columns"):
            run(changed, out, quiet=True)
    missing = replace(where, train=(tmp_path / "none.tsv",))  # what can be known without data comes first
    with pytest.raises(ValueError, match="unknown tokenize '14a'; sacrebleu has 'none', 'zh', '13a'"):
        run(replace(missing, tokenize="14a"), out, quiet=True)
    with pytest.raises(ValueError, match="width must be a multiple of heads; got width 8, heads 3"):
        run(replace(missing, shape=Shape(arch="transformer", width=8, heads=3)), out, quiet=True)
    with pytest.raises(ValueError, match=r"nothing to resume: no checkpoint.safetensors in model"):
        run(missing, out, resume=True, quiet=True)
    with pytest.raises(ValueError, match="a vocabulary needs at least 600 pieces"):
        run(replace(where, vocabulary=50), out, quiet=True)
    with pytest.raises(ValueError, match="tokens must be at least 1; got 0"):
        replace(where, tokens=0)
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match="smoothing must be at least 0 and less than 1; got "):
            replace(where, smoothing=smoothing)
        with pytest.raises(ValueError, match="subword_dropout must be at least 0 and less than 1; got "):
            replace(where, subword_dropout=smoothing)
    assert not out.exists()


def test_a_run_goes_on_with_the_same_things_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(miniature.OPTIONS, epochs=3)
    where = given(tmp_path, shape=replace(TINY, dropout=0.1), options=options, tokens=2000)
    run(where, tmp_path / "whole", quiet=True, judge=lambda translator: {"more": 1.0})
    out, asked = tmp_path / "model", []

    def interrupt(translator: Translator) -> dict[str, float]:
        asked.append(1)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGINT)
        return {"more": 1.0}

    with pytest.raises(Stopped):
        run(where, out, quiet=True, judge=interrupt)
    assert not (out / "model.json").exists()
    other = miniature.write(tmp_path / "other.tsv", [*miniature.pairs()[:-1], miniature.pairs(1, seed=7)[0]])
    few = miniature.write(tmp_path / "few.tsv", miniature.pairs()[:-1])
    for changed, told in (
        (replace(where, options=replace(options, seed=2)), "the options it began with: seed was 1 and is 2"),
        (replace(where, train=(other,)), r"the task it began with: checksum of the pairs was \d+ and is \d+"),
        (replace(where, train=(few,)), r"pairs was 240 and is 239, checksum of the pairs was"),
        (replace(where, valid=(few,)), r"the task it began with: checksum of validation was \d+ and is \d+"),
        (
            replace(where, shape=replace(where.shape, hidden=14)),
            "the task it began with: shape.hidden was 12 and is 14",
        ),
        (replace(where, tokens=100), "the task it began with: tokens was 2000 and is 100"),
        (replace(where, smoothing=0.0), "the task it began with: smoothing was 0.1 and is 0.0"),
        (replace(where, subword_dropout=0.1), "the task it began with: subword_dropout was 0.0 and is 0.1"),
        (replace(where, tokenize="char"), "the task it began with: tokenize was 13a and is char"),
    ):
        with pytest.raises(ValueError, match=told):
            run(changed, out, resume=True, quiet=True)
    monkeypatch.setattr(Subwords, "train", None)  # those that are there are used
    run(where, out, quiet=True, world=World(restarted=True), judge=lambda translator: {"more": 1.0})
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", out))
    assert all(torch.equal(a[name], b[name]) for name in a | b)
    logs = [re.sub(r'"(seconds|tokens/s)": [\d.]+', "", (folder / "log.jsonl").read_text(encoding="utf-8"))
            for folder in (tmp_path / "whole", out)]  # fmt: skip
    assert logs[0] == logs[1]
    assert '"more": 1.0' in logs[0]


def test_a_new_run_leaves_no_old_model_with_new_subwords(tmp_path: Path) -> None:
    options = replace(miniature.OPTIONS, epochs=1)
    where = given(tmp_path, shape=TINY, options=options, tokens=4000)
    run(where, tmp_path / "model", quiet=True)
    load(tmp_path / "model")

    def fail(translator: Translator) -> dict[str, float]:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        run(where, tmp_path / "model", quiet=True, judge=fail)
    with pytest.raises(ValueError, match=r"no model.json in model; train one first, or name another folder"):
        load(tmp_path / "model")


# Folders that hold no translator


def test_folders_that_do_not_load(learned: Any, tmp_path: Path) -> None:
    files = {
        name: (learned("rnn") / name).read_bytes() for name in ("model.json", "model.safetensors", "subwords.json")
    }
    facts = json.loads(files["model.json"])
    tensors = load_file(learned("rnn") / "model.safetensors")

    def refused(told: str, **changed: bytes | None) -> None:
        for name, data in {**files, **{k.replace("_", "."): v for k, v in changed.items()}}.items():
            (tmp_path / name).unlink(missing_ok=True)
            if data is not None:
                (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=told) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)

    def described(**others: Any) -> bytes:
        return json.dumps({k: v for k, v in {**facts, **others}.items() if v is not None}).encode()

    def holding(others: dict[str, torch.Tensor]) -> bytes:
        save_file(others, tmp_path / "x")
        return (tmp_path / "x").read_bytes()

    refused("no model.json in .*; train one first", model_json=None)
    refused("no model.safetensors in .*; train one first", model_safetensors=None)
    refused("no sub-words: there is no file subwords.json", subwords_json=None)
    refused("holds a model for 'resolve', not for translation", model_json=described(task="resolve"))
    refused("holds a model for 'something else', not for translation", model_json=described(task=None))
    refused("model.json in .* is cut off or of another kind: ", model_json=files["model.json"][:-30])
    refused("model.json in .* is cut off or of another kind: expected an object, got list", model_json=b"[1]")
    for size in (0, 5, 300, len(files["model.safetensors"]) - 1):
        cut = files["model.safetensors"][:size]
        refused("model.safetensors in .* is cut off or of another kind: ", model_safetensors=cut)
    refused("subwords.json holds no sub-words", subwords_json=b"{}")
    refused("a reading has the keys head, modules", model_json=described(reading={"head": 0}))
    together = "^the files in .* do not belong together: "
    refused(together + "no 'shape'", model_json=described(shape=None))
    refused(together + ".*'depth'", model_json=described(shape={**facts["shape"], "depth": 2}))
    refused(together + "unknown arch 'gru'", model_json=described(shape={**facts["shape"], "arch": "gru"}))
    refused(together + ".*size mismatch", model_json=described(shape={**facts["shape"], "hidden": 50}))
    refused(together + "no 'embedding.outputs'", model_safetensors=holding({"x": torch.ones(1)}))
    wide = {**tensors, "embedding.outputs": torch.arange(700)}
    refused(together + "outputs must be ascending", model_safetensors=holding(wide))
    (tmp_path / "model.safetensors").write_bytes(files["model.safetensors"])
    assert load(tmp_path).translate(["they have two cats."])[0].text


def test_a_saved_translator_is_the_same(exact: Any, tmp_path: Path) -> None:
    made = exact("rnn")
    save(tmp_path / "new" / "folder", made.model.float(), made.subwords, made.shape, {"trained": {}, "note": "x"})
    again = load(str(tmp_path / "new" / "folder"))
    assert again.facts["note"] == "x"
    assert [t.text for t in again.translate(SOME)] == [t.text for t in made.translate(SOME)]
    made.model.double()


# Translating


@pytest.mark.parametrize("kind", KINDS)
def test_texts_keep_their_order_whatever_the_batch(kind: str, exact: Any) -> None:
    translator = exact(kind)
    together = translator.translate(TEXTS)
    assert [t.source for t in together] == TEXTS
    assert len({len(t.source_tokens) for t in together}) > 3
    for text, found, small in zip(TEXTS, together, translator.translate(TEXTS, tokens=1), strict=True):
        (alone,) = translator.translate([text])
        assert found.text == alone.text == small.text
        assert found.score == pytest.approx(alone.score, rel=1e-9)
        assert found.source_words == translator.subwords.encode(text).shown
        oracle.close(found.weights.dense(), alone.weights.dense())
    assert translator.translate([]) == []


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_beam_of_one_takes_the_best_each_time(kind: str, exact: Any) -> None:
    translator = exact(kind)
    for found in translator.translate(TEXTS, beam=1):
        ids = [*translator.subwords.encode(found.source).ids, END]
        steps = translator.model.steps(torch.tensor([ids]), torch.tensor([len(ids)]))
        tokens, scores, token = [], [], BEGIN
        while token != END and len(tokens) < 2 * len(ids) + 10:
            logits = steps.advance(torch.tensor([token]))[0]
            logp = logits.log_softmax(-1)
            logp[[PAD, BEGIN, UNKNOWN]] = -torch.inf
            token = int(logp.argmax())
            tokens.append(token)
            scores.append(float(logp[token]))
        written = translator.subwords.spell(translator.model.embedding.outputs[tokens[:-1]].tolist())
        assert found.tokens == written.pieces
        assert found.words == written.shown
        assert found.text == translator.subwords.decode(written.ids)
        assert found.finished == (token == END)
        total = sum(found.token_scores)
        assert found.score == pytest.approx(total / search.length_norm(float(len(tokens)), 1.0))
        assert list(found.token_scores) == pytest.approx(scores, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_reading_the_translation(kind: str, exact: Any) -> None:
    translator = exact(kind)
    for found in translator.translate(TEXTS, nbest=3):
        for one in (found, *found.alternatives):
            assert one.finished
            assert one.forced.token_scores == pytest.approx(one.token_scores, rel=1e-9, abs=1e-12)
            assert len(one.token_scores) == len(one.tokens) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_come_first(kind: str, exact: Any) -> None:
    translator = exact(kind)
    best, few = translator.translate(TEXTS), translator.translate(TEXTS, nbest=4)
    for one, found in zip(best, few, strict=True):
        every = [found, *found.alternatives]
        assert len(every) == 4
        assert one.text == found.text and not one.alternatives
        assert [t.score for t in every] == sorted((t.score for t in every), reverse=True)
        assert len({t.tokens for t in every}) == 4
        assert {t.source for t in every} == {found.source}
    assert len(translator.translate(TEXTS[:1], beam=1, nbest=3)[0].alternatives) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read(kind: str, exact: Any) -> None:
    translator = exact(kind)
    for found in translator.translate(TEXTS):
        weights = found.weights.dense()
        heads = 1 if kind == "rnn" else 4
        assert weights.shape == (heads, len(found.tokens) + 1, len(found.source_tokens) + 1)
        oracle.close(weights.sum(-1), torch.ones(weights.shape[:2], dtype=torch.float64))
        words = found.word_weights
        assert words.shape == (len(found.words), len(found.source_words))
        sums = words.sum(-1)
        assert (((sums - 1).abs() < 1e-9) | (sums == 0)).all()
        assert all(0 <= s < len(found.source_words) and 0 <= t < len(found.words) for s, t in found.alignment)
    blind = translator.translate(TEXTS[:2], weights=False)
    assert [t.weights for t in blind] == [t.word_weights for t in blind] == [t.alignment for t in blind] == [None] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_translations(kind: str, exact: Any) -> None:
    translator = exact(kind)

    def texts(**options: Any) -> list[list[str]]:
        found = translator.translate(SOME, nbest=3, sampling=Sampling(**options), weights=False)
        return [[t.text, *(a.text for a in t.alternatives)] for t in found]

    assert texts(temperature=3.0, seed=4) == texts(temperature=3.0, seed=4)
    assert texts(temperature=3.0, seed=4) != texts(temperature=3.0, seed=5)
    greedy = [t.text for t in translator.translate(SOME, beam=1)]
    assert texts(top_k=1) == [[text] * 3 for text in greedy]
    assert texts(top_p=1e-9) == [[text] * 3 for text in greedy]


def test_special_tokens_are_never_written() -> None:
    task = miniature.task()
    model = task.model()
    with torch.no_grad():
        model.embedding.bias[[PAD, BEGIN, UNKNOWN]] = 100.0
        model.embedding.bias[5] = 90.0
    for options in ({"beam": 1}, {"beam": 3}, {"sampling": Sampling()}):
        (found,) = task.translator(model).translate(SOME[:1], **options)
        (wanted,) = task.data.subwords.pieces([int(task.data.outputs[5])])
        assert set(found.tokens) == {wanted}


def test_what_cannot_be_translated(exact: Any) -> None:
    translator = exact("rnn")
    with pytest.raises(ValueError, match=r"^text 2 of 3 is empty$"):
        translator.translate(["a", " \t", "b"])
    with pytest.raises(ValueError, match=r"texts must be a list of texts; one alone goes in as \[text\]"):
        translator.translate("they have two cats.")
    with pytest.raises(ValueError, match="beam must be at least 1; got 0"):
        translator.translate(["a"], beam=0)
    with pytest.raises(ValueError, match="nbest must be at least 1; got 0"):
        translator.translate(["a"], nbest=0)
    assert [t.text for t in translator.translate(text for text in SOME[:2])] == [
        t.text for t in translator.translate(SOME[:2])
    ]
    (empty,) = translator.align([("they have .", "")])
    assert empty.shape == (0, 3)
    odd = translator.translate(["\u200b", "日本 \U0001f600", "x" * 300])
    assert all(t.text or not t.tokens for t in odd)


@pytest.mark.parametrize(("name", "megabytes"), [("en-fr", 12), ("en-fr-fixed", 8)])
def test_what_comes_with_the_package_translates_and_stays_small(name: str, megabytes: int) -> None:
    files = [path for path in (store.BUILTIN / name).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= megabytes * 10**6
    with pytest.raises(ValueError, match=r"no built-in translator 'de-en'; there is en-fr, en-fr-fixed"):
        store.builtin("de-en")
    (found,) = store.builtin(name).translate(["I'm hungry."])
    assert found.text == "J'ai faim."
    assert store.builtin(name).has_attention == (name == "en-fr")


# Reading given translations


@pytest.mark.parametrize("kind", KINDS)
def test_given_pairs_do_not_know_each_other(kind: str, exact: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = exact(kind)
    encode = translator.subwords.encode
    texts = {"they have": "ils ont six livres verts", "I have two cats.": "ils", "you": "zzz", "a b": ""}
    pairs = [(encode(source), encode(target)) for source, target in texts.items()]
    together = list(translator.force(pairs))
    monkeypatch.setattr(forcing, "GROUP", 3)
    monkeypatch.setattr(forcing, "TOKENS", 12)
    for pair, one, small in zip(pairs, together, translator.force(iter(pairs)), strict=True):
        (alone,) = translator.force([pair])
        assert (one.source, one.target) == pair
        for found in (one, small):
            assert found.token_scores == pytest.approx(alone.token_scores, rel=1e-9)
            assert list(found.maps) == list(alone.maps)
            for name, weights in found.maps.items():
                assert weights.shape[1:] == (len(pair[1]) + 1, len(pair[0]) + 1)
                oracle.close(weights.dense(), alone.maps[name].dense())
    assert list(translator.force([])) == []


def test_words_are_not_aligned_with_what_closes_the_source() -> None:
    translator = store.builtin("en-fr")
    pair = ("I see a black cat .", "je vois un chat noir .")
    (raw,) = translator.force_words([pair])
    (read,) = translator.align([pair])
    dot = raw.source.words.index(5)
    assert float(raw.maps["attention"].dense()[0, :5, dot].max()) > 0.01
    (candidates,) = translator.candidates([pair])
    for weights in (read, *candidates.values()):
        assert not weights[:5, 5].any()
        assert weights[5, 5] > 0
    torch.testing.assert_close(candidates[translator.reading], read)


def test_a_fixed_vector_translates_and_shows_nothing() -> None:
    task = miniature.task()
    shape = replace(TINY, attention="none")
    task = TranslationTask(task.data, shape)
    translator = task.translator(task.model())
    (found,) = translator.translate(SOME[:1], nbest=2)
    assert found.weights is None and found.word_weights is None and found.alignment is None
    with pytest.raises(ValueError, match="a model with one fixed vector has no attention to look at"):
        translator.force([])
