"""`foveate translate` and the page of a translator, with miniatures that are trained in seconds."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps import cli, lines, terminal
from foveate.apps.answers import Search, answers
from foveate.tasks.alignment import parse_links
from foveate.tasks.translation import Sampling, Translation, Translator, load, save, store
from foveate.tasks.translation.shape import build
from miniatures import MOST, NUMBERS, PAIRS, Runner, models
from test_export import data_of

ALL = "".join(f"{source}\n" for source, _ in PAIRS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield models(tmp_path_factory.getbasetemp())
    torch.set_num_threads(threads)


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(place, capsys, monkeypatch)


# help and usage


@pytest.mark.parametrize("command", ["train", "train translation", "translate", "align"])
def test_help_shows_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert f"  foveate {command}" in out.split("examples:")[1]
    assert max(len(line) for line in out.splitlines()) <= 105


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train", "the following arguments are required: TASK"),
        ("train nonsense", "invalid choice: 'nonsense'"),
        ("train translation", "the following arguments are required: --train, --valid, -o/--output"),
        ("translate x --beam 0", "argument --beam: expected a whole number from 1 to 1,000; got '0'"),
        ("translate x --temperature nan", "--temperature: expected a number above 0; got 'nan'"),
        ("translate x --top-p 1.5", "--top-p: expected a number above 0 and at most 1; got '1.5'"),
        ("translate x --json --pharaoh", "argument --pharaoh: not allowed with argument --json"),
        ("translate \udcff", "argument text: invalid text (UTF-8) value"),
        ("align --model x --head third", "argument --head: expected a whole number from 0; got 'third'"),
        ("align --model x --threshold 2", "--threshold: expected a number from 0 and below 1; got '2'"),
        ("align --model x --symmetrize both", "argument --symmetrize: invalid choice: 'both'"),
    ],
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], command: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(command.split())
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("translate", 2, "give a sentence in quotation marks; or -, or --file"),
        ("translate x --file y", 2, "give a sentence or --file, not both"),
        ("translate ' '", 1, "the text is empty"),
        ("translate 'a b' 'c d'", 2, "give a sentence, as one argument or word by word; several go into --file"),
        ("translate x --seed 1", 2, "--seed is of --sample; add it"),
        ("translate x --sample --beam 2", 2, "--sample draws and searches no beam; leave out --beam"),
        ("translate x --pharaoh --no-alignment", 2, "--pharaoh prints the alignment of the best one"),
        ("translate x --json --alignment", 2, "--alignment is a picture in the terminal"),
        ("translate x --export p.html --json", 2, "--export writes a page; leave out --json and --pharaoh"),
        ("translate x --view --nbest 2", 2, "leave out options of search"),
        ("translate x --model en-fr --export no/p.html", 1, "there is no folder no"),
        ("translate x --model nowhere", 1, "no model: there is no folder nowhere"),
        ("translate x --model .", 1, "no model.safetensors in miniatures; train one first, or name another folder"),
        ("translate --file nothing --model en-fr", 1, "nothing: there is no file nothing"),
        ("translate --file . --model en-fr", 1, ".: the file cannot be read: Is a directory"),
        ("translate x --model fixed --pharaoh", 1, "one fixed vector for a whole text, and no alignment to show"),
        ("translate x --model fixed --view", 1, "This model has one fixed vector and no attention to look at"),
        ("align --model en-fr", 2, "give the pairs to align: a TSV file, two files, or - for standard input"),
        ("align --model en-fr a b c", 2, "pairs are one TSV file, two line-aligned files, or -; got a b c"),
        ("align --model en-fr - b", 2, "pairs are one TSV file, two line-aligned files, or -; got - b"),
        ("align", 2, "give the pairs to align: a TSV file, two files, or - for standard input"),
        ("align --model en-fr --reverse-model fr-en --symmetrize none x", 2, "two models are always merged"),
        ("align --model en-fr --soft --symmetrize union x", 2, "--soft prints weights, and --symmetrize merges links"),
        ("align --model en-fr --reverse-model fr-en --soft x", 2, "--soft is of one model alone"),
        ("align --model en-fr --choose x --layer 0", 2, "--choose finds out what to read; leave out --layer"),
        ("align --model en-fr --save x", 2, "--save keeps what --choose finds; add --choose TSV"),
        ("align --model en-fr nothing.tsv", 1, "nothing.tsv: there is no file nothing.tsv"),
        ("align --model en-fr pairs.tsv -o no/links.txt", 1, "there is no folder no"),
        (
            "align --model en-fr --layer 1 pairs.tsv",
            2,
            "the decoder has 1 layers with attention, counted from 0; got 1",
        ),
        ("align --model transformer --head 2 pairs.tsv", 2, "the attention has 2 heads, counted from 0; got 2"),
        ("align --model fixed pairs.tsv", 1, "the model in fixed has one fixed vector"),
        ("align --model en-fr pairs.en pairs.tsv.gz", 1, "pairs.tsv.gz: there is no file pairs.tsv.gz"),
        ("view en-fr --model en-fr", 2, "one model is shown; leave out --model"),
        ("train translation --train a b c --valid a -o x", 2, "--train takes one TSV file or two line-aligned files"),
        ("train translation --train a --valid a --layers 2 -o x", 2, "--arch rnn has no --layers; leave it out"),
        (
            "train translation --train a --valid a --arch transformer --hidden 9 --attention dot -o x",
            2,
            "--arch transformer has no --attention, --hidden; leave it out",
        ),
        ("train translation --train no.tsv --valid a -o x", 1, "no.tsv: there is no file no.tsv"),
        ("train translation --train pairs.tsv --valid pairs.tsv --hidden 7 -o x", 1, "hidden must be even"),
        ("train translation --train pairs.tsv --valid pairs.tsv -o en-fr", 1, "en-fr holds a run that can go on and a"),
        ("train translation --train pairs.tsv --valid pairs.tsv -o pairs.tsv", 1, "pairs.tsv: it is no folder"),
        ("train translation --train pairs.tsv --valid pairs.tsv -o x --resume", 1, "nothing to resume: there is no "),
    ],
)
def test_mistakes_are_one_sentence(run: Runner, command: str, code: int, sentence: str) -> None:
    found, out, err = run(command)
    assert (found, out) == (code, "")
    assert sentence in err
    assert err.startswith("foveate: ")
    assert err.count("\n") == 1
    assert not Path("x").exists()


# translate


def test_the_miniature_translates(run: Runner) -> None:
    found = run.lines("translate - --model en-fr", ALL)
    assert sum(text == target for text, (_, target) in zip(found, PAIRS, strict=True)) >= MOST
    back = run.lines("translate - --model fr-en", "".join(f"{target}\n" for _, target in PAIRS))
    assert sum(text == source for text, (source, _) in zip(back, PAIRS, strict=True)) >= MOST


def test_json_holds_everything(run: Runner) -> None:
    found = [
        json.loads(line)
        for line in run.lines("translate - --model en-fr --json --nbest 3", ALL + "\n \nI  see two cats .")
    ]
    assert len(found) == 63
    numbers = set(NUMBERS) | set(NUMBERS.values())
    right = 0
    for one in found[:60]:
        assert 1 <= len(one["alternatives"]) <= 2
        for translation in (one, *one["alternatives"]):
            assert translation["translation"] == " ".join(translation["words"])
            assert "".join(translation["tokens"]).replace("▁", " ").strip() == translation["translation"]
            assert len(translation["token_scores"]) == len(translation["tokens"]) + 1
            assert sorted(target for _, target in translation["alignment"]) == list(range(len(translation["words"])))
            assert all(0 <= source < len(one["source_words"]) for source, _ in translation["alignment"])
        assert one["score"] >= one["alternatives"][0]["score"]
        links = [(one["source_words"][i], one["words"][j]) for i, j in one["alignment"]]
        (number,) = [link for link in links if link[1] in numbers]
        right += NUMBERS.get(number[0]) == number[1]
    assert right >= MOST
    for empty in found[60:62]:
        assert (empty["source"], empty["translation"], empty["tokens"], empty["alignment"]) == ("", "", [], [])
    assert {**found[62], "source": ""} == {
        **json.loads(run.lines("translate - --model en-fr --json --nbest 3", ALL)[0]),
        "source": "",
    }
    plain = json.loads(run.lines("translate - --model en-fr --json --no-alignment", "I see two cats .")[0])
    assert plain["alignment"] is None
    assert "alternatives" not in plain
    assert plain["tokens"] == found[62]["tokens"]


def test_fixed_vectors_have_no_alignment_in_json(run: Runner) -> None:
    (line,) = run.lines("translate - --model fixed --json", "how are you ?")
    assert json.loads(line)["alignment"] is None


def test_alignments_alone(run: Runner) -> None:
    found = run.lines("translate - --model en-fr --pharaoh", "I see two cats .\n\nwe have six dogs .\n")
    assert found[1] == ""
    assert all((2, 2) in parse_links(line) for line in found[::2])


def test_lists_of_the_best(run: Runner) -> None:
    found = [
        line.split("\t")
        for line in run.lines("translate - --model en-fr --nbest 2", "I see two cats .\n\nwe have six dogs .")
    ]
    assert [line[0] for line in found] == ["1", "1", "", "3", "3"]
    assert float(found[0][1]) >= float(found[1][1])
    assert found[0][2] == run.lines("translate - --model en-fr", "I see two cats .")[0]


def test_a_picture_where_it_is_asked_for_or_somebody_looks(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    code, plain, _ = run("translate --model en-fr", "I see three dogs .")
    assert (code, plain) == (0, "je vois trois chiens .\n")
    _, drawn, _ = run("translate --model en-fr --alignment", "I see three dogs .")
    line, empty, header, *rows = drawn.splitlines()
    assert (line, empty, header.split()) == ("je vois trois chiens .", "", ["I", "see", "three", "dogs", "."])
    assert [row.split()[0] for row in rows] == line.split()
    weights = [int(number) for number in re.findall(r"\d+", rows[2])]
    assert max(weights) > 50
    assert rows[2].index(str(max(weights))) in range(header.index("three"), header.index("dogs"))
    monkeypatch.setattr(terminal, "_colours", lambda file: None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("translate --model en-fr", "I see three dogs .")[1] == drawn
    assert run("translate --model en-fr --no-alignment", "I see three dogs .")[1] == plain
    two = run("translate - --model en-fr", stdin="I see three dogs .\nI see three dogs .\n")[1]
    assert two == f"{drawn}\n{drawn}"


def test_what_cannot_be_translated_keeps_its_line(run: Runner) -> None:
    text = "I see two cats .\r\n" + "cats " * 10_000 + "\n\ufeff\n" + "x" * (2 << 20) + "\nI see two cats ."
    code, out, err = run("translate - --model en-fr", stdin=text)
    first, long, _, longer, last = out.split("\n", 4)
    assert (code, long, longer) == (1, "", "")
    assert first == last.strip() == "je vois deux chats ."
    assert re.sub(r"[\d,]{6,}", "N", err) == (
        "foveate: line 2: the text has N tokens; at most 511 are translated at once\n"
        "foveate: line 4: a line may have N bytes; got more\n"
    )
    code, out, _ = run("translate - --model en-fr --json", stdin="cats " * 600)
    assert code == 1
    assert json.loads(out)["error"] == "the text has 600 tokens; at most 511 are translated at once"
    code, out, err = run("translate --model en-fr", "cats " * 600)
    assert (code, out) == (1, "")
    assert err == "foveate: the text has 600 tokens; at most 511 are translated at once\n"


def test_lines_that_are_no_text_are_named_and_the_rest_is_translated(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbfI see two cats .\n\xff\xfe\x01\nnul\0\nI see two cats .")
    code, out, err = run(f"translate --file {tmp_path}/in.txt --model en-fr")
    assert code == 1
    first, *failed, last = out.splitlines()
    assert first == last == "je vois deux chats ." and failed == ["", ""]
    assert err == (
        "foveate: line 2: expected UTF-8 text; byte 1 of the line is 0xFF\n"
        "foveate: line 3: expected text; byte 4 of the line is 0x00\n"
    )


def test_packed_text_is_unpacked(run: Runner, tmp_path: Path) -> None:
    packed = gzip.compress(b"I see two cats .\r\nI see two cats .\n")
    (tmp_path / "in.txt.gz").write_bytes(packed)
    code, out, _ = run(f"translate --file {tmp_path}/in.txt.gz --model en-fr")
    assert (code, out) == (0, "je vois deux chats .\nje vois deux chats .\n")
    for name, data, rule in (
        ("cut.gz", packed[:-9], "the file is cut off in the middle"),
        ("odd.gz", b"I see two cats .", "not packed by gzip"),
        ("in.txt", packed, "this is packed by gzip. Let its name end in .gz"),
    ):
        (tmp_path / name).write_bytes(data)
        code, _, err = run(f"translate --file {tmp_path}/{name} --model en-fr")
        assert code == 1 and rule in err


def test_options_of_search_reach_it(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def spy(translator: Translator, texts: list[str], **options: Any) -> list[Translation]:
        asked.update(options)
        return found(translator, texts, **options)

    found = Translator.translate
    monkeypatch.setattr(Translator, "translate", spy)
    assert run("translate x --model en-fr --beam 2 --nbest 3 --length-penalty 0.5")[0] == 0
    assert asked == {"beam": 2, "nbest": 3, "length_penalty": 0.5, "sampling": None, "weights": False}
    assert run("translate x --model en-fr --sample --temperature 2 --top-k 9 --top-p 0.5 --seed 4 --json")[0] == 0
    assert asked["sampling"] == Sampling(2.0, 9, 0.5, 4)
    assert asked["weights"] is True


def test_the_same_seed_draws_the_same(run: Runner) -> None:
    draws = {
        seed: run.lines(f"translate - --model en-fr --sample --temperature 3 --seed {seed}", ALL) for seed in (1, 2)
    }
    assert draws[1] == run.lines("translate - --model en-fr --sample --temperature 3 --seed 1", ALL)
    assert draws[1] != draws[2]
    best = run.lines("translate - --model en-fr --sample --top-k 1", ALL)
    assert best == run.lines("translate - --model en-fr --beam 1", ALL)
    again = run.lines("translate - --model en-fr --sample --temperature 3 --nbest 2", "I see two cats .\n" * 2)
    assert len(again) == 4


def test_what_is_drawn_does_not_depend_on_how_fast_lines_come(
    run: Runner, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = run.lines("translate - --model en-fr --sample --temperature 9", ALL)
    monkeypatch.setattr(lines, "CHUNK", 17)
    assert run.lines("translate - --model en-fr --sample --temperature 9", ALL) == together
    model, search = load(place / "en-fr"), Search(sampling=Sampling(9.0), weights=False)
    typed = [next(answers(model, ["I see two cats ."], search, first=line)).found for line in range(1, 9)]
    assert len({found.text for found in typed if found is not None}) > 1


def test_an_empty_line_has_all_fields(run: Runner) -> None:
    full, empty = (json.loads(line) for line in run.lines("translate - --model en-fr --json", "I see two cats .\n\n"))
    assert full.keys() == empty.keys()
    assert not any(empty.values())


def test_text_that_is_utf_16_is_refused(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("I see two cats .\n".encode("utf-16"))
    code, out, err = run(f"translate --model en-fr --file {tmp_path}/a.txt")
    assert (code, out, err) == (1, "", "foveate: a.txt: expected UTF-8 text; this is UTF-16. Save it as UTF-8\n")


def test_the_built_in_translator_may_be_missing(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUILTIN", tmp_path)
    code, _, err = run("translate x")
    assert code == 1
    assert "the built-in translator is not part of this installation; name another one: --model DIR" in err


def test_without_a_model_the_built_in_one_translates(
    run: Runner, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "en-fr", tmp_path / "en-fr")
    made = load(place / "en-fr")
    shape = replace(made.shape, attention="none")
    model = build(shape, len(made.subwords), made.model.embedding.outputs)
    save(tmp_path / "en-fr-fixed", model, made.subwords, shape, {})
    (tmp_path / "en-fr-fixed" / "subwords.json").unlink()
    monkeypatch.setattr(store, "BUILTIN", tmp_path)
    store.builtin.cache_clear()
    try:
        assert run("translate", "I see three dogs .")[1] == "je vois trois chiens .\n"
        assert run(f"translate --export {tmp_path}/p.html", "I see three dogs .")[0] == 0
    finally:
        store.builtin.cache_clear()
    assert "instead of attention" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_translating_needs_tokenizers(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for command in ("translate x --model en-fr", "view en-fr --export p.html"):
        code, _, err = run(command)
        assert (code, err) == (1, "foveate: tokenizers is not installed; run: pip install 'foveate[train]'\n")


@pytest.mark.parametrize("broken", ["model.json", "model.safetensors", "subwords.json"])
def test_broken_models_are_one_sentence(run: Runner, place: Path, tmp_path: Path, broken: str) -> None:
    shutil.copytree(place / "en-fr", tmp_path / "m")
    (tmp_path / "m" / broken).write_text("{")
    code, _, err = run(f"translate x --model {tmp_path}/m")
    assert code == 1
    assert err.startswith(f"foveate: {broken} ")
    assert err.count("\n") == 1


class Slow:
    """Chunks that arrive one by one."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def read1(self, size: int) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def test_lines_are_answered_as_they_arrive() -> None:
    chunks = b"a\nb\n", b"c", b"", b"never"
    assert list(lines.groups(Slow(*chunks), 3)) == [["a", "b"], ["c"]]
    assert list(lines.groups(Slow(b"a", b"b\nc\r\n d\n\ne", b"f"), 2)) == [["ab", "c"], ["d", ""], ["ef"]]
    assert list(lines.groups(Slow(b"a\n", b"b\n", b"c\nd\n", b"e\n"), 2, full=True)) == [["a", "b"], ["c", "d"], ["e"]]
    (long,), (short,) = lines.groups(Slow(*[b"x" * (1 << 19)] * 5, b"\ny"), 9)
    assert isinstance(long, lines.Unreadable) and short == "y"
    assert list(lines.groups(Slow(), 3)) == []


