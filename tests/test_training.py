"""The training loop on a toy: what it keeps, when it stops, what it refuses, and that a resumed run is the same run."""

from __future__ import annotations

import json
import math
import re
import signal
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from foveate.tasks.training import Options, checkpoint, loop, precision, report, train
from foveate.tasks.training.averaging import Epochs
from foveate.tasks.training.loop import Losses, Stopped
from foveate.tasks.training.schedule import learning_rate
from foveate.tasks.training.world import World, joined, settled_device
from toy_training import OPTIONS, STEPS, Toy

FILES = ["checkpoint.safetensors", "epochs", "log.jsonl"]


pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder: Path, task: Toy | None = None, options: Options = OPTIONS, **others: Any) -> tuple[nn.Module, Any]:
    task = task or Toy()
    model = task.model()
    return model, train(task, model, options, folder, quiet=True, **others)


def log(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Its lines, without what clocks measured."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    timed = ("seconds", "tokens/s")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines if not kinds or line["kind"] in kinds]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)[0]


def test_what_a_run_leaves(tmp_path: Path) -> None:
    task = Toy()
    model, outcome = run(tmp_path, task)
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert sorted(p.name for p in (tmp_path / "epochs").iterdir()) == [
        "best.safetensors", "epoch-00001.safetensors", "epoch-00002.safetensors",
    ]  # fmt: skip
    assert (outcome.steps, outcome.epochs, outcome.precision) == (3 * STEPS, 3, "float32")
    assert outcome.metrics["score"] == task.validate(model)["score"]
    assert outcome.metrics == {k: v for k, v in log(tmp_path, "chosen")[0].items() if k == "score"}
    kinds = [(line["kind"], line["step"]) for line in log(tmp_path)]
    assert kinds == [
        *[("train", s) for s in range(1, 7)], ("valid", 6), *[("train", s) for s in range(7, 13)], ("valid", 12),
        *[("train", s) for s in range(13, 19)], ("valid", 18), ("chosen", 18),
    ]  # fmt: skip
    first = log(tmp_path)[0]
    assert set(first) == {"kind", "step", "learning_rate", "epoch", "loss"}
    assert first["learning_rate"] == pytest.approx(OPTIONS.peak / 3)


def test_the_end_of_an_epoch_sees_its_validation(tmp_path: Path) -> None:
    """Pictures are drawn then, and the curve's last point is this epoch's."""
    task = Toy()
    run(tmp_path, task)
    assert [epoch for epoch, _ in task.ended] == [0, 1, 2]
    for epoch, lines in task.ended:
        last = json.loads(lines[-1])
        assert (last["kind"], last["epoch"]) == ("valid", epoch + 1)


def test_the_log_is_of_means_over_rows(tmp_path: Path) -> None:
    """Lines of several steps hold what lines of one step add up to."""
    run(tmp_path / "one", options=replace(OPTIONS, epochs=1))
    run(tmp_path / "some", options=replace(OPTIONS, epochs=1, log_every=3))
    each = [line["loss"] for line in log(tmp_path / "one", "train")]
    some = [line["loss"] for line in log(tmp_path / "some", "train")]
    assert some == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3], rel=1e-12)


