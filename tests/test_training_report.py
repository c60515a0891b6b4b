"""What a run tells those who look on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from foveate.tasks.training import report, train
from toy_training import OPTIONS, Toy


def test_what_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task = Toy()
    train(task, task.model(), replace(OPTIONS, epochs=2), tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3  # two epochs, and each tenth line of the log
    assert re.fullmatch(r"epoch 1/2  score -\d\.\d+  training loss \d\.\d+  \d+ s left", told[0])
    assert re.fullmatch(r"step 10/12  epoch 2  loss 0\.\d+  tokens/s [\d,]+  0 s left", told[1])
    train(task, task.model(), replace(OPTIONS, epochs=2), tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_bar_where_someone_is_looking(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(report.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = report.Progress(1200, first=3)
    progress.at(600, {"loss": 1.5, "tokens/s": 12345})
    progress.say(600, {"BLEU [x]": 30.25})
    progress.close()
    progress.close()
    told = capsys.readouterr().err
    assert "step 600/1,200  BLEU [x] 30.25" in told
    assert "600/1200" in told and "loss 1.5  tokens/s 12,345" in told


def test_the_bar_tells_the_loss_from_the_first_step_and_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(report.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown: list[tuple[int, dict[str, float] | None]] = []
    update = report.Progress.at

    def at(one: report.Progress, step: int, values: dict[str, float] | None = None) -> None:
        shown.append((step, values))
        update(one, step, values)

    monkeypatch.setattr(report.Progress, "at", at)
    task = Toy()
    train(task, task.model(), replace(OPTIONS, epochs=2, log_every=4), tmp_path)
    assert [step for step, _ in shown] == list(range(1, 13))
    assert [values is None for _, values in shown] == [step > 4 and step % 4 > 0 for step, _ in shown]
    assert all(values["loss"] > 0 for _, values in shown if values is not None)
    assert report.Progress(10, quiet=True).left(12) == 0
    assert capsys.readouterr().err.endswith("\x1b[1A\x1b[2K")  # one line up, and that is wiped


def test_durations() -> None:
    assert [report.duration(s) for s in (0, 89.4, 91, 3600, 5399, 7500)] == [
        "0 s", "89 s", "2 min", "60 min", "1 h 30 min", "2 h 05 min",
    ]  # fmt: skip
