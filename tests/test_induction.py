"""The induction experiment: its sequences, its scores and its price of reading against plain computations; a miniature
that learns to copy, whose heads are found and knocked out; and the command, from start to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

import foveate as fv
from foveate.apps.cli import main
from foveate.operator import observe
from foveate.tasks.experiments import induction, report
from foveate.tasks.experiments.induction import Head, Moment, Result, judge, learned, moments, trained, verdict
from foveate.tasks.experiments.repeats import Batch, Copier, Copying, Setting, accuracy, draw, reads, scores
from foveate.tasks.training.loop import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Setting(
    vocabulary=32, width=32, heads=2, length=32, shortest=4, longest=10, epochs=20, free=10, cost=0.4, peak=6e-3
)
TINY = ["--epochs", "2", "--free", "1", "--heads", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Copier, Path]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    model = trained(SMALL, folder, quiet=True)
    torch.set_num_threads(before)
    return model, folder


def drawn(count: int = 40) -> Batch:
    return draw(SMALL, count, torch.Generator().manual_seed(7))


def test_what_is_known_follows_from_the_block_before() -> None:
    batch = drawn()
    for ids, known, period in zip(batch.ids_BN.tolist(), batch.known_BN.tolist(), batch.period_B.tolist(), strict=True):
        assert SMALL.shortest <= period <= SMALL.longest
        assert all(ids[i] == ids[i - period] for i in range(len(ids)) if known[i])
        first = known.index(True)
        assert ids[first - 1] == ids[first - 1 - period]  # where the block begins again, which nobody could know
        assert all(known[first:])
        assert len(set(ids[first : first + period])) == min(period, len(ids) - first)


def test_reading_is_what_leaves_the_token() -> None:
    torch.manual_seed(3)
    model, maps = Copier(SMALL), []
    with observe(maps.append):
        model(drawn(3).ids_BN)
    found = reads(maps)
    for layer, weights in enumerate(maps):
        dense = weights.dense().double()
        kept = torch.stack([dense[:, :, i, i] for i in range(1, SMALL.length)], -1)
        torch.testing.assert_close(found[layer].double(), (1 - kept).mean((0, 2)))
    assert bool(((found > 0) & (found < 1)).all())
    found.sum().backward()
    assert float(model.decoder.layers[1].attention.query.weight.grad.abs().sum()) > 0


def test_scores_are_those_of_the_rows() -> None:
    torch.manual_seed(3)
    model, batch = Copier(SMALL).eval(), drawn(5)
    with torch.no_grad(), fv.watch(model) as seen:
        model(batch.ids_BN)
    found = scores(model, batch)
    expected: dict[str, list[float]] = {"previous": [], "induction": []}
    for weights in seen.values():
        for head in weights.dense().double().transpose(0, 1):
            shares: dict[str, list[float]] = {"previous": [], "induction": []}
            for ids, rows in zip(batch.ids_BN.tolist(), head, strict=True):
                for i in range(1, len(ids)):
                    shares["previous"].append(float(rows[i, i - 1]))
                    after = [j for j in range(1, i) if ids[j - 1] == ids[i]]
                    if after:
                        shares["induction"].append(sum(float(rows[i, j]) for j in after))
            for name, values in shares.items():
                expected[name].append(sum(values) / len(values))
    assert found["previous"] == pytest.approx(expected["previous"], abs=1e-5)
    assert found["induction"] == pytest.approx(expected["induction"], abs=1e-5)


def test_copying_is_learned_at_once_and_one_head_carries_it(run: tuple[Copier, Path]) -> None:
    model, folder = run
    way = moments(folder)
    step = learned(way)
    assert step is not None
    before = next(m for m in way if m.step == step - 75)
    after = next(m for m in way if m.step == step + 75)
    assert before.copying < 0.35 and before.induction < 0.35
    assert after.copying > 0.9 and after.induction > 0.7
    assert way[-1].reads < 0.6 * max(m.reads for m in way)
    result = judge("sparing", model, SMALL)
    assert result.copying > 0.95
    assert result.fresh < 0.1
    (one,) = result.of("induction")
    assert one.layer == 1 and one.induction > 0.7
    assert {head.layer for head in result.of("previous")} == {0}
    told = verdict(result)
    assert told["holds"] is True
    assert result.without["induction"] < result.chance
    assert min(result.others) > 0.9


def test_a_trained_model_is_judged_as_it_is(run: tuple[Copier, Path]) -> None:
    model, folder = run
    again = trained(SMALL, folder, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="was trained with other settings; give another folder"):
        trained(replace(SMALL, cost=0.1), folder, quiet=True)
    batch = draw(SMALL, 64, torch.Generator().manual_seed(SMALL.seed))
    zeroed = trained(SMALL, folder, quiet=True)
    width = zeroed.decoder.layers[1].attention.head_width
    head = judge("x", model, SMALL).of("induction")[0].head
    zeroed.decoder.layers[1].attention.output.weight.data[:, head * width : (head + 1) * width] = 0
    with fv.knockout(model, heads={(1, head)}):
        assert accuracy(model, batch) == accuracy(zeroed, batch)


def test_a_run_that_was_stopped_ends_where_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = replace(SMALL, epochs=3, free=1, batch=4)
    whole = trained(setting, tmp_path / "whole", quiet=True)

    def stop(self: Copying, model: Copier, epoch: int, folder: Path) -> None:
        if epoch == 1:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Copying, "epoch_ended", stop)
        with pytest.raises(Stopped, match=r"stopped in .*parts; the same command goes on"):
            trained(setting, tmp_path / "parts", quiet=True)
    # the last checkpoint is that of the first epoch
    parts = trained(setting, tmp_path / "parts", quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert [m.step for m in moments(tmp_path / "parts")] == [25, 50, 75]


def head(layer: int, number: int, score: float, previous: float = 0.0) -> Head:
    return Head(layer, number, induction._kind(previous, score, 0.15), previous, score, 0.5)


def result(without: float, others: tuple[float, ...], *heads: Head) -> Result:
    return Result("x", 0.1, 0.98, 0.1, 0.01, heads, {"induction": without} if heads else {}, others)


@pytest.mark.parametrize(
    ("without", "others", "holds"),
    [(0.02, (0.97, 0.96), True), (0.14, (0.97,), True), (0.3, (0.97,), False), (0.02, (0.98, 0.7), False)],
)
def test_the_claim(without: float, others: tuple[float, ...], holds: bool) -> None:
    told = result(without, others, head(1, 0, 0.8))
    assert verdict(told)["holds"] is holds
    assert ("holds." in report.induction_table([told], {"x": 200})) is holds


def test_without_heads_to_compare_nothing_is_claimed() -> None:
    assert verdict(result(0.1, ())) == {"holds": None}
    assert verdict(result(0.1, (), head(1, 0, 0.8))) == {"holds": None}
    table = report.induction_table([result(0.1, (), head(1, 0, 0.8))], {"x": None})
    assert "cannot be put to the test" in table and "never" in table


def test_kinds_and_moments() -> None:
    kinds = [head(0, 0, 0.1, 0.9), head(1, 0, 0.5, 0.2), head(1, 1, 0.1, 0.1)]
    assert [one.kind for one in kinds] == ["previous", "induction", "other"]
    way = [Moment(step, 1.0, copying, 1.0, 0.0, 0.0) for step, copying in ((25, 0.1), (50, 0.4), (75, 0.6), (100, 0.9))]
    assert learned(way) == 75
    assert learned(way[:2]) is None
    assert learned([]) is None


def test_the_command_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment", "induction", *TINY, "-o", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in told["models"]] == ["plain", "sparing"]
    assert [model["cost"] for model in told["models"]] == [0.0, 0.4]
    assert {Path(file).name for file in told["files"]} == {"induction.json", "induction.png", "induction.svg"}
    assert told == {**json.loads((tmp_path / "induction.json").read_text()), "files": told["files"]}
    made = (tmp_path / "sparing" / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0  # nothing is trained twice
    assert (tmp_path / "sparing" / "model.safetensors").stat().st_mtime_ns == made
    assert "cannot be put to the test" in capsys.readouterr().out
    assert main([*command, "--seed", "2"]) == 1
    assert "was trained with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", "3", "--free", "3"], "--free must be less than --epochs; got 3 and 3"),
        (["--heads", "5"], "--heads must divide 32, half the width of the model; got 5"),
    ],
)
def test_options_that_do_not_fit(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "induction", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"longest": 20}, "fits twice into a sequence; got 4 to 20 tokens"), ({"cost": -1.0}, "cost must be at least 0")],
)
def test_settings_that_do_not_fit(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_as_many_others_are_drawn_as_there_are_ways() -> None:
    asked: list[tuple[tuple[int, int], ...]] = []

    def without(heads: tuple[tuple[int, int], ...]) -> float:
        asked.append(tuple(heads))
        return 1.0

    others = [(0, h) for h in range(3)]
    assert induction._drawn(others, 2, without, 1) == [1.0] * 3  # type: ignore[arg-type]
    assert len(set(asked)) == 3
    assert induction._drawn(others, 0, without, 1) == []  # type: ignore[arg-type]
    assert len(induction._drawn([(0, h) for h in range(9)], 3, without, 1)) == induction.DRAWS  # type: ignore[arg-type]
