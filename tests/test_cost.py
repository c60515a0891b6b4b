"""`foveate cost`: what is measured is right, kept, taken up and shown; each mistake is one sentence."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from foveate.apps import cli
from foveate.apps.cost import chart, table
from foveate.apps.cost.forms import FORMS, parse_form
from foveate.apps.cost.growth import exponent, larger
from foveate.apps.cost.machine import machine, sentence
from foveate.apps.cost.settings import Settings, parse_lengths
from foveate.apps.cost.store import NAME, Store
from foveate.apps.cost.study import Plan, Study, ask_child
from foveate.apps.errors import UserError

LENGTHS = [64, 128, 256, 512]
POWERS = {"softmax": (2.0, 1.0), "window:5": (1.0, 0.5), "eager": (3.0, 2.0)}
SETTINGS = Settings(heads=2, width=8)


class Meter:
    """Stands in for the processes that measure: exact power laws, and a list of what was asked."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.asked: list[tuple[str, int]] = []
        self.answers = answers

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        form, n = task["form"], task["n"]
        self.asked.append((form, n))
        if f"{form}@{n}" in self.answers:
            return self.answers[f"{form}@{n}"]
        time, memory = POWERS[form]
        seconds, held = 1e-9 * n**time, round(1000 * n**memory)
        backend = "" if form == "eager" else "sdpa"
        return {
            "wall": [2 * seconds, seconds],
            "processor": [3 * seconds],
            "bytes": held,
            "memory": "",
            "backend": backend,
        }


def study(
    folder: Path, meter: Any, *, lengths: list[int] = LENGTHS, settings: Settings = SETTINGS, **options: Any
) -> Study:
    fresh = options.pop("fresh", False)
    plan = Plan(options.pop("forms", list(POWERS)), lengths, settings, **options)
    found = Study(plan, Store(folder, asdict(settings), machine(), fresh=fresh), meter)
    list(found.run())
    return found


def lines(folder: Path) -> list[str]:
    return (folder / NAME).read_text().splitlines()


# what real processes measure


def test_the_memory_of_a_dense_softmax_is_that_of_two_matrices() -> None:
    n, heads = 1024, 2
    task = {"form": "eager", "n": n, "heads": heads, "width": 8, "dtype": "float32", "threads": 1, "limit": 60}
    found = ask_child(task)
    two = 2 * heads * n * n * 4
    assert two <= found["bytes"] + 300_000 and found["bytes"] <= 1.06 * two, found["bytes"] / two
    assert found["memory"] == "high-water mark of one call" or sys.platform != "linux"
    assert len(found["wall"]) >= 3 and min(found["wall"]) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines a process's memory")
def test_memory_that_runs_out_ends_one_measurement_and_nothing_else(tmp_path: Path) -> None:
    task = {**asdict(Settings()), "form": "eager", "n": 4096, "limit": 60, "room": 100_000_000}
    assert ask_child(task) == {"failed": "memory ran out"}


def test_the_command_measures_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cost"
    given = ["cost", "--forms", "softmax,window:9", "--lengths", "2000", "--heads", "2", "--width", "8"]
    assert cli.main([*given, "-o", str(folder), "--busy"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines() if line.strip().startswith("2,000 ")]
    assert [row[:2] for row in rows] == [["2,000", "softmax"], ["2,000", "window:9"]]
    assert rows[0][3] == rows[0][5] == "1.00"
    assert "softmax   fewer than three lengths: no exponent" in out
    assert (folder / "cost.png").read_bytes()[:4] == b"\x89PNG"

    before = lines(folder)
    assert cli.main([*given, "-o", str(folder), "--json"]) == 0  # takes up all of it
    found = json.loads(capsys.readouterr().out)
    assert lines(folder) == before
    assert [(m["form"], m["n"]) for m in found["measurements"]] == [("softmax", 2000), ("window:9", 2000)]
    assert all(m["seconds"] > 0 and m["backend"] for m in found["measurements"])
    assert found["files"] == [str(folder / name) for name in (NAME, "cost.png", "cost.svg")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_every_form_computes_attention(form: Any) -> None:
    import torch

    q, k, v = (torch.randn(1, 2, 40, 8) for _ in range(3))
    found = form.make(40, 3)(q, k, v)
    if form.stem == "statistics":
        assert len(found) == 4
    else:
        output = found if isinstance(found, torch.Tensor) else found[0]
        assert output.shape == v.shape
    assert form.expected_bytes(100, SETTINGS) < form.expected_bytes(200, SETTINGS)


# going on


def test_measurements_are_taken_up(tmp_path: Path) -> None:
    study(tmp_path, Meter(), lengths=LENGTHS[:2])
    meter = Meter()
    more = study(tmp_path, meter)
    assert sorted(meter.asked) == sorted((form, n) for form in POWERS for n in LENGTHS[2:])
    assert [point.n for point in more.points("eager")] == LENGTHS


def test_a_killed_run_loses_one_measurement_at_most(tmp_path: Path) -> None:
    study(tmp_path, Meter())
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:-30])  # the last line is cut in the middle
    meter = Meter()
    study(tmp_path, meter)
    assert meter.asked == [("eager", 512)]
    assert (tmp_path / NAME).read_bytes() == whole


