"""The telephone game: its sequences, models of one size, what is judged; a miniature in which attention repeats at
eight times the distance, and the command from start to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

import foveate as fv
from foveate.apps.cli import main
from foveate.tasks.experiments import report
from foveate.tasks.experiments.telephone import GAMES, PLAYERS, Played, Player, Setting, draw, judge, trained
from foveate.tasks.training.loop import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Setting(words=4, kinds=12, chatter=6, farthest=8, width=32, batch=32, epochs=8)
TINY = ["--epochs", "2", "--words", "2", "--farthest", "2", "--threads", "1"]


def test_a_message_is_asked_for_in_its_order() -> None:
    batch = draw("message", SMALL, 5, 20, torch.Generator().manual_seed(1))
    said, rest = batch.what_BN[:, :4], batch.what_BN[:, 4:]
    assert torch.equal(batch.target_BT, said) and all(len(set(row.tolist())) == 4 for row in said)
    between, asks, again = rest[:, :5], rest[:, 5], rest[:, 6:]
    assert ((between >= 12) & (between < 18)).all() and (asks == 18).all()
    assert torch.equal(again, said[:, :-1]), "each word is told from those before it"
    assert (batch.who_BN == 12).all()


def test_people_are_asked_what_they_said_in_any_order() -> None:
    batch = draw("who", SMALL, 5, 20, torch.Generator().manual_seed(1))
    moved = 0
    for who, what, target in zip(batch.who_BN.tolist(), batch.what_BN.tolist(), batch.target_BT.tolist(), strict=True):
        said = dict(zip(who[:4], what[:4], strict=True))
        assert len(said) == 4 and set(who[4:9]) == {12} and set(what[9:]) == {18}
        assert [said[person] for person in who[9:]] == target
        moved += who[9:] != who[:4]
    assert moved > 10


def test_models_are_of_one_size() -> None:
    setting = Setting()
    sizes = {kind: Player(kind, setting).size for kind in PLAYERS}
    assert max(sizes.values()) < 1.03 * min(sizes.values()), sizes
    with pytest.raises(ValueError, match="unknown model 'rnn'; expected some of 'attention', "):
        Player("rnn", setting)
    for given, told in (({"words": 65}, "at least 1 and at most 64; got 65"), ({"farthest": 0}, "at least 1; got 0")):
        with pytest.raises(ValueError, match=told):
            Setting(**given)


def test_no_answer_reads_what_comes_after_it() -> None:
    for kind in PLAYERS:
        model = Player(kind, SMALL).eval()
        batch = draw("message", SMALL, 3, 2, torch.Generator().manual_seed(2))
        before = model(batch)
        batch.what_BN[:, -1] = 0  # the last but one word, which only the last answer may know
        after = model(batch)
        torch.testing.assert_close(before[:, :-1], after[:, :-1])
        assert not torch.allclose(before[:, -1], after[:, -1]), kind


def test_attention_repeats_at_eight_times_the_distance(tmp_path: Path) -> None:
    model = trained("attention", "who", SMALL, tmp_path, quiet=True)
    found = judge(model, "who", SMALL)
    assert list(found.accuracy) == [0, 4, 8, 16, 32, 64]
    assert found.accuracy[8] > 0.9 and found.accuracy[64] > 0.8 and found.guess == 0.25
    batch = draw("who", SMALL, 64, 32, torch.Generator().manual_seed(5))
    with fv.watch(model) as seen:
        model(batch)
    person = batch.who_BN[:, :4].unsqueeze(1) == batch.who_BN[:, -4:].unsqueeze(2)  # (B, asked, said): the same
    read = max(float((seen[name][..., -4:, :4] * person[:, None]).sum(-1).mean((0, 2)).max()) for name in seen)
    assert read > 0.5, "a head reads the word of whom is asked for"
    again = trained("attention", "who", SMALL, tmp_path, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="was trained with other settings"):
        trained("GRU", "who", SMALL, tmp_path, quiet=True)


def test_what_the_claim_says_is_measured() -> None:
    def played(name: str, *shares: float) -> Played:
        return Played("who", name, 100, 2, dict(zip((0, 2, 16), shares, strict=True)), 0.25)

    attention, gru = played("attention", 1.0, 1.0, 0.995), played("GRU", 1.0, 0.9, 0.5)
    assert report.telephone_verdict([attention, gru]) == {"who": True}
    assert report.telephone_verdict([attention, gru, played("LSTM", 1.0, 1.0, 0.99)]) == {"who": False}
    assert report.telephone_verdict([played("attention", 1.0, 0.98, 1.0), gru]) == {"who": False}
    assert report.telephone_verdict([attention, played("linear attention", 1, 1, 1)]) == {"who": None}
    table = report.telephone_table([attention, gru])
    assert ["GRU", "100", "100.0", "90.0", "50.0"] in [line.split() for line in table.splitlines()]
    assert "does, holds here" in table


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.tasks.experiments.telephone.STEPS", 4)
    argv = ["experiment", "telephone", "--models", "attention,gru", *TINY, "-o", str(tmp_path / "out"), "--json"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    names = [str(tmp_path / "out" / game / name) for game in GAMES for name in ("attention", "gru")]
    assert [line for line in err.splitlines() if line.endswith(":")] == [f"{name}:" for name in names]
    first = json.loads(out)
    assert [(m["game"], m["name"]) for m in first["models"]] == [(g, n) for g in GAMES for n in ("attention", "GRU")]
    assert {Path(path).name for path in first["files"]} == {"telephone.json", "telephone.png", "telephone.svg"}

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr("foveate.tasks.experiments.small.train", no_training)
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["models"] == first["models"]
    assert main([*argv, "--words", "3"]) == 1
    assert "was trained with other settings" in capsys.readouterr().err
    for wrong, told in (("--games=whom", "unknown game 'whom'; expected some of message, who"),
                        ("--models=,", "unknown model nothing; expected some of attention, sinusoidal")):  # fmt: skip
        assert main([*argv, wrong]) == 2
        assert told in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr("foveate.tasks.experiments.small.train", stopped)
    with pytest.raises(Stopped, match="the same command goes on"):
        trained("LSTM", "message", SMALL, tmp_path, quiet=True)
