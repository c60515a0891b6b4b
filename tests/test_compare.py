"""Two recordings at the same place: pairing tokens, finding counterparts, and how much each head differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import foveate as fv
from foveate import masks
from foveate.apps import cli
from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.nn import MultiHeadAttention
from foveate.views.difference import difference, paired
from foveate.views.source import Source
from pages import ask

TEXT = ["the", "cat", "sat", "on", "the", "mat"]


def source(words: list[str], seed: int, heads: int = 3, names: tuple[str, ...] = ("layers.0", "layers.1")) -> Source:
    draw = torch.Generator().manual_seed(seed)
    maps = {}
    for name in names:
        query, key = torch.randn(2, 1, heads, len(words), 5, generator=draw)
        maps[name] = fv.AttentionMap(query, key, mask=masks.causal())
    return Source(maps, words, title=str(seed))


def expected(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Share moved and Jensen-Shannon divergence of rows (H, R, C), by their definitions."""
    a, b = a.double(), b.double()
    mean = (a + b) / 2

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return torch.where(p > 0, p * (p / q).log2(), torch.zeros_like(p)).sum(-1)

    return (a - b).abs().sum(-1).mean(-1) / 2, ((kl(a, mean) + kl(b, mean)) / 2).mean(-1)


def test_the_same_text_in_two_models() -> None:
    a, b = source(TEXT, 1), source(TEXT, 2)
    for call in range(2):
        found = difference(a, b, call, 0, "token")
        moved, divergence = expected(a.maps[call].dense()[0], b.maps[call].dense()[0])
        assert (found.call, found.rows, found.columns) == (call, ((0, 0, 6),), ((0, 0, 6),))
        assert (found.compared, found.of, found.note) == (6, 6, "")
        torch.testing.assert_close(torch.tensor(found.moved), moved.float(), atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.tensor(found.divergence), divergence.float(), atol=1e-5, rtol=0)
        assert min(found.moved) > 0.05  # they differ, or this would say nothing
    same = difference(a, a, 0, 0, "token")
    assert same.moved == same.divergence == [0.0, 0.0, 0.0]


def test_of_two_texts_what_both_have_is_compared_and_the_rest_counts_as_different() -> None:
    other = ["the", "dog", "sat", "here", "on", "the", "mat"]
    a, b = source(TEXT, 1), source(other, 1)
    found = difference(a, b, 0, 0, "token")
    assert found.rows == found.columns == ((0, 0, 1), (2, 2, 1), (3, 4, 3))
    rows = [(0, 0), (2, 2), (3, 4), (4, 5), (5, 6)]
    slots = [(0, 0), (1, None), (None, 1), (2, 2), (None, 3), (3, 4), (4, 5), (5, 6)]
    of_a, of_b = a.maps[0].dense()[0], b.maps[0].dense()[0]
    nothing = torch.zeros(3)
    spread_a, spread_b = (
        torch.stack(
            [torch.stack([nothing if s[n] is None else m[:, r[n], s[n]] for s in slots], dim=-1) for r in rows],
            dim=1,
        )
        for n, m in ((0, of_a), (1, of_b))
    )
    moved, divergence = expected(spread_a, spread_b)
    torch.testing.assert_close(torch.tensor(found.moved), moved.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(found.divergence), divergence.float(), atol=1e-5, rtol=0)
    assert (found.compared, found.of) == (5, 6)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_pairs_are_equal_and_in_order(a: list[str], b: list[str]) -> None:
    blocks, whole = paired(a, b)
    assert whole
    last = (0, 0)
    for first, second, size in blocks:
        assert size > 0
        assert first >= last[0]
        assert second >= last[1]
        assert a[first : first + size] == b[second : second + size]
        last = first + size, second + size
    assert last[0] <= len(a)
    assert last[1] <= len(b)
    if a == b:
        assert blocks == (((0, 0, len(a)),) if a else ())


def test_long_texts_are_paired_at_their_ends_only() -> None:
    a = [*"xy", *(f"a{i}" for i in range(5000)), "z"]
    b = [*"xy", *(f"b{i}" for i in range(5000)), "z"]
    assert paired(a, b) == (((0, 0, 2), (5002, 5002, 1)), False)