def test_a_run_that_was_killed_before_its_first_line_begins_again(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"foveate_cost": 1, "sett')
    meter = Meter()
    study(tmp_path, meter)
    assert len(meter.asked) == len(POWERS) * len(LENGTHS)


def test_fresh_starts_over(tmp_path: Path) -> None:
    study(tmp_path, Meter())
    meter = Meter()
    study(tmp_path, meter, fresh=True, lengths=[64], settings=Settings(heads=3))
    assert len(meter.asked) == len(lines(tmp_path)) - 1 == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [(Settings(heads=3, width=8), "with heads 2, now it is 3"), (Settings(2, 8, "float64"), "with dtype float32, now")],
)
def test_other_settings_are_not_mixed_in(tmp_path: Path, settings: Settings, words: str) -> None:
    study(tmp_path, Meter(), lengths=[64])
    before = lines(tmp_path)
    with pytest.raises(UserError, match=f"{words}.*choose another folder with -o, or start over with --fresh"):
        study(tmp_path, Meter(), settings=settings)
    assert lines(tmp_path) == before


def test_another_machine_is_not_mixed_in(tmp_path: Path) -> None:
    study(tmp_path, Meter(), lengths=[64])
    with pytest.raises(UserError, match=r"was measured with cores .*, now it is 99; choose another folder"):
        Store(tmp_path, asdict(SETTINGS), {**machine(), "cores": 99})


@pytest.mark.parametrize(("line", "number"), [("nonsense", 3), ('{"form": 1, "n": 2}', 3), ("[]", 3)])
def test_a_line_that_is_no_measurement_is_named(tmp_path: Path, line: str, number: int) -> None:
    study(tmp_path, Meter(), lengths=[64])
    kept = lines(tmp_path)
    (tmp_path / NAME).write_text("\n".join([*kept[: number - 1], line, *kept[number - 1 :]]) + "\n")
    with pytest.raises(UserError, match=f"line {number} of .* is no measurement"):
        study(tmp_path, Meter())


def test_another_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"form": "softmax"}\n')
    with pytest.raises(UserError, match=r"line 1 of .* is no measurement"):
        study(tmp_path, Meter())
    assert lines(tmp_path) == ['{"form": "softmax"}']


# what is left out


def test_a_form_that_takes_too_long_is_left_out_from_there_on(tmp_path: Path) -> None:
    meter = Meter(**{"eager@128": {"slow": True}})
    found = study(tmp_path, meter, seconds=7)
    assert [n for form, n in meter.asked if form == "eager"] == [64, 128]
    assert found.skipped == {"eager": "eager from n = 128 on: took more than 7 s (--limit)"}
    assert [p.n for p in found.points("softmax")] == LENGTHS
    again, patient = Meter(), Meter()
    study(tmp_path, again, seconds=7)
    assert again.asked == []  # it is not tried again, unless it may take longer
    study(tmp_path, patient, seconds=8)
    assert patient.asked == [("eager", n) for n in LENGTHS[1:]]


