"""`foveate train qa` and `foveate qa`: from nothing but a seed to an answer, a store and the page."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from foveate.apps.errors import UserError
from foveate.apps.shipped import BUILTINS, builtin
from foveate.apps.task_model import TaskModel, open_folder
from foveate.tasks import answering
from miniatures import Runner

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "--width 16 --layers 1 --heads 2 --inner 16 --window 6 --signs 64 --epochs 1 --warmup 2 --threads 1 --device cpu"
)
QUESTION, PAGE = "What is the capital of France?", "France is a country. Paris is the capital."


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setattr(answering, "MADE", {"train": 120, "valid": 10, "test": 10})
    return Runner(tmp_path, capsys, monkeypatch)


def test_qa_from_a_seed_to_the_page(run: Runner, tmp_path: Path) -> None:
    code, out, err = run(f"train qa -o m {SMALL}")
    assert (code, out.splitlines()[1]) == (0, '  foveate qa m "What is ...?" --context "..."')
    assert "train: 120 examples of its own; read 120 examples, skipped none\n" in err
    card = (tmp_path / "m" / "CARD.md").read_text(encoding="utf-8")
    assert "- Test on made (test), 10 examples, looked at once: accuracy " in card

    code, out, _ = run("qa m", QUESTION, "--context", PAGE)
    answer, empty, text, bars = out.split("\n")[:4]
    assert (code, empty, text) == (0, "", "France is a country . Paris is the capital .")
    assert answer.split("  ")[0] in PAGE and answer.endswith(" %") and bars.strip()
    (tmp_path / "page.txt").write_text(PAGE, encoding="utf-8")
    told = [
        json.loads(run.lines(f'qa m "{QUESTION}" --context {where} --json', stdin=PAGE)[0])
        for where in ("page.txt", "-")
    ]
    told.append(json.loads(run.lines(f'qa m "{QUESTION} {PAGE}" --json')[0]))
    assert told[0] == told[1] == told[2]
    assert sum(told[0]["weights"]) == pytest.approx(1, abs=1e-4)
    first, past = told[0]["span"]
    read = told[0]["words"][first:past]
    assert "".join(read) == told[0]["answer"].replace(" ", "")
    assert answer.startswith(f"{told[0]['answer']}  ")

    (tmp_path / "facts.txt").write_text("Rome is old.\n\nOrsk is the capital of Veldania\nTal rules Bel.\n")
    found = json.loads(run.lines('qa m "What is the capital of Veldania?" --store facts.txt --facts 1 --json')[0])
    assert (found["line"], found["words"]) == (3, ["Orsk", "is", "the", "capital", "of", "Veldania", "."])
    out = run.lines('qa m "What is the capital of Veldania?" --store - --facts 1', stdin="Orsk is Veldania's.\n")
    assert out[1] == "line 1: Orsk is Veldania's."

    model = open_folder("m")
    assert isinstance(model, TaskModel)
    document = model.run(f"{QUESTION} {PAGE}", None, lambda progress, message: None).document()
    assert document.sequences[0].source.text == (*QUESTION[:-1].split(), "?", *text.split())
    assert document.sequences[0].target is not None
    assert document.sequences[0].target.text == ("answer",)
    assert document.message.startswith(f"{' '.join(read)} (")
    assert document.notes[-1].startswith("begins looks at the first word")
    assert [(call.kind, call.heads, call.queries) for call in document.calls] == [
        ("encoder", 2, 17), ("cross", 1, 1), ("encoder", 1, 17),
    ]  # fmt: skip
    assert len(model.examples) == 3 and all("?" in example for example in model.examples)
    with pytest.raises(UserError, match="a question with its question mark comes first, then the text"):
        model.run("Paris is the capital.", None, lambda progress, message: None)


def test_the_page_offers_what_the_package_has_by_name(run: Runner, tmp_path: Path) -> None:
    assert run("view qa --export page.html")[0] == 0
    assert "Paris" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, out, _ = run("view qa --terminal --layer 3", "--text", f"{QUESTION} {PAGE}")
    assert code == 0 and "Paris" in out
    for name in BUILTINS:
        made = builtin(name)
        assert made is not None and made.examples
    assert builtin("my-model") is None
    run.lines(f"train qa -o qa {SMALL}")
    assert builtin("qa") is None  # a folder of that name is what is meant
    found = open_folder("qa")
    assert isinstance(found, TaskModel) and found.name == "qa"


def test_the_benchmark_runs_on_a_model_that_is_there(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run.lines(f"train qa -o m {SMALL}")
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    measured = importlib.import_module("qa")
    run.capsys.readouterr()
    assert measured.main(["--model", "m", "--questions", "20", "--facts", "60", "--threads", "1"]) == 0
    figures = [importlib.import_module("figures").parse(line) for line in run.capsys.readouterr().out.splitlines()]
    assert [one.goal for one in figures] == [">= 98", ">= 90", None, None, None, None, None]
    assert [one.peer[0] for one in figures[:3]] == ["shared words"] * 3
    assert all(0 <= one.measured <= 100 for one in figures[:4])
    assert figures[0].peer[1] > 20  # where a sentence has both, shared words find the answer


def test_what_is_wrong_is_one_sentence(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("Who?\tBel rules.\tBel\nWho?\tBel rules.\tTal\n", encoding="utf-8")
    (tmp_path / "bits.txt").write_bytes(b"fine\n\xff\n")
    (tmp_path / "long.txt").write_bytes(b"word " * 4098)
    for command, message in (
        (f"train qa --train bad.tsv --valid bad.tsv -o x {SMALL}", "bad.tsv:2: the answer 'Tal' does not stand in the"),
        (f"train qa --train bad.tsv -o x {SMALL}", "test may be one; or none of them is: got train alone"),
        (
            f"train qa --heads 3 -o x {SMALL.replace('--heads 2', '')}",
            "width must be a multiple of heads; got width 16",
        ),
        ('qa nowhere "Who?" --context text', "no model: there is no folder nowhere"),
        ('qa . "Who?" --context text', "no model.safetensors in"),
        ('qa "Who rules?"', "a question needs a text that answers it: --context TEXT, or facts: --store FILE"),
        ('qa "Who?" --context text --facts 3', "--facts says how many facts of a --store are read"),
        ('qa "Who?" --context "a text" --json --export x.html', "--export writes a page; leave out --json"),
        ('qa "Who?" "a text"', "no model: there is no folder Who?; a text goes behind --context"),
    ):
        code, out, err = run(command)
        assert (code in (1, 2), out) == (True, ""), command
        assert message in err.splitlines()[-1]
    assert not (tmp_path / "x").exists()
    run.lines(f"train qa -o m {SMALL}")
    for command, message in (
        ('qa m "?" --context "a text"', "there is no word in the question"),
        ('qa m "Who?" --context ""', "there is no word in the text"),
        ('qa m "Who?" --context none.txt', "there is no file none.txt; and as a text it is one word"),
        ('qa m "Who?" --store long.txt', "facts that fit best (1) have 4,101 words; at most 4,000 are read: ask for"),
        ('qa m "Who?" --store none.txt', "none.txt: there is no file none.txt"),
        ('qa m "Who?" --store bits.txt', "bits.txt:2: expected UTF-8 text; byte 1 of the line is 0xFF"),
        ('qa m "Who?" --store -', "a store needs at least one fact"),
    ):
        code, out, err = run(command)
        assert (code, out) == (1, ""), command
        assert message in err.splitlines()[-1]
    code, out, _ = run('qa m "Who rules Bel?" --store -', stdin="\x1b[31mTal\x07 rules Bel.\n")
    assert (code, [mark for mark in out if ord(mark) < 32 and mark != "\n"]) == (0, [])  # nothing that tells a terminal
