"""Long texts and many heads in one file: what goes in, how large it is, and that a browser answers as the maps do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate as fv
from foveate.apps import cli, export
from foveate.apps.embed import exact, pooled
from foveate.apps.embed.choose import choose
from foveate.apps.embed.parts import Parts, encode
from foveate.apps.errors import UserError
from foveate.apps.export import Options
from foveate.masks.spans import intervals
from foveate.shapes import Geometry
from foveate.views.axes import Axis
from foveate.views.pooling import to_log_bytes
from foveate.views.source import Source
from foveate.views.words import from_pieces
from pages import CHROMIUM, open_page
from test_export import allowed_by, array, data_of

H, G, D, V = 4, 2, 6, 3
PIECES = ["the", "cat", "sle", "##pt", "on", "a", "mat", "##tress", "##es", "."]
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM")


def drawn(queries: int, keys: int | None = None, batch: int = 1, heads: int = H, **options: Any) -> fv.AttentionMap:
    draw = torch.Generator().manual_seed(queries)
    keys = queries if keys is None else keys
    q = 2 * torch.randn(batch, heads, queries, D, generator=draw)
    k = torch.randn(batch, G, keys, D, generator=draw)
    return fv.AttentionMap(q, k, value=torch.randn(batch, G, keys, V, generator=draw), **options)


def source_of(one: fv.AttentionMap, layers: int = 1) -> Source:
    maps = {f"layers.{n}.attention": one for n in range(layers)}
    tokens = from_pieces([PIECES[n % len(PIECES)] for n in range(one.shape[-1])])
    return Source(maps, [tokens] * one.shape[0], title="long")


def rounded(one: fv.AttentionMap) -> fv.AttentionMap:
    """The map of what float16 keeps of queries and keys."""
    q, k = (t.half().float() for t in (one.query, one.key))
    parts = {"mask": one.mask, "normalizer": one.normalizer, "score": one.score, "bias": one.problem.bias}
    return fv.AttentionMap(q, k, **parts)


# what goes in


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of some hundred tokens count as long, and half precision begins at once."""
    monkeypatch.setattr(export, "LONG", 10_000)
    monkeypatch.setattr(export, "SMALL", 0)


