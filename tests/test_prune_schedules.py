"""Schedules of pruning, on a translator that learned a miniature language in seconds."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
import miniature
from foveate.heads.pruning.moments import Moments, moments
from foveate.heads.pruning.order import eliminate, ranked, until
from foveate.heads.pruning.prune import prunable, prune, record_of
from foveate.heads.pruning.switches import Switches
from foveate.tasks.pruning import Plan, run
from foveate.tasks.pruning.choosing import mean_loss
from foveate.tasks.pruning.gates import GatedTask, Gates
from foveate.tasks.pruning.translating import TranslatorSubject
from foveate.tasks.translation import load
from foveate.tasks.translation.train import Run
from foveate.tasks.translation.train import run as train

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = miniature.pairs(320)
TUNE = replace(miniature.OPTIONS, epochs=1, peak=2e-3, warmup=2, average=1, save_every=2)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    here = tmp_path_factory.mktemp("learned")
    files = [miniature.write(here / "train.tsv", PAIRS), miniature.write(here / "valid.tsv", PAIRS[:20])]
    options = replace(miniature.OPTIONS, epochs=6, warmup=20, save_every=1000, seed=4)
    train(
        Run(files[:1], files[1:], miniature.TRANSFORMER, options, vocabulary=600, tokens=700, pictures=0),
        here / "model",
        quiet=True,
    )
    return here / "model"


def subject(folder: Path, *, trains: bool = False) -> TranslatorSubject:
    return TranslatorSubject(load(folder), PAIRS[:40], PAIRS if trains else None, most=20)


def test_switching_heads_off_is_what_pruning_them_does(learned: Path) -> None:
    made = subject(learned)
    units = Switches(made.model).units
    with Switches(made.model) as switches:
        whole = mean_loss(made)
        switches.off = units[::3]
        without = mean_loss(made)
        switches.off = []
        assert mean_loss(made) == whole
    assert mean_loss(made) == whole
    prune(made.model, until(units[::3], len(units)))
    assert mean_loss(made) == pytest.approx(without, abs=1e-5) != pytest.approx(whole, abs=1e-3)


def test_elimination_takes_the_best_head_each_time_and_goes_on_where_it_stopped(learned: Path) -> None:
    made = subject(learned)
    steps = list(eliminate(made.model, lambda: mean_loss(made), 5))
    first = {}
    with Switches(made.model) as switches:
        for unit in switches.units:
            switches.off = [unit]
            first[unit] = mean_loss(made)
    assert steps[0].loss == min(first.values())
    assert steps[0].unit == min(first, key=lambda unit: first[unit])
    assert len({step.unit for step in steps}) == 5
    again = list(eliminate(made.model, lambda: mean_loss(made), 5, before=steps[:2]))
    assert again == steps[2:]
    calls: list[int] = []

    def counted() -> float:
        calls.append(1)
        return mean_loss(made)

    some = list(eliminate(made.model, counted, 4, probes=3))
    assert len(calls) == len(first) + 3 * 3
    assert some[0] == steps[0]
    with pytest.raises(ValueError, match="probes must be at least 1; got 0"):
        list(eliminate(made.model, counted, 4, probes=0))


def refitted(made: TranslatorSubject) -> dict[str, Moments]:
    return moments(made.model, lambda: mean_loss(made))


def test_heads_that_stay_stand_in_for_those_that_go(learned: Path, tmp_path: Path) -> None:
    made = subject(learned)
    state = {name: t.clone() for name, t in made.model.state_dict().items()}
    units = Switches(made.model).units[::3]
    found = refitted(made)
    with Switches(made.model) as switches:
        switches.off = units
        alone = mean_loss(made)
    with Switches(made.model, stand_ins=found) as switches:
        switches.off = units
        wanted = mean_loss(made)
    assert wanted < alone
    record = prune(made.model, until(units, 99), stand_ins=found)
    assert mean_loss(made) == pytest.approx(wanted, abs=1e-4)
    path = "encoder.layers.0.attention"
    prune(made.model, {path: (0,)}, stand_ins=refitted(made))  # again, by new moments
    prune(made.model, {path: (0,)})  # and without any
    assert not record.kept[path]
    made.save(tmp_path)
    for one in (record, record_of(load(tmp_path).model)):
        assert one is not None
        one.restore()
        assert all(torch.equal(t, state[name]) for name, t in one.model.state_dict().items())
    with pytest.raises(ValueError, match="has 4 heads; the moments are of 3"):
        prune(made.model, {path: (0,)}, stand_ins={path: replace(found[path], mean_C=torch.zeros(36))})


def test_what_was_trained_loses_only_what_refits_added(learned: Path) -> None:
    made = subject(learned)
    path = "encoder.layers.0.attention"
    output = made.model.get_submodule(path).output
    weight, bias = output.weight.detach().clone(), output.bias.detach().clone()
    pruned = prune(made.model, {path: (1,)}, stand_ins=refitted(made))
    assert not output.bias.equal(bias)
    output.bias.data += 0.5
    output.weight.data -= 0.25
    prune(made.model, {path: (2,)}, stand_ins=refitted(made))  # 3, by its first number
    pruned.restore()
    assert output.bias.detach() == pytest.approx(bias + 0.5, abs=1e-5)
    wide = weight.shape[1] // 4
    expected = weight - 0.25
    expected[:, wide : 2 * wide] += 0.25  # gone before it was trained
    assert output.weight.detach() == pytest.approx(expected, abs=1e-5)


def test_a_copy_of_a_head_stands_in_for_it_exactly() -> None:
    torch.manual_seed(0)
    layer = fv.nn.MultiHeadAttention(24, 3, bias=False)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            weight = getattr(layer, name).weight
            weight[8:16] = weight[:8]
    x = torch.randn(4, 50, 24)
    wanted = layer(x).detach()
    found = moments(layer, lambda: layer(x))
    plain = copy.deepcopy(layer)
    prune(plain, {"": (1,)})
    prune(layer, {"": (1,)}, stand_ins=found)
    near, far = (float((one(x).detach() - wanted).abs().max()) for one in (layer, plain))
    assert near < 0.05 * far


def test_a_ranking_goes_by_units_and_wants_all_heads(learned: Path) -> None:
    model = load(learned).model
    names = [(path, head) for path, units in prunable(model).items() for (head,) in units]
    importance = {name: float(place) for place, name in enumerate(reversed(names))}
    order = ranked(model, importance)
    assert [(path, head) for path, (head,) in order] == list(reversed(names))
    with pytest.raises(ValueError, match="it has none for head 3 of decoder"):
        ranked(model, {name: 0.0 for name in names if name != ("decoder.layers.1.cross_attention", 3)})


@pytest.mark.parametrize("rank", ["greedy", "leave-one-out", "gradient"])
def test_half_of_the_heads_at_once(rank: str, learned: Path, tmp_path: Path) -> None:
    made = subject(learned)
    report = run(Plan(0.5, rank=rank), made, tmp_path)
    assert (report.before["heads"], report.after["heads"]) == (24, 12)
    assert report.after["parameters"] < report.before["parameters"]
    found = load(tmp_path)
    assert found.model.state_dict().keys() == made.model.state_dict().keys()
    assert subject(tmp_path).measure() == {"BLEU": report.after["BLEU"]}
    others = subject(learned)  # without those that were kept, it is far worse
    prune(others.model, report.kept)
    assert mean_loss(others) > report.after["loss"] + 0.1


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(learned: Path, tmp_path: Path) -> None:
    plan = Plan(0.5, "iterative", rounds=2, probes=3, tune=TUNE)
    whole = run(plan, subject(learned, trains=True), tmp_path / "whole", quiet=True)
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if len(lines) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, subject(learned, trains=True), tmp_path / "parts", quiet=True, tell=stop)
    with pytest.raises(ValueError, match=r"the plan it began with: keep was 0\.5 and is 0\.6"):
        run(replace(plan, keep=0.6), subject(learned, trains=True), tmp_path / "parts", resume=True)
    parts = run(plan, subject(learned, trains=True), tmp_path / "parts", quiet=True, resume=True)
    assert parts.kept == whole.kept
    for name in ("model.safetensors", "removed.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rounds = [line["round"] for line in map(json.loads, (tmp_path / "whole" / "order.jsonl").read_text().splitlines())]
    assert rounds == [1] * 6 + [2] * 6
    assert whole.after["heads"] == 12
    assert whole.after["loss"] < 1.0


def test_what_it_tells_are_the_first_numbers_of_heads(learned: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = run(Plan(0.5, "iterative", rounds=3, probes=3), subject(learned), tmp_path, quiet=True, tell=told.append)
    lines = [re.search(r"without head (\d) of (\S+):", line) for line in told]
    gone = {(line[2], int(line[1])) for line in lines if line is not None}
    assert len(gone) == len(told), "no head goes twice"
    assert all(head not in report.kept[path] for path, head in gone)


def test_gates_close_as_many_heads_as_asked(learned: Path, tmp_path: Path) -> None:
    made = subject(learned, trains=True)
    report = run(Plan(0.5, "gates", tune=replace(TUNE, epochs=6)), made, tmp_path, quiet=True)
    assert report.after["heads"] == 12
    log = [json.loads(line) for line in (tmp_path / "round-01" / "gates" / "log.jsonl").read_text().splitlines()]
    opened = [line["open"] for line in log if line["kind"] == "valid"]
    assert opened[0] > opened[-1]
    assert opened[-1] < 0.65
    assert report.after["BLEU"] > 0.8 * report.before["BLEU"]
    assert not [name for name in load(tmp_path).model.state_dict() if "gate" in name]


def test_gates_are_drawn_in_training_and_have_gradients() -> None:
    torch.manual_seed(0)
    gates = Gates((("a", (0,)), ("a", (1,)), ("b", (0, 1))), 2, 300, 1e-2)
    drawn = torch.stack([gates.draw().detach() for _ in range(2000)])
    assert float(drawn.min()) >= 0
    assert 0.6 < float((drawn == 1).float().mean()) < 0.95
    gates.eval()
    assert gates.draw().tolist() == pytest.approx([1.2 * 0.8807971 - 0.1] * 3, abs=1e-5)
    gates.train()
    start = gates.open().item()
    optimizer = torch.optim.AdamW(gates.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        (gates.penalty() - 0.5 * gates.draw()[2]).backward()
        optimizer.step()
    assert start > 0.9
    assert gates.open().item() < 0.65
    assert gates.closed(2) == {"a": (0, 1)}  # what the loss wants is kept


def test_the_bound_of_the_gates_waits_for_no_model(learned: Path) -> None:
    made = subject(learned, trains=True)
    task: Any = made.task()
    gated = GatedTask(task, made.model, 6, 100, 1e-2)
    before = mean_loss(made)
    with gated.switches:
        made.model.eval()
        gated.drawn.draw()
        assert mean_loss(made) == pytest.approx(before, rel=0.2)  # gates begin nearly open
        gated.gates.theta.data.fill_(-1.0)
        gated.drawn.draw()
        assert mean_loss(made) > before + 1
        assert len(gated.gates.closed(gated.total - gated.keep)) > 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": 1.5}, "keep must be a share of the heads, from 0 to 1; got 1.5"),
        ({"keep": 0.5, "schedule": "slowly"}, "unknown schedule 'slowly'; expected one of 'one-shot'"),
        ({"keep": 0.5, "rank": "luck"}, "unknown rank 'luck'; expected one of 'greedy'"),
        ({"keep": 0.5, "schedule": "gates"}, "gates are trained with the model; say how"),
        ({"keep": 0.5, "rounds": 0}, "rounds must be at least 1; got 0"),
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Plan(**options)


def test_runs_that_cannot_be(learned: Path, tmp_path: Path) -> None:
    made = subject(learned)
    with pytest.raises(ValueError, match=r"keep=1 of 24 heads leaves 24; 24 are there, and none would go"):
        run(Plan(1.0), made, tmp_path)
    with pytest.raises(ValueError, match="there are no data to train on"):
        run(Plan(0.5, tune=TUNE), made, tmp_path)
    with pytest.raises(ValueError, match=r"nothing to resume: no state.json in"):
        run(Plan(0.5), made, tmp_path, resume=True)
    assert record_of(made.model) is None