def test_it_learns_as_a_plain_loop_does(tmp_path: Path) -> None:
    """AdamW, clipped, at a rate that warms up and falls: written out once more."""
    task, options = Toy(), replace(OPTIONS, average=1, clip=0.5, weight_decay=0.1)
    model, mine = task.model(dropout=0.0), task.model(dropout=0.0)
    train(task, model, options, tmp_path, quiet=True)
    decayed = [{"params": [p for p in mine.parameters() if p.ndim > 1]}]
    plain = [{"params": [p for p in mine.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decayed + plain, betas=(0.9, 0.98), weight_decay=0.1)
    for step in range(3 * STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 3 * STEPS, peak=options.peak, warmup=3)
        rows, _ = task.batches(step // STEPS, 0, 1)[step % STEPS]
        optimizer.zero_grad()
        (mine(task.x_ND[rows])[:, 0] - task.y_N[rows]).square().mean().backward()
        nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
        optimizer.step()
    last = load_file(tmp_path / "epochs" / "epoch-00002.safetensors")
    for name, wanted in mine.state_dict().items():
        torch.testing.assert_close(last[name], wanted)


# Stopping and going on


@pytest.mark.parametrize("at", [("step", 1), ("step", 7), ("step", 12), ("valid", 1), ("valid", 3)])
def test_an_interrupt_saves_and_the_run_goes_on(
    at: tuple[str, int], tmp_path: Path, whole: tuple[Path, nn.Module]
) -> None:
    task = Toy()
    task.at = lambda what, number: signal.raise_signal(signal.SIGINT) if (what, number) == at else None
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped):
        run(tmp_path, task)
    assert signal.getsignal(signal.SIGINT) is before
    done = at[1] if at[0] == "step" else at[1] * STEPS
    assert checkpoint.describe_checkpoint(tmp_path)["state"]["step"] == done
    assert task.calls["step"] == done
    again = Toy()
    model, outcome = run(tmp_path, again, resume=True)
    assert again.calls.get("step", 0) == 3 * STEPS - done
    assert same(model, whole[1])
    assert log(tmp_path) == log(whole[0])
    assert outcome.steps == 3 * STEPS


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    task = Toy()

    def twice(what: str, number: int) -> None:
        if (what, number) == ("step", 3):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    task.at = twice
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, task)
    assert task.calls["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_a_thread_interrupts_are_left_alone(tmp_path: Path, whole: tuple[Path, nn.Module]) -> None:
    found: list[nn.Module] = []

    def work() -> None:
        torch.set_num_threads(1)
        found.append(run(tmp_path)[0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert same(found[0], whole[1])


def test_a_finished_run_that_is_resumed_chooses_again(whole: tuple[Path, nn.Module]) -> None:
    folder, wanted = whole
    before, task = log(folder), Toy()
    model, _ = run(folder, task, resume=True)
    assert same(model, wanted)
    assert log(folder) == before
    assert "step" not in task.calls


def test_a_log_that_was_cut_off_goes_on(tmp_path: Path, whole: tuple[Path, nn.Module]) -> None:
    task = Toy()
    task.at = lambda what, number: signal.raise_signal(signal.SIGINT) if (what, number) == ("step", 6) else None
    with pytest.raises(Stopped):
        run(tmp_path, task)
    path = tmp_path / "log.jsonl"
    lines = path.read_text(encoding="utf-8")
    for rest in ('{"kind": "train", "st', '{"kind": "train", "step": 7, "loss": 1.0}\n{"kind'):
        path.write_text(lines + rest, encoding="utf-8")
        assert report.read_log(path)[: len(lines.splitlines())] == [json.loads(line) for line in lines.splitlines()]
    run(tmp_path, resume=True)
    assert log(tmp_path) == log(whole[0])


def test_dropout_differs_from_step_to_step_and_seed_to_seed(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Noted(Toy):
        def losses(self, model: nn.Module, batch: Any) -> Losses:
            found = super().losses(model, batch)
            drawn.append(float(torch.rand(())))
            return found

    run(tmp_path, Noted(), replace(OPTIONS, epochs=1))
    run(tmp_path, Noted(), replace(OPTIONS, epochs=1, seed=6))
    assert len(set(drawn)) == 2 * STEPS


# What is kept and chosen


@pytest.mark.parametrize(("scores", "patience", "epochs"), [
    ([1.0, 2.0, 2.0, 1.5, 3.0], 2, 4), ([3.0, 1.0, 1.0, 1.0, 1.0], 3, 4), ([1.0, 2.0, 3.0, 4.0, 5.0], 1, 5),
    ([5.0, 4.0, 3.0, 2.0, 1.0], 0, 5), ([math.nan, math.nan, 1.0, 1.0, 2.0], 2, 2),
    ([math.nan, 1.0, math.nan, 2.0, math.nan], 2, 5),
])  # fmt: skip
def test_it_stops_where_nothing_gets_better(scores: list[float], patience: int, epochs: int, tmp_path: Path) -> None:
    task = Toy(scores=[*scores[:epochs], 0.0, 0.0])
    _, outcome = run(tmp_path, task, replace(OPTIONS, epochs=5, patience=patience))
    assert (outcome.epochs, outcome.steps) == (epochs, epochs * STEPS)


@pytest.mark.parametrize(("best", "mean", "chosen"), [
    (3.0, 4.0, "mean of the last 2 epochs"), (3.0, 3.0, "best epoch"), (3.0, 2.0, "best epoch"),
    (math.nan, 2.0, "mean of the last 2 epochs"), (3.0, math.nan, "best epoch"),
])  # fmt: skip
def test_the_better_of_best_and_mean_is_chosen(best: float, mean: float, chosen: str, tmp_path: Path) -> None:
    model, outcome = run(tmp_path, Toy(scores=[3.0, 1.0, 2.0, best, mean]))
    assert outcome.chosen == chosen
    assert outcome.metrics == {"score": best if chosen == "best epoch" else mean}
    last = [load_file(tmp_path / "epochs" / f"epoch-0000{e}.safetensors") for e in (1, 2)]
    if chosen == "best epoch":
        wanted = load_file(tmp_path / "epochs" / "best.safetensors")
    else:
        wanted = {name: (last[0][name] + last[1][name]) / 2 for name in last[0]}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=2**-23, atol=0)
    assert not torch.equal(last[0]["0.weight"], last[1]["0.weight"])


def test_the_mean_of_epochs(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self, value: float, count: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([value, -value]))
            self.register_buffer("count", torch.tensor(count))

    epochs = Epochs(tmp_path, 3)
    for epoch, value in enumerate((100.0, 1.0, 2.0, 6.0)):
        epochs.keep(epoch, Counting(value, 7), best=epoch == 2)
    (one, best), (other, mean) = epochs.candidates()
    assert (one, other) == ("best epoch", "mean of the last 3 epochs")
    assert best["weight"].tolist() == [2.0, -2.0]
    assert mean["weight"].tolist() == [3.0, -3.0]
    assert mean["count"].item() == 7 and mean["count"].dtype == torch.int64
    alone = Epochs(tmp_path / "alone", 1)
    alone.keep(0, Counting(1.0, 1), best=True)
    assert [name for name, _ in alone.candidates()] == ["best epoch"]


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    class Breaking(Toy):
        def losses(self, model: nn.Module, batch: Any) -> Losses:
            found = super().losses(model, batch)
            return replace(found, total=found.total * math.nan) if self.calls["step"] == 7 else found

    task = Breaking()
    model = task.model()
    told = (
        "the loss or its gradient is no number after 6 steps; try a lower learning rate than 0.02, or "
        "--precision float32"
    )
    with pytest.raises(FloatingPointError, match=f"^{told}$"):
        train(task, model, OPTIONS, tmp_path, quiet=True)
    assert all(p.isfinite().all() for p in model.parameters())
    assert checkpoint.describe_checkpoint(tmp_path)["state"]["step"] == STEPS
    assert not list(tmp_path.rglob(".*"))
    assert all(line["step"] <= 6 for line in log(tmp_path))


# What is refused


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^nothing to resume: no checkpoint.safetensors in "):
        run(tmp_path, resume=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "told"), [
    ({"epochs": 4}, "options it began with: epochs was 3 and is 4"),
    ({"peak": 0.1, "seed": 2}, "options it began with: peak was 0.02 and is 0.1, seed was 5 and is 2"),
    ({"betas": (0.9, 0.99)}, r"betas was \[0.9, 0.98\] and is \[0.9, 0.99\]"),
    ({"precision": "bfloat16"}, "precision was float32 and is bfloat16"),
])  # fmt: skip
def test_other_options_are_refused(
    options: dict[str, Any], told: str, whole: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    before = (whole[0] / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=f"a resumed run must have the .*{told}$"):
        run(whole[0], options=replace(OPTIONS, **options), resume=True)
    assert (whole[0] / "log.jsonl").read_bytes() == before


def test_options_that_change_no_result_may_change(whole: tuple[Path, nn.Module]) -> None:
    run(whole[0], options=replace(OPTIONS, save_every=1, log_every=2, precision="auto"), resume=True)


def test_another_task_is_refused(whole: tuple[Path, nn.Module]) -> None:
    class Wider(Toy):
        def identity(self) -> dict[str, Any]:
            return {**super().identity(), "shape": {"width": 9}}

    for task, told in ((Toy(rows=49), "rows was 48 and is 49"), (Wider(), "shape.width was 8 and is 9")):
        with pytest.raises(ValueError, match=f"^a resumed run must have the task it began with: {told}$"):
            run(whole[0], task, resume=True)


def rewritten(path: Path, change: Any) -> None:
    """A checkpoint with another description."""
    with safe_open(path, framework="pt") as file:
        kept = json.loads(file.metadata()["description"])
    save_file(load_file(path), path, {"description": json.dumps(change(kept))})


def test_a_checkpoint_of_before_tasks_told_who_they_are(tmp_path: Path, whole: tuple[Path, nn.Module]) -> None:
    task = Toy()
    task.at = lambda what, number: signal.raise_signal(signal.SIGINT) if (what, number) == ("step", 9) else None
    with pytest.raises(Stopped):
        run(tmp_path, task)
    names = ("state", "options", "precision")
    rewritten(tmp_path / "checkpoint.safetensors", lambda kept: {name: kept[name] for name in names})
    assert same(run(tmp_path, resume=True)[0], whole[1])


def test_checkpoints_that_cannot_be_read(tmp_path: Path, whole: tuple[Path, nn.Module]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    data = (whole[0] / path.name).read_bytes()
    for broken in (b"", data[:5], data[:200], data[:-1]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"^checkpoint.safetensors in .* is cut off or of another kind: [^\n]+$"):
            run(tmp_path, resume=True)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="is cut off or of another kind"):
        run(tmp_path, resume=True)
    path.write_bytes(data)
    rewritten(path, lambda kept: {name: value for name, value in kept.items() if name != "identity"})
    task, wider = Toy(), nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"^checkpoint.safetensors in .* is of another model: [^\n]+$"):
        train(task, wider, OPTIONS, tmp_path, resume=True, quiet=True)


def test_a_new_run_forgets_an_old_one(tmp_path: Path) -> None:
    run(tmp_path)
    task = Toy()

    def fail(what: str, number: int) -> None:
        raise RuntimeError("at once")

    task.at = fail
    with pytest.raises(RuntimeError, match="at once"):
        run(tmp_path, task)
    assert not list((tmp_path / "epochs").iterdir())
    assert log(tmp_path) == []
    with pytest.raises(ValueError, match="nothing to resume"):
        run(tmp_path, resume=True)


def test_what_killed_processes_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / "epochs").mkdir()
    (tmp_path / "pictures").mkdir()
    halves = [".checkpoint.safetensors.123", "epochs/.best.safetensors.7", ".log.jsonl.1", "pictures/.epoch-01.png.99"]
    others = [".gitignore", ".checkpoint.safetensors", "epochs/.notes.7", "plain.json.7"]
    for name in (*halves, *others):
        (tmp_path / name).write_bytes(b"half")
    run(tmp_path, options=replace(OPTIONS, epochs=1))
    assert [name for name in (*halves, *others) if (tmp_path / name).exists()] == others


@pytest.mark.parametrize(("name", "value", "told"), [
    ("epochs", 0, "epochs must be at least 1; got 0"), ("warmup", -1, "warmup must be at least 0; got -1"),
    ("average", 0, "average must be at least 1"), ("save_every", 0, "save_every must be at least 1"),
    ("log_every", 0, "log_every must be at least 1"), ("patience", -1, "patience must be at least 0"),
    ("seed", -1, "seed must be at least 0"), ("peak", 0.0, "peak must be positive; got 0.0"),
    ("clip", math.nan, "clip must be positive; got nan"),
    ("precision", "half", "unknown precision 'half'; expected one of 'auto', 'float32', 'bfloat16'"),
])  # fmt: skip
def test_options_out_of_range(name: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        replace(OPTIONS, **{name: value})


# Rates, precision, processes


def test_the_learning_rate() -> None:
    rates = [learning_rate(step, 100, peak=2.0, warmup=10) for step in range(130)]
    assert rates[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    assert rates[9] == rates[10] == max(rates)
    assert rates[55] == pytest.approx(2 * (0.02 + 0.98 / 2))  # half-way down
    assert all(a > b for a, b in pairwise(rates[10:101]))
    assert rates[100:] == pytest.approx([0.04] * 30)
    assert learning_rate(0, 1, peak=1.0, warmup=0) == 1.0
    assert learning_rate(3, 3, peak=1.0, warmup=9) == pytest.approx(4 / 9)


def test_precision_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for gain, wanted in ((1.4, "float32"), (1.6, "bfloat16")):
        monkeypatch.setattr(
            precision, "_seconds", lambda dtype, device, gain=gain: gain if dtype == torch.float32 else 1.0
        )
        assert precision.settled("auto", cpu) == wanted
    assert precision.settled("float32", cpu) == "float32"
    assert precision.settled("bfloat16", cpu) == "bfloat16"
    with pytest.raises(ValueError, match="unknown precision 'double'; expected one of 'auto', 'float32', 'bfloat16'"):
        precision.settled("double", cpu)  # type: ignore[arg-type]
    a = torch.ones(2, 2)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with precision.autocast(name, cpu):
            assert (a @ a).dtype == dtype
    monkeypatch.undo()
    assert 0 < precision._seconds(torch.float32, cpu) < 10


def test_the_leader_settles_the_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "settled", lambda given, device: "bfloat16")

    class Other(World):
        def agreed(self, number: float) -> float:
            return 0.0 if number == 1 else number

    _, outcome = run(tmp_path, options=replace(OPTIONS, precision="auto", epochs=1), world=Other())
    assert outcome.precision == "float32"
    _, outcome = run(tmp_path, options=replace(OPTIONS, precision="auto", epochs=1))
    assert outcome.precision == "bfloat16"
    monkeypatch.setattr(loop, "settled", lambda given, device: "float32")
    _, outcome = run(tmp_path, options=replace(OPTIONS, precision="auto", epochs=1), resume=True)
    assert outcome.precision == "bfloat16"


def test_processes_with_other_data_are_refused(tmp_path: Path) -> None:
    class Second(World):
        def agreed(self, number: float) -> float:
            return number + 1

    with pytest.raises(ValueError, match="process 1 was given another task, or other data, than process 0"):
        run(tmp_path, world=Second(1, 1))


def test_one_process_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined() as world:
        assert (world.rank, world.size, world.restarted, world.leads) == (0, 1, False, True)
        assert world.agreed(0.5) == 0.5
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    with joined() as world:
        assert world.restarted


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, wanted in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert settled_device("auto") == wanted
        assert settled_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="PyTorch sees no CUDA device here; use device 'cpu', or 'auto'"):
        settled_device("cuda")
    with pytest.raises(ValueError, match="unknown device 'gpu'; expected one of 'auto', 'cpu', 'cuda'"), joined("gpu"):
        pass


def test_a_restarted_process_goes_on_if_it_can(tmp_path: Path, whole: tuple[Path, nn.Module]) -> None:
    again = World(restarted=True)
    task = Toy()
    task.at = lambda what, number: signal.raise_signal(signal.SIGINT) if (what, number) == ("step", 4) else None
    with pytest.raises(Stopped):
        run(tmp_path, task, world=again)  # there is no checkpoint yet
    later = Toy()
    assert same(run(tmp_path, later, world=again)[0], whole[1])
    assert later.calls["step"] == 3 * STEPS - 4
