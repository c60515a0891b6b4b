"""The benchmarks of translation: peers compute what ours does, test sets are looked at once, clocks and tables are
right."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveate.tasks import alignment
from foveate.tasks.bitext import generate
from foveate.tasks.bucketing import Bitext, batches, in_length_order
from foveate.tasks.subwords import BEGIN, END, PAD
from foveate.tasks.translation import Shape
from foveate.tasks.translation.shape import build

FOLDER = Path(__file__).parent.parent / "benchmarks"
B, S, T, V = 3, 5, 7, 61
LENGTHS = torch.tensor([5, 2, 3])
OUTPUTS = torch.tensor([0, 1, 2, 3, *range(5, V, 2)])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def sentences() -> tuple[Tensor, Tensor]:
    source_BS = torch.randint(4, V, (B, S))
    source_BS[torch.arange(S) >= LENGTHS[:, None]] = PAD
    return source_BS, torch.randint(4, 11, (B, T))


def stirred(model: nn.Module) -> nn.Module:
    """Every parameter moved, so that none is the 0 or 1 it began with."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize(("arch", "plain"), [("rnn", "PlainRNN"), ("transformer", "PlainTransformer")])
def test_plain_models_compute_what_ours_do(
    module: Callable[[str], Any], sentences: tuple[Tensor, Tensor], arch: Any, plain: str
) -> None:
    peers = module("peers")
    shape = Shape(arch, width=14, hidden=22, heads=7, layers=3, inner=13)
    ours: Any = stirred(build(shape, V, OUTPUTS))
    theirs = getattr(peers, plain)(V, shape).eval()
    peers.give(ours, theirs)
    (source_BS, target_BT), outputs = sentences, ours.embedding.outputs
    hidden = ours(source_BS, LENGTHS, target_BT)
    torch.testing.assert_close(theirs.hidden(source_BS, LENGTHS, outputs[target_BT]), hidden, rtol=1e-5, atol=1e-5)
    logits = theirs(source_BS, LENGTHS, outputs[target_BT])
    torch.testing.assert_close(logits[..., outputs], ours.logits(hidden), rtol=1e-5, atol=1e-5)