def test_what_will_take_too_long_is_not_begun(tmp_path: Path) -> None:
    meter = Meter()
    found = study(tmp_path, meter, forms=["softmax"], lengths=[10_000, 20_000, 400_000], seconds=60)
    assert meter.asked == [("softmax", 10_000), ("softmax", 20_000)]
    assert "would take about 160 s a call; at most 60 are allowed (--limit)" in found.skipped["softmax"]


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    meter = Meter()
    found = study(tmp_path, meter, forms=["softmax", "eager"], lengths=[512, 8192], memory=500_000_000)
    assert meter.asked == [("softmax", 512), ("eager", 512), ("softmax", 8192)]
    assert found.skipped == {"eager": "eager from n = 8,192 on: needs about 1.1 GB; 500 MB are allowed (--memory)"}


def test_a_failed_measurement_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    found = study(tmp_path, Meter(**{"eager@64": {"failed": "memory ran out"}}))
    assert found.skipped == {"eager": "eager from n = 64 on: memory ran out"}
    assert found.points("eager") == []
    assert len(found.points("window:5")) == 4
    assert "eager     fewer than three lengths: no exponent" in table.growths(found)
    assert chart.draw(found, tmp_path)


def test_a_measurement_whose_command_died_ends() -> None:
    task = {**asdict(SETTINGS), "form": "softmax", "n": 64, "limit": 60, "parent": 1}
    command = [sys.executable, "-m", "foveate.apps.cost.child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "") or sys.platform != "linux"


def test_a_process_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*arguments: Any, **options: Any) -> Any:
        return subprocess.CompletedProcess([], -9, "", "")

    monkeypatch.setattr(subprocess, "run", died)
    assert ask_child({"limit": 1}) == {"failed": "its process was killed (signal 9); memory may have run out"}


# growth


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_exact_power_laws_are_found(power: float) -> None:
    lengths = [100, 700, 900, 5000]
    assert exponent(lengths, [3.5 * n**power for n in lengths]) == pytest.approx(power, abs=1e-12)


def test_small_lengths_are_not_fitted() -> None:
    assert larger([1, 2, 4, 8, 16, 32, 64, 128]) == [16, 32, 64, 128]
    assert larger([1, 2, 4, 8]) == [2, 4, 8]
    assert larger([1, 2]) == []


def test_growth_says_its_range_and_the_clock(tmp_path: Path) -> None:
    found = study(tmp_path, Meter())
    assert table.growths(found).splitlines() == [
        "softmax   time ~ n^2.00, memory ~ n^1.00  (n = 128 to 512)",
        "window:5  time ~ n^1.00, memory ~ n^0.50  (n = 128 to 512)",
        "eager     time ~ n^3.00, memory ~ n^2.00  (n = 128 to 512)",
    ]
    point = found.point("softmax", 64)
    assert point is not None
    assert (point.seconds(), point.seconds(busy=True)) == pytest.approx((64**2 * 1e-9, 3 * 64**2 * 1e-9))


def test_a_busy_machine_is_noticed(tmp_path: Path) -> None:
    disturbed = {"wall": [4.0, 6.0], "processor": [2.0, 1.0], "bytes": 1, "memory": "", "backend": ""}
    meter = Meter(**{"softmax@64": disturbed})
    assert study(tmp_path / "a", meter, forms=["softmax"], lengths=[64]).lost() == pytest.approx(0.7)
    several = Settings(heads=2, width=8, threads=2)
    assert study(tmp_path / "b", meter, forms=["softmax"], lengths=[64], settings=several).lost() == 0
    assert study(tmp_path / "c", Meter(), forms=["softmax"], lengths=[64]).lost() == 0


def test_a_change_of_backend_is_not_fitted_through(tmp_path: Path) -> None:
    other = {"wall": [1.0], "processor": [1.0], "bytes": 1, "memory": "", "backend": "blocks"}
    found = study(tmp_path, Meter(**{"window:5@512": other}))
    assert "window:5  fewer than three lengths on one backend: no exponent" in table.growths(found)
    assert found.growth("softmax") is not None


