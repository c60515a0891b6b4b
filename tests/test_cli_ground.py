"""`foveate train ground` and `foveate ground`: from a seed to a place in a picture, and the page."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

from foveate.apps.errors import UserError
from foveate.apps.shipped import pointer
from foveate.apps.task_model import TaskModel, open_folder
from foveate.tasks import grounding
from miniatures import Runner

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = "--channels 6 --width 16 --layers 2 --heads 2 --inner 16 --epochs 1 --warmup 2 --threads 1 --device cpu"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setattr(grounding, "MADE", {"train": 60, "valid": 10, "test": 10})
    return Runner(tmp_path, capsys, monkeypatch)


@pytest.fixture
def model(run: Runner, tmp_path: Path) -> Path:
    code, out, err = run(f"train ground -o m {SMALL}")
    assert (code, out.splitlines()[1]) == (0, '  foveate ground m "the red circle" --scene 1')
    assert "train: 60 examples of its own; read 60 scenes, skipped none\n" in err
    Image.new("RGB", (192, 96), (200, 30, 30)).save(tmp_path / "red.png")
    return tmp_path / "m"


def test_ground_from_a_seed_to_a_place(run: Runner, model: Path) -> None:
    card = (model / "CARD.md").read_text(encoding="utf-8")
    assert "- Test on made (test), 10 examples, looked at once: accuracy " in card
    assert ", pointing " in card
    code, out, _ = run('ground m "the red circle" --scene 3')
    first, empty, *rows = out.splitlines()
    assert (code, empty, len(rows)) == (0, "", 12)
    told = json.loads(run.lines('ground m "the red circle" --scene 3 --json')[0])
    assert first.startswith(f"fits: {100 * told['fits']:.1f} %, ")
    assert f"at x {told['x']:.0f}, y {told['y']:.0f} (row {told['row'] + 1}, column {told['column'] + 1})" in first
    assert ("nothing seems to fit" in first) == (told["fits"] < 0.5)
    assert told["words"] == ["the", "red", "circle"]
    weights = told["weights"][0]
    assert sum(map(sum, weights)) == pytest.approx(told["fits"], abs=1e-3)
    assert weights[told["row"]][told["column"]] == max(map(max, weights))
    assert abs(told["x"] - (8 * told["column"] + 4)) <= 8 and abs(told["y"] - (8 * told["row"] + 4)) <= 8
    wide = json.loads(run.lines('ground m "the mauve circle" --image red.png --json')[0])
    assert abs(wide["x"] - (16 * wide["column"] + 8)) <= 16
    assert wide["unknown"] == ["mauve"]
    assert "not known: mauve" in run('ground m "the mauve circle" --image red.png')[1]


def test_the_page_shows_the_picture_and_who_reads_it(run: Runner, model: Path, tmp_path: Path) -> None:
    shown = open_folder(model)
    assert isinstance(shown, TaskModel)
    assert shown.examples[0].startswith("scene 1: ")
    source = shown.run("scene 4: the red circle", None, lambda *_: None)
    (sequence,) = source.document().sequences
    assert sequence.picture is not None and (sequence.picture.rows, sequence.picture.first) == (12, 1)
    assert sequence.source.text[:2] == ("nowhere", "1,1")
    assert sequence.target is not None and sequence.target.text == ("the", "red", "circle")
    kinds = [(call.name, call.rows, call.columns) for call in source.document().calls]
    assert kinds == [
        ("layers.0.attention", "target", "target"),
        ("layers.0.pointer", "target", "source"),
        ("layers.1.attention", "target", "target"),
        ("layers.1.places", "target", "target"),
        ("layers.1.pointer", "target", "source"),
    ]
    assert source.document().focus is not None and source.document().focus.call == 4  # the last layer's answer
    with pytest.raises(UserError, match="say which scene"):
        shown.run("the red circle", None, lambda *_: None)
    shown.about(tmp_path / "red.png")
    assert not shown.examples[0].startswith("scene")
    (sequence,) = shown.run("the red circle", None, lambda *_: None).document().sequences
    assert sequence.picture is not None and sequence.picture.pixels.shape == (96, 192, 3)
    code, _, _ = run('ground m "the red circle" --image red.png --export page.html')
    assert (code, (tmp_path / "page.html").stat().st_size > 100_000) == (0, True)
    code, _, _ = run('view m --image red.png --text "the red circle" --export two.html')
    assert (code, (tmp_path / "two.html").stat().st_size > 100_000) == (0, True)


def test_the_model_of_the_package_needs_no_folder(run: Runner, tmp_path: Path) -> None:
    (line,) = run.lines('ground "the thing above the little green star" --scene 1 --json')
    assert json.loads(line)["unknown"] == []
    code, _, _ = run('ground "the red circle" --scene 4 --export page.html')
    assert code == 0 and "built-in pointer" in (tmp_path / "page.html").read_text(encoding="utf-8")
    Image.new("RGB", (50, 40), (20, 20, 20)).save(tmp_path / "dark.png")
    code, out, _ = run('ground "the red circle" --image dark.png')
    assert code == 0 and "nothing seems to fit" in out
    assert run('view ground --image dark.png --text "the red circle" --export two.html')[0] == 0
    model = pointer()
    for example in model.examples:
        assert "fits here" in model.run(example, None, lambda *_: None).document().message


def test_the_benchmark_runs_on_a_model_that_is_there(run: Runner, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    measured = importlib.import_module("ground")
    run.capsys.readouterr()
    assert measured.main(["--model", "m", "--scenes", "30", "--threads", "1"]) == 0
    figures = [importlib.import_module("figures").parse(line) for line in run.capsys.readouterr().out.splitlines()]
    assert [one.goal for one in figures] == [">= 95", *[None] * 7]
    assert all(0 <= one.measured <= 100 for one in figures)
    assert 10 < figures[0].peer[1] < 45  # there are 3 to 6 things


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('ground m " " --scene 1', "there is no word in this text"),
        ('ground m "the red circle" --image none.png', "there is no file none.png"),
        ('ground m "the red circle" --image m/CARD.md', "m/CARD.md is no picture"),
        ('ground none "the red circle" --scene 1', "no model: there is no folder none"),
        ("view m --image none.png", "there is no file none.png"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(run: Runner, model: Path, words: str, message: str) -> None:
    code, _, err = run(words)
    assert code != 0
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('ground m "the red circle"', "one of the arguments --image --scene is required"),
        ('ground m "the red circle" --scene 0', "expected a whole number from 1 to 1,000,000,000; got '0'"),
    ],
)
def test_a_picture_is_named(run: Runner, capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    with pytest.raises(SystemExit):
        run(words)
    assert message in capsys.readouterr().err