def test_marian_computes_and_finds_what_ours_does(
    module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, peers = module("translation_search"), module("peers")
    shape = Shape("transformer", width=12, heads=3, layers=2, inner=17, dropout=0.0)
    ours: Any = stirred(search.transformer(shape, V, OUTPUTS))
    ours.embedding.bias.data[END] = 50.0  # but for `endless`, all would end at once
    batch = next(in_length_order([[5, 9, 30, 8], [7, 7], [44, 6, 5]], 100))
    theirs = search.marian_of(ours, shape, batch)  # raises where logits differ
    work = search.Work(batch, [9] * B)
    endless = search.endless(ours)
    theirs.final_logits_bias[0, END] = peers.NEVER
    found = search.ours(endless, work)
    assert found == search.theirs(theirs, False, work)
    assert all(len(one) == 9 for one in found)
    assert peers.marian_parameters(V, shape) == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    monkeypatch.setattr(search, "give_marian", lambda own, other: None)
    with pytest.raises(AssertionError, match="not close"):
        search.marian_of(ours, shape, batch)


def test_a_marian_of_about_so_many_parameters(module: Callable[[str], Any]) -> None:
    peers = module("peers")
    for wanted in (2_000_000, 5_000_000, 11_000_000):
        shape = peers.marian_like(wanted, 8000)
        others = [replace(shape, width=width, inner=4 * width) for width in (shape.width - 16, shape.width + 16)]
        off, *more = (abs(peers.marian_parameters(8000, s) - wanted) for s in (shape, *others))
        assert off <= min(more) and off < 0.12 * wanted


def test_our_loop_pauses_between_blocks(module: Callable[[str], Any]) -> None:
    training = module("translation_training")
    inner = batches(Bitext([[4] * n for n in range(1, 12)], [[5] * n for n in range(1, 12)]), tokens=24)
    heard: list[int] = []
    paused = training.Paused(inner, 2, 3, lambda: heard.append(sum(map(len, paused.watch.blocks))))
    assert len(paused) == 8
    for index in range(len(paused)):
        assert torch.equal(paused[index].index_B, inner[index % len(inner)].index_B)
    paused.watch.end()
    paused.close()
    assert heard == [2, 4, 6, 8]
    assert [step.tokens for block in paused.watch.blocks for step in block] == [
        inner[index % len(inner)].tokens for index in range(8)
    ]
    assert len(paused.watch.paces("wall")) == 3  # the first block warms up


def test_the_plain_loop_learns_and_counts_what_is_predicted(module: Callable[[str], Any]) -> None:
    training, task = module("translation_training"), importlib.import_module("foveate.tasks.translation.task")
    texts = [task.Pair(" ".join(s.source), " ".join(s.target)) for s in generate(1, 40, lengths=(3, 8))]
    data = task.prepare(texts, [], 600)
    shape = Shape("rnn", width=8, hidden=8, dropout=0.0, state_dropout=0.0)
    training.check(data, shape)
    order = training.shuffled(len(texts), 16)
    plain = training.PLAIN["rnn"](len(data.subwords), shape)
    loop = training.PlainLoop(plain, data, order, smoothing=0.1, clip=1.0, half=False)
    before = plain.embedding.weight.clone()
    loop.block(3)  # one pass: 16, 16 and 8 sentences
    assert sum(step.tokens for step in loop.watch.blocks[0]) == data.train.targets.lengths.sum() + len(texts)
    assert loop.cells > sum(step.tokens for step in loop.watch.blocks[0])
    assert not torch.equal(plain.embedding.weight, before)


def test_bands_hold_each_sentence_once(module: Callable[[str], Any]) -> None:
    multi30k = module("multi30k")
    lengths = [1, 8, 9, 11, 12, 14, 19, 20, 24, 25, 60]
    found = multi30k.bands(lengths)
    assert list(found) == ["1-8", "9-11", "12-14", "15-19", "20-24", "25+"]
    assert [[lengths[i] for i in rows] for rows in found.values()] == [
        [1, 8],
        [9, 11],
        [12, 14],
        [19],
        [20, 24],
        [25, 60],
    ]


def test_what_was_measured_is_not_measured_again(
    module: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, path = module("corpora").kept, tmp_path / "new" / "results.jsonl"
    answers = iter([{"BLEU": 1.0}, {"BLEU": 2.0}, {"BLEU": 3.0}])
    assert kept(path, {"split": "test"}, lambda: next(answers))["BLEU"] == 1.0
    assert kept(path, {"split": "valid"}, lambda: next(answers))["BLEU"] == 2.0
    with path.open("a") as file:
        file.write('{"split": "oth')  # a writer that was killed
    assert capsys.readouterr().out == ""
    assert kept(path, {"split": "test"}, lambda: next(answers))["BLEU"] == 1.0
    assert "measured before" in capsys.readouterr().out
    assert kept(path, {"split": "other"}, lambda: next(answers))["BLEU"] == 3.0
    assert kept(path, {"split": "other"}, lambda: next(answers))["BLEU"] == 3.0


def test_error_rates_of_two_directions(module: Callable[[str], Any]) -> None:
    rates = module("links").rates
    pairs = [("a b c", "x y z"), ("d e", "v w")]
    gold = [frozenset({(0, 1), (1, 2), (2, 0)}), frozenset({(0, 0), (1, 1)})]
    both = {"forward": gold, "backward": gold}
    right = [torch.tensor([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]), torch.eye(2)]  # (target, source)
    wrong = [torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.2, 0.3], [0.1, 0.4, 0.5]]), torch.eye(2)]
    found = rates(pairs, both, wrong, [weights.T for weights in right])
    assert found["backward"] == found["backward, both ends"] == found["eflomal forward"] == 0
    assert found["forward"] == round(1 - 2 * 4 / 10, 4)
    assert found["both ends"] == 0
    assert found["diagonal"] == round(1 - 2 * 2 / 10, 4)
    assert "both models" not in rates(pairs, both, wrong, None)
    assert rates(pairs, both, right, [weights.T for weights in right])["both models"] == 0