def test_counterparts_by_name_else_by_place() -> None:
    a = source(TEXT, 1)
    renamed = difference(a, source(TEXT, 2, names=("h.0", "h.1")), 1, 0, "token")
    assert renamed.call == 1
    assert renamed.note == "the other recording has no layers.1; h.1 is at the same place"
    fewer = difference(a, source(TEXT, 2, names=("h.0",)), 1, 0, "token")
    assert (fewer.call, fewer.moved) == (None, [None] * 3)
    assert fewer.note == "the other recording has no layers.1, and nothing at its place"
    heads = difference(a, source(TEXT, 2, heads=2), 0, 0, "token")
    assert heads.heads == [0, 1, None]
    assert heads.moved[2] is None
    assert heads.note == "the other has heads 0, 1"


def test_only_some_rows_of_a_long_text_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.views.difference.BUDGET", 3 * 6 * 2)
    a, b = source(TEXT, 1), source(TEXT, 2)
    found = difference(a, b, 0, 0, "token")
    moved, _ = expected(a.maps[0].dense()[0][:, ::3], b.maps[0].dense()[0][:, ::3])
    assert (found.compared, found.of) == (2, 6)
    torch.testing.assert_close(torch.tensor(found.moved), moved.float(), atol=1e-5, rtol=0)


def test_over_http_and_what_it_refuses() -> None:
    workspace = Workspace()
    mine = workspace.add_compared(source(TEXT, 1), source(TEXT, 2), ("one", "two"))
    assert [one["title"] for one in workspace.documents()] == ["1", "2"]  # the page opens at the first
    with Page(workspace, port=0) as page:
        compare = json.loads(ask(page, f"/api/documents/{mine}")[2])["compare"]
        assert (compare["label"], compare["other"]) == ("one", "two")
        path = f"/api/documents/{mine}/difference?other={compare['id']}"
        status, _, body = ask(page, f"{path}&call=1&level=word")
        assert status == 200
        assert json.loads(body)["rows"] == [[0, 0, 6]]
        for more, code, told in (
            ("&call=2", 400, "call 2 does not exist"),
            ("&call=0&sequence=1", 400, "sequence 1 does not exist"),
            ("&call=0&level=x", 400, "level must be one of"),
            ("&call=0&head=0", 400, "the parameters are call, sequence, other, level"),
        ):
            status, _, body = ask(page, path + more)
            assert status == code
            assert told in json.loads(body)["error"]
        assert ask(page, f"/api/documents/{mine}/difference?call=0&other=x")[0] == 404
        assert ask(page, f"/api/documents/{mine}/difference?call=0")[0] == 400


def test_view_takes_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = fv.view([source(TEXT, 1), source(TEXT, 2)], open=False, port=0)
    try:
        first = page.workspace.source(page.workspace.documents()[0]["id"]).document()
        assert first.compare is not None
        assert (first.compare.label, first.compare.other) == ("1", "2")
    finally:
        page.close()
    for seen, more, told in (
        ([source(TEXT, 1)], {}, "two recordings are shown side by side; got 1"),
        ([source(TEXT, 1)] * 2, {"tokens": TEXT}, "of two recordings each has its own tokens"),
    ):
        with pytest.raises(ValueError, match=told):
            fv.view(seen, open=False, **more)
    model, saved = MultiHeadAttention(8, 2), str(tmp_path / "a.fov")
    with fv.watch(model) as recorded:
        model(torch.randn(1, 4, 8))
    recorded.save(saved)
    for words, told in (
        (("--export", str(tmp_path / "x.html")), "two recordings are compared in a page that is served"),
        (("--model", "x"), "a recording is shown as it is; leave out --model"),
    ):
        assert cli.main(["view", saved, saved, *words]) == 2
        assert told in capsys.readouterr().err


def check_json(found: Any) -> None:
    json.dumps(found.as_json(), allow_nan=False)


def test_nan_is_said_as_nothing() -> None:
    a, b = source(TEXT, 1), source(TEXT, 2)
    b.maps[0].problem.q_BHQD[0, 1, 2] = torch.nan
    found = difference(a, b, 0, 0, "token")
    assert [n is None for n in found.moved] == [False, True, False]
    check_json(found)
