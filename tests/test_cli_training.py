"""`foveate train translation`: what it says, refuses, resumes, and what several processes do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.apps import cli
from foveate.apps.commands import train_translation, training
from foveate.tasks.training import Options
from foveate.tasks.translation import Shape, load
from foveate.tasks.translation.task import TranslationTask
from miniatures import TINY, Runner, texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield texts(tmp_path_factory.mktemp("texts"))
    torch.set_num_threads(threads)


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(place, capsys, monkeypatch)


def test_what_is_usual_is_what_the_library_does() -> None:
    words = ["train", "translation", "--train", "a", "--valid", "b", "-o", "c"]
    rnn = cli.parser().parse_args(words)
    assert train_translation._shape(rnn) == Shape()
    assert training.options_of(rnn, peak=1e-3, warmup=300) == Options(warmup=300)
    transformer = cli.parser().parse_args([*words, "--arch", "transformer", "--layers", "2", "--peak", "0.5"])
    assert train_translation._shape(transformer) == Shape("transformer", width=128, layers=2, inner=256)
    assert training.options_of(transformer, peak=3e-3, warmup=1000) == Options(peak=0.5, warmup=1000)
    more = "--epochs 3 --warmup 4 --patience 7 --average 2 --precision bfloat16 --save-every 9 --seed 6"
    given = training.options_of(cli.parser().parse_args([*words, *more.split()]), peak=3e-3, warmup=1000)
    assert given == Options(3, 3e-3, 4, patience=7, average=2, precision="bfloat16", save_every=9, seed=6)


def test_training_says_what_and_how_good(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("a b\tc d\nno tab\n\te f\n" * 4)
    code, out, err = run(
        f"train translation --train {tmp_path}/bad.tsv --valid pairs.en pairs.fr -o {tmp_path}/m {TINY}"
    )
    assert (code, out, err) == (1, "", "foveate: bad.tsv:2: expected 2 columns separated by a tab; got 1\n")
    assert not (tmp_path / "m").exists()
    options = f"{TINY} --skip-bad --half --seed 3 --reverse --epochs 1 --smoothing 0.2"
    options += " --subword-dropout 0.1 --batch-tokens 99 --tokenize none --pictures 0"
    code, out, err = run(
        f"train translation --train {tmp_path}/bad.tsv --valid pairs.en pairs.fr -o {tmp_path}/m {options}"
    )
    assert code == 0
    assert re.match(
        rf"{tmp_path}/m: RNN, additive attention, BLEU \S+ \(best epoch\); 1 epochs, 1 steps, \d+ s\n"
        rf'  foveate translate --model {tmp_path}/m "\.\.\."\n',
        out,
    )
    first, train, valid, how, _ = err.split("\n", 4)
    assert re.fullmatch(r"RNN, additive attention: [\d,]+ parameters, \d+ sub-words, \d+ of them in targets, .*", first)
    skipped = "skipped 8 of 12 lines: 4 x not 2 columns, 4 x empty side (first: bad.tsv:2)"
    assert train == f"train: 4 pairs of {tmp_path}/bad.tsv; {skipped}"
    assert valid == "valid: 60 pairs of pairs.en and pairs.fr; read 60 lines, skipped none"
    assert how.startswith("1 batches an epoch, at most 1 epochs; float32, 1 thread; everything goes into")
    assert "\nthe learning rate rises for 2 of 1 steps: lower --warmup or raise --epochs\n" in err
    facts = json.loads((tmp_path / "m" / "model.json").read_text())
    kept = {"vocabulary": 600, "tokens": 99, "smoothing": 0.2, "subword_dropout": 0.1, "tokenize": "none"}
    kept |= {"reverse": True, "half": True}
    assert {name: facts["settings"][name] for name in kept} == kept
    assert facts["settings"]["options"]["seed"] == 3
    assert not (tmp_path / "m" / "pictures").exists()
    assert load(tmp_path / "m").facts == facts


def test_an_interrupt_says_how_to_go_on_and_that_works(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(task: TranslationTask, model: Any, epoch: int, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    command = f"train translation --train pairs.tsv --valid pairs.tsv -o '{tmp_path}/a b' {TINY} --overwrite"
    with monkeypatch.context() as patch:
        patch.setattr(TranslationTask, "epoch_ended", interrupted)
        code, out, err = run(command)
    assert (code, out) == (130, "")
    *_, where, again = err.splitlines()
    assert where == "Stopped after step 1, in epoch 2; nothing is lost. To go on:"
    assert again.startswith("  foveate train translation --train pairs.tsv")
    assert again.endswith("--resume")
    assert "--overwrite" not in again
    code, out, err = run(again.removeprefix("  foveate "))
    assert code == 0
    assert "going on after step 1, in epoch 2\n" in err
    assert "2 epochs, 2 steps" in out
    code, _, err = run(f"{again.removeprefix('  foveate ')} --width 16")
    assert code == 1
    assert "shape.width was 8 and is 16" in err
    code, _, err = run(f"{command} --epochs 1 --over")
    assert code == 0
    assert "going on" not in err


def test_threads_are_set_before_anything_is_read(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert run("train translation --train no.tsv --valid pairs.tsv -o x --threads 3")[0] == 1
    assert asked == [3]


def test_a_device_that_is_not_there(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train = f"train translation --train pairs.tsv --valid pairs.tsv -o {tmp_path}/x"
    for command in (train, "experiment alignment -o x"):
        code, out, err = run(f"{command} --device cuda")
        assert (code, out) == (1, "")
        assert err == "foveate: PyTorch sees no CUDA device here; use device 'cpu', or 'auto'\n"
    assert not (tmp_path / "x").exists()


def test_workers_that_torchrun_restarts_go_on(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"train translation --train pairs.tsv --valid pairs.tsv -o {tmp_path}/m {TINY}"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code, _, err = run(command)  # it ended before there was a checkpoint
    assert (code, "going on" in err) == (0, False)
    for same in (command, f"{command} --overwrite"):
        code, _, err = run(same)
        assert (code, "going on after step 2, in epoch 3" in err) == (0, True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert "holds a run that can go on and a model already" in run(command)[2]


def test_a_loss_that_explodes_is_one_sentence(run: Runner, tmp_path: Path) -> None:
    bold = "--learning-rate 1e38 --warmup 0 --batch-tokens 64"
    code, out, err = run(f"train translation --train pairs.tsv --valid pairs.tsv -o {tmp_path}/m {TINY} {bold}")
    assert (code, out) == (1, "")
    assert "foveate: the loss or its gradient is no number after " in err


@pytest.mark.parametrize("package", ["tokenizers", "sacrebleu"])
def test_missing_packages_are_named(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run(f"train translation --train pairs.tsv --valid pairs.tsv -o {tmp_path}/m {TINY}")
    assert (code, err) == (1, f"foveate: {package} is not installed; run: pip install 'foveate[train]'\n")


def test_several_processes_of_torchrun(place: Path, tmp_path: Path) -> None:
    files = f"--train {place}/pairs.tsv --valid {place}/pairs.tsv -o {tmp_path}/m"
    command = f"torch.distributed.run --standalone --nproc-per-node 2 -m foveate train translation {files} {TINY}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("RNN, additive attention") == 1
    assert done.stderr.count("1 thread in each of 2 processes") == 1
    assert load(tmp_path / "m").facts["trained"]["processes"] == 2