def test_the_clock_is_what_the_learning_rate_follows(module: Callable[[str], Any]) -> None:
    tatoeba, now = module("tatoeba"), iter(np.arange(0.0, 1000.0, 10.0))
    clock = tatoeba.Clock(100.0, 0.0, lambda: float(next(now)))
    rates = [clock.rate() for _ in range(11)]
    assert rates[:2] == [pytest.approx(0.9 / 0.96), pytest.approx(0.8 / 0.96)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == rates[-2] == 0
    assert tatoeba.Clock(100.0, 0.0, lambda: 3.0).rate() == 0
    later = iter([0.0, 2.0])
    assert tatoeba.Clock(100.0, 0.0, lambda: next(later)).rate() == pytest.approx(0.5)
    assert tatoeba.Clock(100.0, 80.0, lambda: 5.0).seconds == 80  # resumed


def test_the_trainer_reads_targets_one_step_behind(module: Callable[[str], Any]) -> None:
    tatoeba = module("tatoeba")
    data = tatoeba.Pairs([[7, 8, 9], [5]], [[4], [6, 5]])
    batch = tatoeba.collate([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[7, 8, 9, END], [5, END, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[4, END, -100], [6, 5, END]]
    assert batch["decoder_input_ids"].tolist() == [[BEGIN, 4, PAD], [BEGIN, 6, 5]]


def test_a_missing_package_is_named(module: Callable[[str], Any]) -> None:
    with pytest.raises(SystemExit, match="Trainer needs nonsense_package: pip install nonsense_package"):
        module("tatoeba").needed("nonsense_package")


@pytest.fixture
def multi30k(module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, with tiny settings and sentences of the grammar in the place of Multi30k's."""
    folder = tmp_path / "data" / "multi30k"
    folder.mkdir(parents=True)
    for split, count in (("train", 24), ("valid", 6), ("test2016", 7)):
        some = list(generate(1, count, lengths=(3, 9)))
        for side, name in (("en", "source"), ("fr", "target")):
            lines = (" ".join(getattr(s, name)) + "\n" for s in some)
            (folder / f"{split}.{side}").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setenv("FOVEATE_DATA", str(tmp_path / "data"))
    command = module("multi30k")
    tiny = {
        "shape": {"arch": "transformer", "width": 8, "heads": 2, "layers": 1, "inner": 8},
        "options": {"epochs": 1, "warmup": 1},
        "vocabulary": 600,
        "tokens": 200,
        "smoothing": 0.1,
    }
    monkeypatch.setitem(command.SETTINGS, "transformer", tiny)
    monkeypatch.setattr(command, "installed", lambda: True)
    fake = [alignment.diagonal(3, 3)] * (24 + 7)
    monkeypatch.setattr(alignment, "eflomal_links", lambda pairs: (fake[: len(pairs)], fake[: len(pairs)]))
    return command


def test_multi30k_from_training_to_figures(
    multi30k: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there, back = tmp_path / "en-fr", tmp_path / "fr-en"
    arch = ["--arch", "transformer", "--threads", "1"]
    assert multi30k.main(["--pair", "fr-en", *arch, "-o", str(back)]) == 0
    assert multi30k.main([*arch, "-o", str(there), "--reverse-model", str(back)]) == 0
    out = capsys.readouterr().out
    assert "= Multi30k fr-en, Transformer, test2016 |" in out
    assert "= Multi30k en-fr, Transformer, test2016 |" in out and "goal >= 62" in out
    assert "both models " in out and "tok:none" in out
    found = [json.loads(line) for line in (there / "results.jsonl").read_text().splitlines()]
    assert [line["what"] for line in found] == ["BLEU", "AER"]
    assert sum(band["sentences"] for band in found[0]["by_length"].values()) == 7
    assert len((there / "test2016.fr").read_text().splitlines()) == 7
    monkeypatch.setattr(multi30k, "translated", None)
    assert multi30k.main(["--evaluate", str(there), "--reverse-model", str(back)]) == 0
    assert capsys.readouterr().out.count("measured before") == 2
    assert multi30k.main([*arch, "-o", str(there)]) == 2
    assert "go on with --resume" in capsys.readouterr().err


def test_multi30k_needs_a_folder(multi30k: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        multi30k.main([])
    assert "name a folder to train in (-o DIR), or one to measure" in capsys.readouterr().err


def test_data_that_is_not_there_is_named(
    module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="there is no tatoeba-en-fr: set FOVEATE_DATA"):
        module("corpora").data_folder("tatoeba-en-fr")
    told, pairs = module("corpora").training_pairs(9)
    assert "grammar" in told and len(pairs) == 9


def test_a_folder_without_a_model_is_named(multi30k: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no model.safetensors in nothing; train one first"):
        multi30k.main(["--evaluate", str(tmp_path / "nothing")])
