"""`foveate view --terminal`: the numbers it prints are the weights, and what it says where there is no such place."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps import cli, looking
from foveate.apps.builtin import BuiltinModel
from foveate.apps.errors import UserError
from foveate.apps.looking import Place, look
from foveate.apps.viewing import source_of
from foveate.views.source import Source
from foveate.views.words import from_pieces

WORDS = ["The", "cat", "sat", "because", "it", "slept", "."]
N = len(WORDS)


def attended(length: int = N, heads: int = 3, layers: int = 2) -> dict[str, fv.AttentionMap]:
    draw = torch.Generator().manual_seed(2)
    q, k = (2 * torch.randn(1, heads, length, 4, generator=draw) for _ in range(2))
    return {f"layers.{i}.attn": fv.AttentionMap(q + i, k, mask=fv.masks.causal()) for i in range(layers)}


def printed(seen: Any, tokens: list[str] | None = None, **place: Any) -> str:
    out = io.StringIO()
    look(
        seen if isinstance(seen, Source) else source_of(seen, [from_pieces(tokens or WORDS)]), Place(**place), file=out
    )
    return out.getvalue()


def listed(block: str) -> list[tuple[str, int, float]]:
    return [(name, int(i), float(w)) for name, i, w in re.findall(r"^ +(\S+) \((\d+)\) +([\d.]+)", block, re.M)]


def test_links_are_the_strongest_of_both_directions() -> None:
    seen = attended()
    text = printed(seen, layer=1, head=2, word="it")
    assert text.startswith("layer 1 of 2 layers, head 2 of 3: --layer, --head and --token choose\n")
    reads, read_by = text.split("it (4) reads\n")[1].split("it (4) is read by\n")
    weights = seen["layers.1.attn"].dense()[0, 2]
    for block, line in ((reads, weights[4]), (read_by, weights[:, 4])):
        found = listed(block)
        assert [i for _, i, _ in found] == [i for i in line.argsort(descending=True).tolist() if line[i] >= 0.0005]
        for name, i, percent in found:
            assert name == WORDS[i]
            assert percent == pytest.approx(100 * float(line[i]), abs=0.051)


def test_a_short_text_is_shown_whole_and_a_longer_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = attended()
    weights = seen["layers.0.attn"].dense()[0, 0]
    lines = printed(seen, layer=0, head=0).splitlines()
    assert lines[2].split() == WORDS
    for line, row in zip(lines[3 : 3 + N], weights, strict=True):
        numbers = [int(n) for n in re.findall(r"[ ░▒▓█.:*#](\d+)", line)]
        assert numbers == [round(100 * float(w)) for w in row if round(100 * float(w))]
    monkeypatch.setattr(looking, "SHORT", N - 1)
    monkeypatch.setattr(looking, "LONG", N - 1)
    long = printed(seen, layer=0, head=0)
    assert len(long.splitlines()) < N + 6
    assert "is read by" not in long


def test_what_is_not_listed_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LINKS", 2)
    seen = attended()
    block = printed(seen, layer=0, head=1, word="6").split("reads\n")[1].split("\n\n")[0]
    shown = sum(w for *_, w in listed(block))
    others = re.search(r"and (\d+)% from 5 others", block)
    assert others is not None
    assert float(others[1]) == pytest.approx(100 - shown, abs=0.7)


def test_without_a_place_it_looks_where_the_model_points() -> None:
    text = printed(BuiltinModel().run("The cat sat on the mat because it was tired.", None, lambda *told: None))
    assert re.match(r"it -> cat \(100 %\)\nlayer \d of 5 layers, head \d", text)
    assert re.search(r"it \(7\) reads\n +cat \(1\) +(9\d|100)", text)
    assert "\nslept (5) reads\n" in printed(attended())  # else at the last word


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"layer": 2}, "there is no layer 2; there are 0 to 1: layer 0, layer 1"),
        ({"head": 3}, "there is no head 3; layer 0 has heads 0 to 2"),
        ({"word": "dog"}, "there is no word 'dog' in the text; a number from 0 to 6 names one too"),
        ({"word": "7"}, "there is no word 7; there are 0 to 6"),
    ],
)
def test_places_that_there_are_not(place: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        printed(attended(), **place)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    ).eval()
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.randn(1, N, 8))
    seen.tokens = [WORDS]
    seen.save(tmp_path / "run.fov")
    assert cli.main(["view", str(tmp_path / "run.fov"), "--terminal", "--layer", "1", "--token", "cat"]) == 0
    assert "cat (1) reads\n" in capsys.readouterr().out
    for words, told in (
        (["--terminal", "--export", "x.html"], "--terminal prints and --export writes a page"),
        (["--head", "1"], "--head is for --terminal and --export; in the page it is chosen with a click"),
        (["--terminal", "--target", "x"], "--target is for encoder-decoder models"),
    ):
        assert cli.main(["view", *words]) == 2
        assert told in capsys.readouterr().err


def test_chosen_heads_go_by_their_own_numbers() -> None:
    model = torch.nn.MultiheadAttention(12, 4, batch_first=True)
    x = torch.randn(1, N, 12)
    with torch.no_grad(), fv.watch(model, heads=[1, 3]) as seen:
        model(x, x, x)
    source = source_of(seen, [from_pieces(WORDS)])
    assert source.document().as_json()["calls"][0]["numbers"] == (1, 3)
    text = printed(source, head=3, word="cat")
    assert ", head 3 of 2 recorded: " in text
    weights = seen["MultiheadAttention"].dense()[0, 1, 1]
    best = int(weights.argmax())
    assert listed(text.split("reads\n")[1])[0][:2] == (WORDS[best], best)
    with pytest.raises(UserError, match="there is no head 0; MultiheadAttention has heads 1, 3"):
        printed(source, head=0)
