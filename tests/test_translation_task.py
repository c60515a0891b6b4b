"""Translation as the training loop sees it: losses, who a task is, and what its options may be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import miniature
import oracle
from foveate.tasks.bucketing import Bitext
from foveate.tasks.corpus import Pair
from foveate.tasks.training import Options
from foveate.tasks.translation import Shape
from foveate.tasks.translation.metrics import bleu
from foveate.tasks.translation.task import TranslationTask, prepare

TINY = replace(miniature.RNN, width=8, hidden=12)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_of_real_tokens_only(smoothing: float) -> None:
    task = miniature.task(dropout=0.0, smoothing=smoothing)
    model = task.model().double()
    for batch in task.batches(0, 0, 1):
        found = task.losses(model, batch)
        wanted = plain = torch.zeros((), dtype=torch.float64)
        for b, (source, target) in enumerate(zip(batch.source_lengths_B, batch.target_lengths_B, strict=True)):
            hidden = model(
                batch.source_BS[b : b + 1, :source],
                batch.source_lengths_B[b : b + 1],
                batch.target_in_BT[b : b + 1, :target],
            )
            logits, words = model.logits(hidden)[0], batch.target_out_BT[b, :target]
            wanted = wanted + F.cross_entropy(logits, words, reduction="sum", label_smoothing=smoothing)
            plain = plain + F.cross_entropy(logits, words, reduction="sum")
        oracle.close(found.total, wanted)
        oracle.close(found.logged["loss"], plain)
        assert found.count == int(batch.target_lengths_B.sum())


@pytest.mark.parametrize("shape", [*(replace(TINY, attention=a) for a in ("additive", "dot", "general", "none")),
                                   replace(miniature.TRANSFORMER, width=8)], ids=lambda shape: shape.name)  # fmt: skip
def test_a_process_without_rows_has_gradients_of_zero(shape: Shape) -> None:
    task = TranslationTask(miniature.task(extra=[("one " * 40, "un " * 40)]).data, shape, tokens=96)
    batches = [(a, b) for a, b in zip(task.batches(0, 0, 2), task.batches(0, 1, 2), strict=True) if not len(b.index_B)]
    assert batches
    model = task.model().train()
    for first, empty in batches:
        found = task.losses(model, empty)
        assert found.count == task.losses(model, first).count > 0
        assert found.total.item() == found.logged["loss"].item() == 0
        found.total.backward()
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_who_a_task_is() -> None:
    task, same = miniature.task(), miniature.task()
    assert json.loads(json.dumps(task.identity())) == same.identity()
    data = task.data
    moved = Bitext([[4, 5], [6]], [[4], [5, 6]]), Bitext([[4], [5, 6]], [[4], [5, 6]])
    sums = [TranslationTask(replace(data, train=b), task.shape).identity()["checksum of the pairs"] for b in moved]
    assert sums[0] != sums[1]
    valid = [TranslationTask(replace(data, valid=v), task.shape).identity()["checksum of validation"]
             for v in ([Pair("a", "b")], [Pair("a", "b"), Pair("a", "c")], [Pair("a", "é")])]  # fmt: skip
    assert len(set(valid)) == 3


def test_parameters_follow_from_the_seed() -> None:
    torch.manual_seed(3)
    after = torch.rand(1)
    torch.manual_seed(3)
    task = miniature.task()
    one, same, other = task.model(), task.model(), miniature.task(seed=2).model()
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embedding.table, other.embedding.table)


def test_words_are_cut_otherwise_in_each_epoch() -> None:
    task = miniature.task(subword_dropout=0.3)
    told = [batch_texts(task, epoch) for epoch in (0, 1, 0)]
    assert told[0] == told[2] != told[1]
    assert told[0] == batch_texts(miniature.task(subword_dropout=0.3), 0)
    assert told[0] != batch_texts(miniature.task(subword_dropout=0.3, seed=2), 0)
    decode, outputs = task.data.subwords.decode, task.data.outputs
    read = {(decode(source), decode(outputs[list(target)].tolist())) for source, target in told[0]}
    assert read == {(pair.source, pair.target) for pair in miniature.pairs(24)}
    assert len(outputs) > len(miniature.task().data.outputs)
    assert task.identity() != miniature.task(subword_dropout=0.2).identity()
    plain = miniature.task()
    assert {id(plain.batches(epoch, 0, 1).bitext) for epoch in range(3)} == {id(plain.data.train)}


def batch_texts(task: TranslationTask, epoch: int) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Numbers of all pairs of an epoch, without special tokens."""
    found = set()
    for batch in task.batches(epoch, 0, 1):
        rows = zip(batch.source_BS, batch.source_lengths_B, batch.target_out_BT, batch.target_lengths_B, strict=True)
        found |= {(tuple(s[: n - 1].tolist()), tuple(t[: m - 1].tolist())) for s, n, t, m in rows}
    return found


def test_bleu_with_several_references() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["the cat sat on the mat", "two dogs ran"]
    score, signature = bleu(said, [["the cat sat on a mat", "the cat sits on the mat"], ["two dogs run"]])
    wanted = sacrebleu.corpus_bleu(said, [["the cat sat on a mat", "two dogs run"], ["the cat sits on the mat", None]])
    assert score == pytest.approx(wanted.score)
    assert "tok:13a" in signature and "version:" in signature
    for tokenize, told in (
        ("14a", "unknown tokenize '14a'; sacrebleu has"),
        ("ja-mecab", "'ja-mecab' cannot be used: "),
    ):
        with pytest.raises(ValueError, match=told):
            TranslationTask(prepare([Pair("a b", "c d")], [Pair("a", "c")], 600), TINY, tokenize=tokenize)
    with pytest.raises(ValueError, match="smoothing must be at least 0 and less than 1; got 1"):
        miniature.task(smoothing=1)


def test_shapes_out_of_range() -> None:
    with pytest.raises(ValueError, match="unknown arch 'lstm'; expected 'rnn' or 'transformer'"):
        Shape(arch="lstm")  # type: ignore[arg-type]
    for name in ("dropout", "state_dropout", "head_dropout"):
        with pytest.raises(ValueError, match=f"^{name} must be at least 0 and less than 1; got 1.0"):
            Shape(**{name: 1.0})  # type: ignore[arg-type]
    assert Options().precision == "auto"