MASKS: dict[str, fv.masks.Mask] = {
    "causal": fv.masks.causal(),
    "window and sinks": fv.masks.causal() & (fv.masks.window(30, 0) | fv.masks.prefix(4)),
    "all but the start": ~fv.masks.prefix(5),
    "hole": ~(fv.masks.window(3) & ~fv.masks.prefix(2)),
    "documents": fv.masks.documents(lengths=[40, 60, 50]),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_by_rule_goes_in_as_a_few_intervals(name: str) -> None:
    n = 150
    mask = MASKS[name].settle((), Geometry(1, H, n, n)) if name == "documents" else MASKS[name]
    one = drawn(n, mask=mask)
    data = data_of(export.page_of(source_of(one)))
    (call,) = data["calls"]
    assert call["mask"] is None
    expected = one.problem.allowed(*one.problem.geometry.everything)
    assert expected is not None
    found = allowed_by(data, call["spans"], 0, (n, n))
    np.testing.assert_array_equal(np.broadcast_to(found, expected.shape[1:]), expected[0].numpy())
    assert sum(len(data["parts"][span[end]["part"]]) for span in call["spans"] for end in ("first", "last")) < 900


def test_a_mask_of_many_holes_is_no_few_intervals() -> None:
    g = Geometry(1, H, 90, 90)
    assert intervals(fv.masks.strided(7), g) is None
    assert data_of(export.page_of(source_of(drawn(90, mask=fv.masks.strided(7)))))["calls"][0]["mask"]


@pytest.mark.parametrize("what", ["mask", "bias"])
def test_a_large_table_is_refused_with_the_ways_out(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(exact, "TABLE", 40 * 40 - 1)
    draw = torch.Generator().manual_seed(1)
    table = torch.rand(40, 40, generator=draw)
    one = drawn(40, **({"mask": (table > 0.3) | torch.eye(40).bool()} if what == "mask" else {"bias": table}))
    told = f"a {what} of 1,600 entries that follows from no rule .* embed='top' .* fv.view"
    with pytest.raises(UserError, match=told):
        export.page_of(source_of(one))
    assert data_of(export.page_of(source_of(one), options=Options(embed="top")))["calls"][0]["top"]


@pytest.mark.parametrize("shape", [(150, 150), (70, 131)])
def test_pictures_pool_the_largest_weights_and_the_means(shape: tuple[int, int]) -> None:
    one = drawn(*shape, mask=fv.masks.causal() if shape[0] == shape[1] else None)
    rows, columns = (Axis(from_pieces(["a"] * n), 0, n, "query") for n in shape)
    parts = Parts(10**6)
    levels, statistic = pooled.overview(one, [(rows, columns)], 32, parts, lambda _: None)
    torch.testing.assert_close(statistic, one.logsumexp().float(), rtol=1e-5, atol=1e-5)
    for how, step in (("max", 8), ("mean", 16)):
        assert 1 << levels[how]["zoom"] == step
        cells = array({"parts": parts.texts}, levels[how]["cells"])
        lines = [line.split(step, -1) for line in one.dense()[0].split(step, -2)]
        pick = (lambda t: t.amax((1, 2))) if how == "max" else (lambda t: t.double().mean((1, 2)).float())
        wanted = np.stack([np.stack([pick(cell).numpy() for cell in line], -1) for line in lines], -2)
        assert np.abs(cells[0].astype(int) - to_log_bytes(wanted)).max() <= 1


def test_a_long_call_knows_its_log_sum_exps_and_its_overview(small: None) -> None:
    one = drawn(150, mask=fv.masks.causal())
    data = data_of(export.page_of(source_of(one)))
    (call,) = data["calls"]
    held = rounded(one)
    np.testing.assert_allclose(array(data, call["logsumexp"]), held.logsumexp(), rtol=1e-6)
    cells = array(data, call["overview"]["max"]["cells"])
    assert cells.shape == (1, H, 150, 150)  # so short that a cell is a token
    weights = held.dense()[0].numpy()
    seen = weights > 1e-5
    np.testing.assert_allclose(10 ** ((cells[0][seen] - 255) * 6 / 254), weights[seen], rtol=0.03)
    np.testing.assert_allclose(call["overview"]["entropy"][0], held.reduce(fv.stats.Entropy())[0].mean(-1), rtol=1e-5)
    (note,) = data["document"]["notes"]
    assert "computed in this page, from queries and keys kept as float16" in note


def test_short_pages_of_whole_numbers_need_no_note() -> None:
    data = data_of(export.page_of(source_of(drawn(20))))
    assert data["document"]["notes"] == []
    assert data["calls"][0]["overview"] is None


KINDS: dict[str, dict[str, Any]] = {
    "causal": {"mask": fv.masks.causal()},
    "sinks": {"normalizer": fv.normalizers.softmax(sinks=torch.linspace(-1, 3, H))},
    "sparse": {"normalizer": "sparsemax"},
    "a row that sees nothing": {"mask": fv.masks.where(lambda b, h, q, k: (q != 2) & (k <= q))},
}


@pytest.mark.parametrize("name", KINDS)
def test_the_largest_weights_of_each_row_and_the_rest_of_it(name: str) -> None:
    k, n = 7, 40
    one = drawn(n, **KINDS[name])
    data = data_of(export.page_of(source_of(one), options=Options(embed="top", k=k)))
    (call,) = data["calls"]
    places, weights, rest = (array(data, call["top"][part])[0] for part in ("places", "weights", "rest"))
    assert places.shape == (H, n, k)
    assert (np.diff(places, axis=-1) >= 0).all()
    dense = one.dense()[0].numpy()
    best = np.sort(dense, -1)[..., -k:]
    np.testing.assert_allclose(np.sort(weights, -1), best, rtol=1e-3, atol=1e-7)
    kept = weights > 0
    np.testing.assert_allclose(np.take_along_axis(dense, places, -1)[kept], weights[kept], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(rest, dense.sum(-1) - best.sum(-1), rtol=2e-3, atol=1e-5)
    assert "query" not in call
    assert data["document"]["calls"][0]["kept"] == k
    assert f"the {k} largest weights, as float16; the others, queries, keys and values are not" in str(
        data["document"]["notes"]
    )


def test_padding_on_the_left_is_cut_off_everywhere(small: None) -> None:
    n, starts, lengths = 150, [0, 30], [150, 120]
    seen = torch.zeros(2, 1, 1, n, dtype=torch.bool)
    for b in range(2):
        seen[b, ..., starts[b] : starts[b] + lengths[b]] = True

    class Padded(dict[str, Any]):
        pass

    mask = fv.masks.causal() & fv.masks.padding(lengths, side="left")
    maps = Padded({"attn": drawn(n, batch=2, mask=mask)})
    maps.lengths, maps.starts = lengths, starts  # type: ignore[attr-defined]
    source = Source(maps)
    for embed in ("exact", "top"):
        data = data_of(export.page_of(source, options=Options(embed=embed, k=5)))  # type: ignore[arg-type]
        (call,) = data["calls"]
        assert call["lengths"] == [[150, 150], [120, 120]]
        if embed == "exact":
            np.testing.assert_array_equal(allowed_by(data, call["spans"], 1, (120, 120))[0], np.tri(120, dtype=bool))
            continue
        indices, _, rest = source.topk(0, 1, 100, "reads", "token", 5)
        places = array(data, call["top"]["places"])[1, :, 100]
        np.testing.assert_array_equal(places, indices.sort(-1).values)
        np.testing.assert_allclose(array(data, call["top"]["rest"])[1, :, 100], rest, rtol=2e-3)


# how much of it


def test_everything_goes_in_exactly_while_it_is_small_and_the_largest_weights_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = source_of(drawn(120), layers=2)

    def kinds(**options: Any) -> list[str]:
        data = data_of(export.page_of(source, options=Options(**options)))
        return ["top" if "top" in call else "values" if call["value"] else "exact" for call in data["calls"]]

    numbers = 2 * D * 120 * (H + G)
    assert kinds() == ["values"] * 2
    assert kinds(values=False) == ["exact"] * 2
    monkeypatch.setattr(export, "COMFORT", numbers * 4 * 0.93 * 1.25 + 1)
    assert kinds() == ["exact"] * 2  # with values it would be too much
    monkeypatch.setattr(export, "COMFORT", numbers * 4 * 0.93 * 1.25 - 1)
    assert kinds() == ["top"] * 2
    assert kinds(embed="exact") == ["exact"] * 2
    assert kinds(embed="exact", values=True) == ["values"] * 2


def test_as_many_weights_of_each_row_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(drawn(120))
    rows = H * 120
    for most, k in ((rows * 2.2 * 1.25 * 11.5, 11), (1, 8), (1e9, 32)):
        monkeypatch.setattr(export, "LISTED", most)
        data = data_of(export.page_of(source, options=Options(embed="top")))
        assert data["calls"][0]["top"]["k"] == k


def test_layers_and_heads_are_chosen_by_their_numbers() -> None:
    maps = {f"layers.{n}.attention": drawn(30 + n, 40) for n in range(5)}
    source = Source(maps)
    options = Options(layers=[3, "layers.1.*"], heads=(2, 3))
    data = data_of(export.page_of(source, options=options))
    calls = data["document"]["calls"]
    assert [(call["index"], call["name"]) for call in calls] == [(0, "layers.1.attention"), (1, "layers.3.attention")]
    assert [call["numbers"] for call in calls] == [[2, 3], [2, 3]]
    query = array(data, data["calls"][1]["query"])
    np.testing.assert_array_equal(query[0], maps["layers.3.attention"].query[0, 2:4].numpy().astype(np.float32))
    assert array(data, data["calls"][1]["key"]).shape == (1, 1, 40, D)  # both read the same keys
    for more, told in (
        ({"layers": 5}, "there is no layer 5; there are 0 to 4: layer 0, layer 1"),
        ({"layers": "nothing.*"}, r"there is no layer nothing\.\*"),
        ({"heads": [1, 4]}, "there is no head 4; the chosen layers have heads 0 to 3"),
        ({"heads": []}, "heads= names none"),
    ):
        with pytest.raises(UserError, match=told):
            choose(source, more.get("layers"), more.get("heads"))
    for bad, told in (({"embed": "all"}, "embed must be one of 'auto', 'exact', 'top'"), ({"k": 0}, "k must be")):
        with pytest.raises(ValueError, match=told):
            Options(**bad)


def test_a_page_that_grows_too_large_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    source = source_of(drawn(400), layers=2)
    with pytest.raises(UserError, match=r"would take 0\.13 MB, more than the limit of 0\.1 MB; choose some layers"):
        export.write(source, tmp_path / "page.html", limit=100_000, options=Options(embed="exact"))
    with pytest.raises(UserError, match=r"largest weights of each row, .* with queries and keys, more than the limit"):
        export.write(source, tmp_path / "page.html", limit=20_000)
    assert list(tmp_path.iterdir()) == []
    parts = Parts(limit=len(encode(b"1" * 400)))
    parts.add(np.zeros(100, np.float32), "float32")
    parts.add(np.zeros(100, np.float32), "float32")
    assert len(parts.texts) == 1
    with pytest.raises(UserError, match="the page would take"):
        parts.add(torch.rand(200).numpy(), "float32")


def test_the_command_chooses_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3, enable_nested_tensor=False
    ).eval()
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.randn(1, 9, 8))
    seen.save(tmp_path / "run.fov")
    page = tmp_path / "page.html"
    words = f"view {tmp_path}/run.fov --export {page} --layer 1-2 --head 1 --embed top --top 3".split()
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{page}\n"
    data = data_of(page.read_text(encoding="utf-8"))
    assert [call["top"]["k"] for call in data["calls"]] == [3, 3]
    assert [call["numbers"] for call in data["document"]["calls"]] == [[1], [1]]
    for more, code, told in (
        ("--layer 7", 1, "there is no layer 7"),
        ("--limit 0.01", 1, "more than the limit of 0.01 MB"),
    ):
        assert cli.main([*words[:4], *more.split()]) == code
        assert told in capsys.readouterr().err
    assert cli.main(["view", str(tmp_path / "run.fov"), "--embed", "top"]) == 2
    assert "--embed is for --export" in capsys.readouterr().err


def test_the_examples_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/export.md", "exec"), {})
    made = {path.name: data_of(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert {name: len(data["calls"]) for name, data in made.items()} == {"page.html": 2, "one.html": 1, "many.html": 2}


# in the browser

ASK = """async ([question, parameters]) => {
    const data = JSON.parse(document.getElementById("foveate-data").textContent);
    window.source ??= new foveate.EmbeddedSource(data.document, data.calls, data.parts);
    const answer = await window.source[question]({ call: 0, sequence: 0, ...parameters });
    const plain = (value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
    return JSON.stringify(answer, (key, value) => (value !== value ? "NaN" : plain(value)));
}"""


def ask(tab: Any, question: str, **parameters: Any) -> dict[str, Any]:
    found = json.loads(tab.evaluate(ASK, [question, parameters]))
    return dict(found)


def numbers(answer: dict[str, Any], heads: int) -> np.ndarray:
    return np.array([float(x) for x in answer["weights"]]).reshape(heads, -1)


def rows_of(tab: Any, index: int, heads: int, direction: str = "reads", level: str = "token") -> np.ndarray:
    return numbers(ask(tab, "row", index=index, direction=direction, level=level), heads)


LONG: dict[str, dict[str, Any]] = {
    "causal with sinks and soft cap": {
        "mask": fv.masks.causal() & (fv.masks.window(300, 0) | fv.masks.prefix(4)),
        "score": fv.scores.scaled_dot(softcap=3.0),
    },
    "a bias by distance": {
        "bias": fv.positions.alibi(H),
        "normalizer": fv.normalizers.softmax(sinks=torch.linspace(-1, 3, H)),
    },
}


@pytest.fixture(params=LONG)
def long(request: Any, tab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Source]:
    """A page of a text beyond what a browser passes over, and the source of what float16 keeps of it."""
    monkeypatch.setattr(export, "SMALL", 0)
    monkeypatch.setattr(export.pooled, "MOST_CELLS", 128)
    one = drawn(1100, **LONG[request.param])
    path = export.write(source_of(one), tmp_path / "page.html")
    tab.context.set_offline(True)
    open_page(tab, path.as_uri())
    return tab, source_of(rounded(one))


@needs_browser
@pytest.mark.browser
def test_rows_and_columns_are_those_of_the_maps(long: tuple[Any, Source]) -> None:
    tab, source = long
    for index, direction, level in (
        (0, "reads", "token"),
        (777, "reads", "token"),
        (5, "read_by", "token"),
        (400, "read_by", "token"),
        (300, "reads", "word"),
        (2, "read_by", "word"),
    ):
        expected = source.row(0, 0, index, direction, level).numpy()  # type: ignore[arg-type]
        np.testing.assert_allclose(rows_of(tab, index, H, direction, level), expected, rtol=2e-4, atol=1e-7)
    best = ask(tab, "topk", index=900, direction="reads", level="token", k=6)
    indices, weights, rest = source.topk(0, 0, 900, "reads", "token", 6)
    assert best["indices"] == indices.tolist()
    np.testing.assert_allclose(best["weights"], weights, rtol=2e-4)
    np.testing.assert_allclose(best["rest"], rest, rtol=1e-3, atol=1e-5)
    pair, told = ask(tab, "pair", head=3, i=900, j=899), source.pair(0, 0, 3, 900, 899)
    assert pair["bias"] == pytest.approx(told["bias"] or 0)
    for name in ("score", "scaled", "logsumexp", "weight", "sink"):
        assert pair[name] == (None if told[name] is None else pytest.approx(told[name], rel=2e-4, abs=1e-6)), name


@needs_browser
@pytest.mark.browser
def test_maps_and_tiles_are_those_of_the_maps(long: tuple[Any, Source]) -> None:
    tab, source = long
    view = source._overview(0, 0, 1)
    view.complete()
    for how in ("max", "mean"):
        for zoom, row, column in ((0, 4, 4), (2, 1, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0)):
            found = ask(tab, "map", head=1, zoom=zoom, row=row, column=column, how=how)
            if zoom > view.last_zoom:  # further away than the whole: still an answer
                assert found["height"] == -(-1100 >> zoom)
                continue
            expected = view.tile(zoom, row, column, how).pixels  # type: ignore[arg-type]
            pixels = np.array(found["pixels"]).reshape(found["height"], found["width"])
            assert pixels.shape == expected.shape
            assert found["exact"]
            assert np.abs(pixels - expected.astype(int)).max() <= (1 if how == "max" else 2)
    near = {"head": 2, "r0": 500, "r1": 620, "c0": 300, "c1": 500, "height": 60, "width": 40, "how": "mean"}
    tile = ask(tab, "tile", **near, level="token")
    exact_tile = source.tile(0, 0, 2, 500, 620, 300, 500, 60, 40, "mean")
    assert tile["peak"] == pytest.approx(exact_tile.peak, rel=1e-3)
    assert np.abs(np.array(tile["pixels"]) - exact_tile.pixels.ravel().astype(int)).max() <= 1
    assert "pooled" not in tile


@needs_browser
@pytest.mark.browser
def test_a_page_of_largest_weights_says_what_it_lacks(tab: Any, tmp_path: Path) -> None:
    one, k = drawn(300, mask=fv.masks.causal()), 9
    source = source_of(one, layers=2)
    path = export.write(source, tmp_path / "page.html", options=Options(embed="top", k=k))
    open_page(tab, path.as_uri())
    tab.get_by_text("this page holds the 9 largest weights", exact=False).first.wait_for()
    weights = source.row(0, 0, 200, "reads", "token").numpy()
    found = rows_of(tab, 200, H)
    known = ~np.isnan(found)
    assert (known.sum(-1) == k).all()
    np.testing.assert_allclose(found[known], weights[known], rtol=1e-3)
    assert (weights[known].reshape(H, k).min(-1) >= np.where(known, 0, weights).max(-1)).all()
    first = rows_of(tab, 3, H)
    np.testing.assert_allclose(first, source.row(0, 0, 3, "reads", "token"), rtol=1e-3)  # it has no others
    column = rows_of(tab, 0, H, "read_by")
    expected = source.row(0, 0, 0, "read_by", "token").numpy()
    there = ~np.isnan(column)
    assert 3 < there.sum() < there.size
    np.testing.assert_allclose(column[there], expected[there], rtol=1e-3)
    best = ask(tab, "topk", index=200, direction="reads", level="token", k=4)
    indices, _, rest = source.topk(0, 0, 200, "reads", "token", 4)
    assert best["indices"] == indices.tolist()
    np.testing.assert_allclose(best["rest"], rest, rtol=5e-3)
    assert json.loads(tab.evaluate(ASK, ["pair", {"head": 0, "i": 5, "j": 2}])) is None
    whole = {"head": 0, "r0": 0, "r1": 300, "c0": 0, "c1": 300, "height": 30, "width": 30, "how": "max"}
    tile, told = ask(tab, "tile", **whole, level="token"), source.tile(0, 0, 0, 0, 300, 0, 300, 30, 30)
    assert tile["pooled"] == 1
    assert tile["peak"] == pytest.approx(told.peak, rel=0.03)
    assert np.abs(np.array(tile["pixels"]) / 255 * tile["peak"] - told.pixels.ravel() / 255 * told.peak).max() < 0.04


@needs_browser
@pytest.mark.browser
def test_a_damaged_page_says_so(tab: Any, tmp_path: Path) -> None:
    html = export.page_of(source_of(drawn(20)))
    (first, *_) = data_of(html)["parts"]
    path = tmp_path / "page.html"
    path.write_text(html.replace(first, first[: len(first) // 2]), encoding="utf-8")
    tab.goto(path.as_uri())
    tab.get_by_text("this page is damaged", exact=False).first.wait_for()
