"""What all recipes share: batches, losses in shares, going on after a stop, words that training never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import foveate as fv
import made_texts
from foveate.nn import BidirectionalRNN
from foveate.tasks.classification import Classification
from foveate.tasks.encoders import Shape as Encoding
from foveate.tasks.encoders import WordVectors, neighbours
from foveate.tasks.recipe import Learning, Run, run
from foveate.tasks.tagging import Tagging
from foveate.tasks.training import Options
from foveate.tasks.words import UNKNOWN, Words, cut_words
from stopping import stopped_at

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {"width": 8, "hidden": 8, "heads": 2, "inner": 8, "buckets": 50}
OPTIONS = Options(epochs=2, peak=1e-2, warmup=2, patience=0, precision="float32", save_every=3, log_every=2)


def asked(folder: Path, recipe: Any, arch: str) -> Run[Any]:
    made = made_texts.write_verdicts if recipe is Classification else made_texts.write_tagged
    files = [made(folder / f"{name}{recipe.ending}", 40, seed) for seed, name in enumerate(("train", "valid"))]
    return Run(recipe, recipe.shapes(arch=arch, **TINY), *files, options=OPTIONS, cells=90)


def learning(folder: Path, recipe: Any, arch: str = "rnn") -> Learning[Any]:
    given = asked(folder, recipe, arch)
    examples = recipe.read(given.train, None, skip_bad=False).items
    ready = recipe(given.shape, recipe.learn(examples, given.shape))
    return Learning(ready, examples, examples[:5], cells=60)


@pytest.mark.parametrize("arch", ["rnn", "transformer"])
@pytest.mark.parametrize("recipe", [Classification, Tagging], ids=["classification", "tagging"])
def test_a_run_that_was_stopped_ends_where_it_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Any, arch: str
) -> None:
    given = asked(tmp_path, recipe, arch)
    run(given, tmp_path / "whole", quiet=True)
    with stopped_at(5):
        run(given, tmp_path / "parts", quiet=True)
    assert not (tmp_path / "parts" / "model.json").exists()
    run(given, tmp_path / "parts", resume=True, quiet=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    other = replace(given, shape=replace(given.shape, width=16))
    with pytest.raises(ValueError, match=r"shape\.width was 8 and is 16"):
        run(other, tmp_path / "parts", resume=True, quiet=True)


@pytest.mark.parametrize("recipe", [Classification, Tagging], ids=["classification", "tagging"])
def test_losses_are_those_of_each_example_alone(tmp_path: Path, recipe: Any) -> None:
    task = learning(tmp_path, recipe)
    model = task.model().double().eval()
    seen = 0
    for batch in task.batches(0, 0, 1):
        found = task.losses(model, batch)
        wanted = torch.zeros((), dtype=torch.float64)
        for one in batch.examples:
            logits_NO, target_N = task.recipe.logits(model, [one])
            wanted += F.cross_entropy(logits_NO, target_N, reduction="sum")
        torch.testing.assert_close(found.total.double(), wanted, rtol=1e-5, atol=1e-6)
        assert found.count == sum(map(task.recipe.choices, batch.examples))
        seen += len(batch.examples)
        assert len(batch.examples) == 1 or len(batch.examples) * max(map(task.recipe.size, batch.examples)) <= 60
    assert seen == len(task.train)


def test_several_processes_share_each_batch_and_one_without_a_share_has_gradients_of_zero(tmp_path: Path) -> None:
    task = learning(tmp_path, Classification)
    model = task.model()
    whole, empty = task.batches(3, 0, 1), 0
    for number, batch in enumerate(whole):
        shares = [task.batches(3, rank, 40)[number] for rank in range(40)]
        assert all(share.count == batch.count for share in shares)
        given = [one for share in shares if share.weight for one in share.examples]
        assert sorted(map(repr, given)) == sorted(map(repr, batch.examples))
        for share in (one for one in shares[-1:] if not one.weight):
            empty += 1
            found = task.losses(model, share)
            found.total.backward()
            assert found.total.item() == found.logged["loss"].item() == 0
            assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    assert empty == len(whole)


def test_epochs_have_other_batches_and_each_has_always_the_same(tmp_path: Path) -> None:
    task = learning(tmp_path, Classification)
    first, again, other = ([batch.examples for batch in task.batches(epoch, 0, 1)] for epoch in (0, 0, 1))
    assert first == again != other


def test_words_are_cut_where_people_would_and_none_is_lost() -> None:
    cuts = {
        "I don't think it's 3.5 stars...": ["I", "do", "n't", "think", "it", "'s", "3.5", "stars", "..."],
        "re-made, wasn’t it?": ["re-made", ",", "was", "n’t", "it", "?"],
        "wo n't 'tis": ["wo", "n't", "'", "tis"],
        "naïve 東京 <b>": ["naïve", "東京", "<", "b", ">"],
    }
    for text, words in cuts.items():
        assert cut_words(text) == words
        assert "".join(words) == "".join(text.split())


def test_words_that_are_not_known_have_vectors_by_their_letters() -> None:
    words = Words.learn([("The", "cat", "the", "cat", "dog")], buckets=1000)
    assert words.known == ("cat", "the")
    assert [words.number(word) for word in ("THE", "cat", "dog")] == [3, 2, UNKNOWN]
    assert Words.of_json(words.as_json()) == words
    vectors = WordVectors(words, 64).eval()
    with torch.no_grad():
        vectors.table.weight.zero_()
    likely, _, same = vectors(words.batch([("likely", "dogs", "likely")]))[0]
    assert torch.equal(likely, same)
    assert 0.5 < likely.norm() < 2
    plain = WordVectors(replace(words, buckets=0), 16).eval()
    first, second = plain(replace(words, buckets=0).batch([("likely", "dogs")]))[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [("kindness", "Happiness", 4), ("kindness", "happiness", 5), ("cat", "cats", 4), ("Cat", "cat", 6), ("a", "b", 1)],
)
def test_words_share_beginnings_endings_and_patterns(one: str, other: str, shared: int) -> None:
    batch = Words((), 1 << 40).batch([(one, other)])
    _, first, second = (set(part.tolist()) for part in batch.affixes_N.tensor_split(batch.starts_W[1:]))
    assert len(first & second) == shared


def test_heads_begin_at_their_neighbours() -> None:
    q_BHQD = torch.zeros(1, 5, 13, 4)
    _, weights = fv.attention(q_BHQD, q_BHQD, q_BHQD, bias=neighbours(5)())
    for head, distance in enumerate((-1, 1, -2, 2, -3)):
        assert int(weights[0, head, 6].argmax()) == 6 + distance
        assert weights[0, head, 6].max() > 0.4
    _, weights = fv.attention(q_BHQD[:, :4], q_BHQD[:, :4], q_BHQD[:, :4], bias=neighbours(4, ahead=True)())
    assert [int(weights[0, head, 6].argmax()) for head in range(2)] == [7, 8]
    assert weights[0, 2:, 6].max() < 0.1  # of 13 words: none is preferred


def test_padding_is_zero_and_training_hides_known_words() -> None:
    words = Words(("cat", "the"), 10)
    vectors = WordVectors(words, 4, unknown=0.999)
    batch = words.batch([("the", "cat"), ("cat",)])
    assert torch.equal(vectors.eval()(batch)[1, 1], torch.zeros(4))
    shown = vectors(batch)
    hidden = vectors.train()(batch)
    torch.testing.assert_close(hidden - shown, vectors.table.weight[UNKNOWN] - vectors.table(batch.numbers_BL)
                               * (batch.numbers_BL > 0)[..., None] - (batch.numbers_BL == 0)[..., None]
                               * vectors.table.weight[UNKNOWN])  # fmt: skip


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrence_from_both_ends_is_pytorchs_own_on_each_sequence(cell: str) -> None:
    B, L, M, H = 3, 5, 7, 6
    ours = BidirectionalRNN(M, H, layers=2, cell=cell).double()  # type: ignore[arg-type]
    theirs = getattr(torch.nn, cell.upper())(M, H // 2, 2, batch_first=True, bidirectional=True).double()
    state = {}
    for layer in range(2):
        for side, suffix in (("forwards", ""), ("backwards", "_reverse")):
            for name, tensor in getattr(ours, side)[layer].state_dict().items():
                state[name.replace("_l0", f"_l{layer}") + suffix] = tensor
    theirs.load_state_dict(state)
    x_BLM, lengths = torch.randn(B, L, M, dtype=torch.float64), [5, 2, 1]
    states, summary = ours(x_BLM, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        wanted, _ = theirs(x_BLM[row : row + 1, :length])
        torch.testing.assert_close(states[row, :length], wanted[0])
        torch.testing.assert_close(summary[row], torch.cat([wanted[0, -1, : H // 2], wanted[0, 0, H // 2 :]]))


def test_a_recurrence_says_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="unknown cell 'rnn'; expected 'gru' or 'lstm'"):
        BidirectionalRNN(3, 4, cell="rnn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden must be even, half of it for each direction; got 3"):
        BidirectionalRNN(3, 3)
    with pytest.raises(ValueError, match="layers must be at least 1; got 0"):
        BidirectionalRNN(3, 4, layers=0)
    with pytest.raises(ValueError, match="unknown must be at least 0"):
        Encoding(unknown=-0.1)
