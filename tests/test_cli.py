"""The command line: exit codes, one sentence for every mistake, and real processes for what only they can show."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps import cli, terminal
from foveate.apps.commands import common
from foveate.apps.models import HubModel
from foveate.apps.viewing import source_of
from foveate.views.source import Source
from test_export import data_of
from tiny import save_bert, save_gpt2, save_t5

SENTENCE = "the cat sat on the mat because it was tired ."
COMMANDS = ["view", "resolve", "record", "cost", "demo"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"bert": save_bert(folder / "bert"), "gpt2": save_gpt2(folder / "gpt2"), "t5": save_t5(folder / "t5")}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


# help, version, usage


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"foveate {fv.__version__}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"] if command else ["--help"])
    out = capsys.readouterr().out
    assert f"  foveate {command}" in out.split("examples:")[1]
    assert max(len(line) for line in out.splitlines()) <= 105


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["view", "--bad"], ["record", "x"], ["resolve"], ["resolve", "\udcff"]]
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: foveate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["view", "no.fov"], 1, "foveate: no recording there: no.fov; the built-in models are resolve, qa"),
        (["view", "no.fov", "--text", "x"], 1, "foveate: no recording there: no.fov"),
        (["view", "{tmp}", "--text", "x"], 1, "{tmp} holds no recording, and no model that foveate train left"),
        (["view", "{bert}", "--model", "x"], 2, "is a model, one model is shown; leave out --model"),
        (["view", "--text", ""], 1, "the text is empty"),
        (["view", "--text", "x", "--export", ""], 1, "it is a folder; give the name of a file"),
        (["view", "--text", "x", "--export", "{tmp}/no/x.html"], 1, "there is no folder {tmp}/no"),
        (["view", "--port", "99999"], 2, "a port is a number from 0 to 65535; got 99999"),
        (["view", "--model", "nobody/nothing"], 1, "no model of that name could be read"),
        (["view", "--model", "/no/model"], 1, "There is no folder /no/model."),
        (["view", "--file", "/no/file.txt"], 1, "cannot read /no/file.txt: No such file or directory"),
        (["view", "--file", "/"], 1, "cannot read /: Is a directory"),
        (["record", "/no/model", "--text", "x", "-o", "{tmp}/x.fov"], 1, "There is no folder /no/model."),
        (["record", "/no/model", "--text", " ", "-o", "{tmp}/x.fov"], 1, "the text is empty"),
        (["record", "/no/model", "--text", "x", "-o", "{tmp}"], 1, "exists already; choose another name"),
        (["view", "--model", "{bert}", "--target", "x"], 2, "--target is for encoder-decoder models"),
        (
            ["view", "--model", "{bert}", "--text", "cat " * 40, "--export", "x"],
            1,
            "has 42 tokens; bert takes at most 32",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
    models: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    given = [a.replace("{tmp}", str(tmp_path)).replace("{bert}", str(models["bert"])) for a in arguments]
    found, out, err = run(capsys, *given)
    assert found == code
    assert out == ""
    assert sentence.replace("{tmp}", str(tmp_path)) in err
    assert err.startswith("foveate: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_files_must_be_text_and_short(tmp_path: Path) -> None:
    path = tmp_path / "doc.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"doc.txt is not UTF-8 text"):
        common.read_text(str(path))
    path.write_bytes(b"a" * (common.MAX_FILE + 1))
    with pytest.raises(ValueError, match=r"doc.txt has more than 400,000 bytes"):
        common.read_text(str(path))
    path.write_bytes("\ufeffA text é.\n".encode())
    assert common.read_text(str(path)) == "A text é."


def test_unexpected_errors_are_short_too_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> int:
        raise RuntimeError("inner\nworkings")

    monkeypatch.setattr(cli.view, "run", broken)
    monkeypatch.setattr(cli.view, "add", lambda commands: commands.add_parser("view").set_defaults(run=broken))
    monkeypatch.delenv("FOVEATE_DEBUG", raising=False)
    code, _, err = run(capsys, "view")
    assert (code, err) == (1, "foveate: RuntimeError: inner workings  (FOVEATE_DEBUG=1 shows where)\n")
    monkeypatch.setenv("FOVEATE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="inner"):
        cli.main(["view"])


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.demo, "add", lambda commands: commands.add_parser("demo").set_defaults(run=interrupted))
    assert cli.main(["demo"]) == 130


# models


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("bert", [("encoder", 13, 13, "source", "source")] * 2),
        ("gpt2", [("decoder", 11, 11, "source", "source")] * 2),
    ],
)
def test_a_model_in_a_folder_is_exported(
    capsys: pytest.CaptureFixture[str], models: dict[str, Path], tmp_path: Path, name: str, calls: Any
) -> None:
    page = tmp_path / "page.html"
    for named in (("--model",), ()):
        page.unlink(missing_ok=True)
        code, out, _ = run(capsys, "view", *named, models[name], "--text", SENTENCE, "--export", page)
        assert (code, out) == (0, f"{page}\n")
    document = data_of(page.read_text(encoding="utf-8"))["document"]
    assert [(c["kind"], c["queries"], c["keys"], c["rows"], c["columns"]) for c in document["calls"]] == calls
    assert document["model"] == name
    assert [w for w in document["sequences"][0]["source"]["text"] if w[0] != "["] == SENTENCE.split()


def test_a_folder_called_model_is_named_with_its_parent(tmp_path: Path) -> None:
    assert HubModel(str(save_bert(tmp_path / "mine" / "model"))).name == "mine/model"


def nothing(progress: float, message: str) -> None:
    pass


def test_the_weights_shown_are_the_models_own(models: dict[str, Path]) -> None:
    model = HubModel(str(models["bert"]))
    source = model.run(SENTENCE, None, nothing)
    import transformers

    eager = transformers.AutoModel.from_pretrained(models["bert"], attn_implementation="eager")
    with torch.no_grad():
        expected = eager(**model.tokenizer(SENTENCE, return_tensors="pt"), output_attentions=True).attentions
    for layer in range(2):
        found = torch.stack([source.row(layer, 0, i, "reads", "token") for i in range(13)], dim=1)
        torch.testing.assert_close(found, expected[layer][0], rtol=1e-4, atol=1e-6)


def test_an_encoder_decoder_has_two_texts_and_one_call_per_module(models: dict[str, Path]) -> None:
    model = HubModel(str(models["t5"]))
    assert model.kind == "encoder-decoder"
    document = model.run("one two three", "four five", nothing).document()
    assert document.sequences[0].target is not None
    assert document.sequences[0].target.text == ("[PAD]", "four", "five")
    assert [(c.kind, c.queries, c.keys, c.rows, c.columns) for c in document.calls] == [
        *[("encoder", 3, 3, "source", "source")] * 2,
        *[("decoder", 3, 3, "target", "target"), ("cross", 3, 3, "target", "source")] * 2,
    ]
    assert {c.label for c in document.calls} >= {"encoder layer 0", "cross layer 1"}
    written = model.run("one two three", None, nothing).document().sequences[0].target
    assert written is not None
    assert len(written) > 1


def test_record_then_view(capsys: pytest.CaptureFixture[str], models: dict[str, Path], tmp_path: Path) -> None:
    text, recording, page = tmp_path / "doc.txt", tmp_path / "run.fov", tmp_path / "page.html"
    text.write_text(SENTENCE)
    code, out, _ = run(capsys, "record", models["gpt2"], "--file", text, "-o", recording)
    assert code == 0
    assert out == f"{recording}: gpt2, 11 tokens, 2 attention modules; foveate view {recording}\n"
    code, _, err = run(capsys, "record", models["gpt2"], "--file", text, "-o", recording)
    assert code == 1
    assert "exists already" in err
    assert run(capsys, "view", recording, "--export", page)[0] == 0
    document = data_of(page.read_text(encoding="utf-8"))["document"]
    assert document["sequences"][0]["source"]["text"] == SENTENCE.split()
    direct = HubModel(str(models["gpt2"])).run(SENTENCE, None, nothing)
    seen = fv.load(recording)
    again = Source(seen, seen.tokens)
    torch.testing.assert_close(again.row(1, 0, 5, "reads", "token"), direct.row(1, 0, 5, "reads", "token"))


def test_a_generation_of_a_padded_batch_is_one_map_without_padding(models: dict[str, Path]) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(models["gpt2"], padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(models["gpt2"])
    batch = tokenizer(["the cat sat on", "a dog"], return_tensors="pt", padding=True, return_token_type_ids=False)
    with fv.watch(model, tokenizer=tokenizer) as seen:
        model.generate(**batch, max_new_tokens=3, do_sample=False, pad_token_id=0)
    source = source_of(seen)
    calls = [call for call in source.document().calls if call.name.endswith("h.0.attn")]
    assert [(call.step, call.kind, call.queries, call.keys, call.offset) for call in calls] == [(0, "decoder", 6, 6, 0)]
    first, second = (texts.source for texts in source.document().sequences)
    assert (len(first), first.text[:4]) == (6, ("the", "cat", "sat", "on"))
    assert (len(second), second.text[:2]) == (4, ("a", "dog"))
    row = source.row(calls[0].index, 1, 3, "reads", "token")
    assert row.shape == (2, 4)
    torch.testing.assert_close(row.sum(-1), torch.ones(2))  # nothing goes to the padding


# terminal heatmap


def test_the_plain_heatmap_shows_percent_and_shade(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.heatmap(["it", "was"], ["The", "cat", "because"], [[0.02, 0.97, 0.01], [0.004, 0.5, float("nan")]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["The", "cat", "because"]
    assert lines[1].split() == ["it", "░2", "█97", "░1"]
    assert lines[2].split() == ["was", "▓50"]


@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_the_heatmap_fits_80_columns(capsys: pytest.CaptureFixture[str], count: int) -> None:
    words = [f"word{i}" * 3 for i in range(count)]
    terminal.heatmap(words, words, [[1.0] * count] * count)
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert ("more words do not fit here" in out) == (count == 40)


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.heatmap(["\x1b[31m"], ["a\nb"], [[1.0]])
    assert "\x1b" not in capsys.readouterr().out


# real processes


@contextmanager
def started(*arguments: object, **options: Any) -> Iterator[Any]:
    """A real process of the command; killed, and its pipes closed, whatever happened."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "foveate.apps.cli", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_no_open_prints_the_address_serves_and_ends_by_interrupt(models: dict[str, Path]) -> None:
    with started("view", "--model", models["bert"], "--text", SENTENCE, "--no-open", "--port", 0) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", url)
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b'id="foveate"' in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in err


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = (
        "import sys; from foveate.apps import cli; "
        "print([m for m in ('transformers', 'starlette', 'uvicorn', 'rich', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_reader_that_leaves_is_no_disaster() -> None:
    with started("resolve", "-", stdin=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write("The cat sat on the mat because it was tired.\n" * 3)
        process.stdin.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) == 1


def test_resolve_answers_each_line_as_it_comes() -> None:
    with started("resolve", "-", stdin=subprocess.PIPE) as process:
        for sentence, answer in (("tired", "it -> cat"), ("dirty", "it -> mat")):
            process.stdin.write(f"The cat sat on the mat because it was {sentence}.\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(answer)
        process.stdin.write("No such word here.\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("? ")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "1 of the sentences could not be resolved" in err


def test_resolve_keeps_empty_lines_and_reads_past_bytes_that_are_no_text() -> None:
    with started("resolve", "-", stdin=subprocess.PIPE) as process:
        sentence = "The cat sat on the mat because it was tired."
        process.stdin.buffer.write(f"{sentence}\n  \n".encode() + b"\xff " + sentence.encode())
        out, err = process.communicate(timeout=60)
    first, blank, last = out.splitlines()
    assert first.startswith("it -> cat")
    assert blank == ""
    assert last.startswith("it -> cat")
    assert (process.returncode, err) == (0, "")


def test_a_model_refuses_a_text_of_nothing(models: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="The text is empty"):
        HubModel(str(models["gpt2"])).run(" \n", None, nothing)


def test_a_folder_asks_no_hub(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *place, **_: asked.append(place))
    HubModel(str(models["gpt2"])).run("the cat", None, nothing)
    assert asked == []


def test_demo_into_a_pipe_writes_the_page_and_ends(tmp_path: Path) -> None:
    with started("demo", cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "it -> cat" in out
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 80
    document = data_of((tmp_path / "foveate-demo.html").read_text(encoding="utf-8"))["document"]
    assert document["message"].startswith("it -> cat")
    assert document["sequences"][0]["source"]["text"][document["focus"]["token"]] == "it"
    assert all(call["values"] for call in document["calls"])
    assert re.search(r"wrote .*foveate-demo\.html", out)


def test_demo_at_a_terminal_serves_until_an_interrupt(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "foveate.apps.cli", "demo", "--port", "0"]
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **ends) as process:  # type: ignore[call-overload]
        os.close(theirs)
        try:
            seen = read_until(ours, rb"http://127\.0\.0\.1:\d+/\?token=[\w-]+\r", 90)
            url = re.findall(rb"http://127\.0\.0\.1:\d+/\?token=[\w-]+", seen)[0].decode()
            assert b"\x1b[" in seen
            assert b"it -> cat" in seen
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
            os.close(ours)


def read_until(descriptor: int, pattern: bytes, seconds: float) -> bytes:
    seen, deadline = b"", time.monotonic() + seconds
    while not re.search(pattern, seen):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"waited {seconds} s for {pattern!r}; saw {seen[-500:]!r}"
        try:
            seen += os.read(descriptor, 65536)
        except OSError:  # the other end has closed
            raise AssertionError(f"it ended without {pattern!r}; saw {seen[-500:]!r}") from None
    return seen