def test_a_line_without_end_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        ((line,),) = lines.groups(Slow(*[b"x" * lines.MAX_BYTES] * 40), 3)
        assert tracemalloc.get_traced_memory()[1] < 10 * lines.MAX_BYTES
    finally:
        tracemalloc.stop()
    assert line == lines.Unreadable("a line may have 1,048,576 bytes; got more")


def test_a_pipe_is_answered_line_by_line(place: Path) -> None:
    command = [sys.executable, "-m", "foveate", "translate", "-", "--model", str(place / "en-fr")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, text=True, env={**environment, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        patience = threading.Timer(90, process.kill)
        patience.start()
        for source, target in PAIRS[:2]:
            process.stdin.write(f"{source}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            assert process.stdout.readline() == f"{target}\n"  # type: ignore[union-attr]
        out, err = process.communicate(timeout=60)
        patience.cancel()
        assert (process.returncode, out, err) == (0, "", "")


# the page


@pytest.mark.parametrize(
    "command", ["translate --model en-fr", "view en-fr --text", "view --model en-fr --text"], ids=lambda c: c.split()[1]
)
def test_the_page_of_a_translator(run: Runner, tmp_path: Path, command: str) -> None:
    code, out, _ = run(f"{command} 'I see three dogs .' --export {tmp_path}/p.html")
    assert (code, out) == (0, f"{tmp_path}/p.html\n")
    document = data_of((tmp_path / "p.html").read_text(encoding="utf-8"))["document"]
    assert document["model"] == "en-fr"
    assert document["message"] == "je vois trois chiens ."


def test_a_page_of_a_given_translation(run: Runner, tmp_path: Path) -> None:
    command = f"view en-fr --text 'I see three dogs .' --target 'je vois six chats .' --export {tmp_path}/p.html"
    assert run(command)[0] == 0
    document = data_of((tmp_path / "p.html").read_text(encoding="utf-8"))["document"]
    assert document["message"] == "je vois six chats ."


def test_a_folder_that_is_no_translator_is_still_a_recording(run: Runner) -> None:
    assert run("view nowhere")[2].startswith("foveate: no recording there: nowhere; ")
    assert run("view en-fr/pictures")[2].startswith("foveate: en-fr/pictures holds no recording, and no model")


# from Python


def test_the_documented_examples_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-translator").symlink_to(place / "en-fr")
    for name in ("pairs.tsv", "valid.tsv"):
        (tmp_path / name).write_text((place / "pairs.tsv").read_text())
    page = (Path(__file__).parent.parent / "docs" / "translation.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/translation.md", "exec"), scope)
    assert len(scope["found"].alternatives) == 2
    assert set(scope["outcome"].metrics) == {"BLEU"}
    assert fv.tasks.translation.load("small").translate(["I see two cats ."])[0].words is not None


def test_tasks_are_loaded_when_they_are_used(place: Path) -> None:
    code = (
        "import sys, foveate as fv\n"
        "before = 'foveate.tasks' in sys.modules\n"
        f"found = fv.tasks.translation.load({str(place / 'en-fr')!r}).translate(['I see three dogs .'])\n"
        "print(before, found[0].text, [m for m in ('matplotlib', 'sacrebleu', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False je vois trois chiens . []\n", done.stderr


def test_tasks_have_no_other_names() -> None:
    with pytest.raises(AttributeError, match=r"module 'foveate\.tasks' has no attribute 'chess'"):
        fv.tasks.chess  # noqa: B018
    assert {"alignment", "translation"} <= set(dir(fv.tasks))
