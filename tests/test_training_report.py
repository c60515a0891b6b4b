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
    assert re.fullmatch(r"epoch 1/2  score -\d\.\d+  \d+ s left", told[0])
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


def test_durations() -> None:
    assert [report.duration(s) for s in (0, 89.4, 91, 3600, 5399, 7500)] == [
        "0 s", "89 s", "2 min", "60 min", "1 h 30 min", "2 h 05 min",
    ]  # fmt: skip