def test_ratios_are_to_the_first_form(tmp_path: Path) -> None:
    found = study(tmp_path, Meter(), lengths=[64])
    softmax, window, eager = (line.split() for line in table.text(found).splitlines()[1:])
    assert [softmax[3], softmax[5]] == ["1.00", "1.00"]
    assert [window[3], window[5]] == ["0.02", "0.12"]
    assert [eager[3], eager[5]] == ["64.0", "64.0"]


# the plot


def test_the_plot_names_every_line(tmp_path: Path) -> None:
    png, svg = chart.draw(study(tmp_path, Meter()), tmp_path)
    text = svg.read_text()
    for label in (
        *POWERS,
        "time of a call, ms",
        "peak memory beyond inputs, MB",
        "2 heads of width 8",
        sentence(machine()),
    ):
        assert label in text
    assert png.stat().st_size > 10_000


def test_labels_do_not_touch() -> None:
    assert chart.spread([10, 50, 90], 20) == [10, 50, 90]
    assert chart.spread([50, 50], 20) in ([40, 60], [60, 40])
    found = chart.spread([5.0, 4.0, 30.0, 31.0, 12.0], 10)
    ordered = sorted(found)
    assert min(b - a for a, b in itertools.pairwise(ordered)) >= 10 - 1e-9
    assert found[1] < found[0] < found[4] < found[2] < found[3]


def test_without_matplotlib_the_table_is_still_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, Meter(), forms=["softmax"])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    given = ["cost", "--forms", "softmax", "--lengths", "64..512", "--heads", "2", "--width", "8", "-o", str(tmp_path)]
    assert cli.main(given) == 0
    out, err = capsys.readouterr()
    assert "time ~ n^2.00" in out
    assert err == "no plot: matplotlib is not installed; run: pip install 'foveate[plot]'\n"


# usage


def test_lengths() -> None:
    assert parse_lengths("512..4096") == [512, 1024, 2048, 4096]
    assert parse_lengths("3,100..500, 1_000") == [3, 100, 200, 400, 500, 1000]


def test_the_machine_in_words() -> None:
    facts = {"cores": 2, "cpu": "x86-64", "isa": "AVX-512"}
    assert sentence(facts) == "2 cores of an x86-64 CPU with AVX-512"
    assert sentence({"cores": 1, "cpu": "ppc64le", "isa": ""}) == "1 core of a ppc64le CPU"


def test_a_form_and_its_number() -> None:
    assert [parse_form(text)[1] for text in ("causal", "window:256", "documents:3")] == [0, 256, 3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--forms", "softmax,quadratic"], "unknown form 'quadratic'; expected some of softmax, causal, window:W"),
        (["--forms", ""], "unknown form ''; expected some of softmax"),
        (["--forms", "window"], "the form window:W takes a number of at least 1, as in window:256; got 'window'"),
        (["--forms", "window:0"], "takes a number of at least 1, as in window:256; got 'window:0'"),
        (["--forms", "causal:3"], "the form causal takes no number; got 'causal:3'"),
        (["--forms", "causal,causal"], "--forms names causal twice"),
        (["--lengths", "512,256"], "--lengths must increase; got 256 after 512"),
        (["--lengths", "512,512"], "--lengths must increase; got 512 after 512"),
        (["--lengths", "512..256"], "--lengths must increase; got 512..256"),
        (["--lengths", "0"], "--lengths takes numbers from 1 to 67,108,864 such as 512,1024 or 512..16384; got '0'"),
        (["--lengths", "512...1024"], "got '512...1024'"),
        (["--lengths", "²"], "got '²'"),
        (["--heads", "0"], "--heads is a number from 1 to 4,096; got 0"),
        (["--width", "-1"], "--width is a number from 1 to 4,096; got -1"),
        (["--threads", "0"], "--threads is a number from 1 to 1,024; got 0"),
        (["--dtype", "int8"], "unknown dtype 'int8'; expected one of float32, float64, bfloat16, float16"),
        (["--limit", "0"], "--limit is a number above 0; got 0"),
        (["--limit", "nan"], "--limit is a number above 0; got nan"),
        (["--memory", "-2"], "--memory is a number above 0; got -2"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert cli.main(["cost", *arguments, "-o", str(tmp_path / "new")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("foveate: ") and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_output_that_is_a_file_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["cost", "-o", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"foveate: File exists: {tmp_path / 'file'}\n"
