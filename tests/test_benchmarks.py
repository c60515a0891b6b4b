"""The benchmarks' own machinery: the line of a figure, and the runner that goes on after a failure."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("figures")


@pytest.fixture
def runner(figures: Any) -> Any:
    return importlib.import_module("run")


def test_a_figure_is_printed_in_one_line(figures: Any, capsys: pytest.CaptureFixture[str]) -> None:
    figures.figure("watched / unwatched", 1.01234, "x", goal="<= 1.05", peer=("eager: all", 1234.5), threads=2)
    figures.figure("page", 20, "ms", threads=1)
    assert capsys.readouterr().out.splitlines() == [
        "= watched / unwatched | 1.012 x | goal <= 1.05 | eager: all: 1,234 x | 2 threads",
        "= page | 20 ms | - | - | 1 thread",
    ]


@pytest.mark.parametrize(
    "given",
    [
        ("a, b = c", 1.5, "x", ">= 2", ("peer: of ours", 0.25), 16),
        ("memory", 123456.0, "MB beyond inputs", None, None, None),
        ("small", 0.0001234, "s", "< 1e-3", ("other", 5.0), 1),
    ],
)
def test_a_line_says_all_of_a_figure(figures: Any, given: tuple[Any, ...]) -> None:
    made = figures.Figure(*given)
    assert figures.parse(str(made)) == made
    assert figures.parse(f"  {made}") is None
    assert figures.parse(str(made).rpartition(" | ")[0]) is None


@pytest.mark.parametrize(
    ("goal", "met"), [("<= 2", True), ("< 2", False), (">= 2", True), ("> 2", False), (None, None)]
)
def test_goals(figures: Any, goal: str | None, met: bool | None) -> None:
    assert figures.Figure("a", 2.0, "s", goal).met is met


def test_figures_that_would_not_be_read_back_are_refused(figures: Any) -> None:
    with pytest.raises(ValueError, match=r"one line without '\|'; got 'a \| b'"):
        figures.Figure("a | b", 1.0, "s")
    with pytest.raises(ValueError, match=r"a goal is a bound such as '<= 1.05'; got '1.05'"):
        figures.Figure("a", 1.0, "s", "1.05")


def test_every_benchmark_is_found(runner: Any) -> None:
    found = set(runner.scripts(FOLDER))
    assert {"page", "reopen", "watch_time", "translation_training", "translation_search"} <= found
    assert not {"run", "figures", "peers"} & found
    assert not {"multi30k", "tatoeba"} & found  # they train for hours


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    main = 'if __name__ == "__main__":\n'
    (folder / "a_fails.py").write_text(f'{main}    print("going")\n    raise SystemExit("no Chromium found")\n')
    line = "= speed | 3 ms | goal <= 2 | torch: 4 ms | 1 thread"
    (folder / "b_works.py").write_text(f'{main}    print("table")\n    print("{line}")\n')
    (folder / "c_plain.py").write_text(f'{main}    print("7 seconds")\n')
    (folder / "helper.py").write_text("raise SystemExit(9)\n")
    return folder


def test_a_failure_is_reported_and_the_others_run(
    runner: Any, scripts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = scripts / "results"
    assert runner.main([], scripts) == 1
    out, err = capfd.readouterr()
    assert "[2/3] b_works" in out and "   table\n" in out
    assert err == "failed: a_fails\n"
    page = next(results.glob("*.md")).read_text()
    assert "| speed | 3 ms | <= 2, **missed** | torch: 4 ms | 1 | `b_works` |" in page
    assert "`a_fails`, commit" in page and "**failed: exit code 1**" in page
    assert "    no Chromium found" in page and "    7 seconds" in page and "    table" not in page
    records = [json.loads(line) for line in next(results.glob("*.jsonl")).read_text().splitlines()]
    assert [record["benchmark"] for record in records] == ["a_fails", "b_works", "c_plain"]
    assert records[1]["figures"][0]["measured"] == 3.0


def test_a_part_is_renewed(runner: Any, scripts: Path) -> None:
    assert runner.main([], scripts) == 1
    kept = next((scripts / "results").glob("*.jsonl"))
    kept.write_text(kept.read_text() + '{"benchmark": "b_wo')  # a writer that was killed
    (scripts / "a_fails.py").write_text('if __name__ == "__main__":\n    print("well")\n')
    assert runner.main(["--only", "a_fails"], scripts) == 0
    page = next((scripts / "results").glob("*.md")).read_text()
    assert "failed" not in page and "    well" in page and "| speed | 3 ms |" in page


def test_a_benchmark_that_hangs_is_stopped(runner: Any, scripts: Path) -> None:
    (scripts / "a_fails.py").write_text('import time\nif __name__ == "__main__":\n    time.sleep(60)\n')
    assert runner.main(["--only", "a_fails", "--limit", "0.5"], scripts) == 1
    assert "**failed: stopped after 0.5 s**" in next((scripts / "results").glob("*.md")).read_text()


def test_unknown_names_are_named() -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--only", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark 'nonsense'; there are " in done.stderr
