"""Plots: what is drawn is what was given, and labels do not touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import foveate as fv
from foveate.plot import given, matrix, tokens
from foveate.tasks.alignment import Gold
from plotted import B, H, K, Q, check_layout, labels, names, some_map, svg, translation, written


def test_the_check_of_layouts_can_fail() -> None:
    for squeezed in ("xaxis", "yaxis"):
        figure = fv.plot.heatmap(torch.rand(Q, K), names(Q), names(K))
        getattr(figure.axes[0], squeezed).set_tick_params(labelsize=30, labelrotation=0)
        with pytest.raises(AssertionError, match=r"overlap|cut off"):
            check_layout(figure)


# heatmap


@pytest.mark.parametrize("kind", ["map", "tensor", "bfloat16", "array", "list", "alone", "numpy map"])
def test_a_heatmap_holds_the_weights(kind: str) -> None:
    weights = some_map(B, H)
    want = weights[1, 2].double().numpy()
    made: Any = {
        "map": weights,
        "tensor": weights[1, 2],
        "bfloat16": weights[1, 2].bfloat16(),
        "array": weights[1, 2].numpy(),
        "list": weights[1, 2].tolist(),
        "alone": fv.AttentionMap(weights.query[1:, 2:], weights.key[1:, 2:]),
        "numpy map": fv.AttentionMap(weights.query[1, 2].numpy(), weights.key[1, 2].numpy()),
    }
    figure = fv.plot.heatmap(made[kind], index=(1, 2) if kind == "map" else None)
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array(), want, rtol=8e-3 if kind == "bfloat16" else 1e-6)
    assert image.get_clim() == (0, 1)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == pytest.approx(3.3)


def test_numbers_are_the_weights() -> None:
    weights = torch.rand(Q, K) / 2
    weights[1, 2], weights[3, 4], weights[0, 0] = 0.004, 1, 0
    figure = fv.plot.heatmap(weights)
    found = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}
    assert set(found) == {(i, j) for i in range(Q) for j in range(K)} - {(1, 2), (0, 0)}
    assert found[3, 4] == "1"
    for (i, j), text in found.items():
        assert abs(float(text) - weights[i, j]) <= 0.005 + 1e-6
    assert not fv.plot.heatmap(torch.rand(50, 50)).axes[0].texts
    assert not fv.plot.heatmap(weights, numbers=False).axes[0].texts
    crowded = fv.plot.heatmap(torch.rand(20, 20), numbers=True)
    assert len(crowded.axes[0].texts) > 350
    check_layout(crowded)


@pytest.mark.parametrize("width", [2.2, 3.3, 6.9])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (2, 3), (5, 40), (40, 5), (11, 11), (31, 29), (200, 300)])
def test_labels_of_a_heatmap_do_not_touch(queries: int, keys: int, width: float) -> None:
    figure = fv.plot.heatmap(torch.rand(queries, keys), names(queries), names(keys), width=width, title="A title")
    check_layout(figure)
    ax = figure.axes[0]
    for axis, count in ((ax.xaxis, keys), (ax.yaxis, queries)):
        shown = [label.get_text() for label in labels(axis)]
        drawn = [tokens.shortened(name) for name in names(count)]
        assert shown[0] == drawn[0]
        assert shown[-1] == drawn[-1]
        assert len(shown) == count if count <= 5 else len(shown) >= 4
    numbered = fv.plot.heatmap(torch.rand(queries, keys), width=width)
    check_layout(numbered)


def test_labels_have_room_again_when_axes_shrink_or_grow() -> None:
    figure = Figure(figsize=(8, 8), layout="constrained")
    ax = fv.plot.heatmap(torch.rand(60, 60), names(60), names(60), ax=figure.add_subplot(), bar=False)
    check_layout(figure)
    many = len(labels(ax.yaxis))
    figure.set_size_inches(3, 3)
    check_layout(figure)
    assert 4 < len(labels(ax.yaxis)) < many <= 60
    ax.set(xlim=(9.5, 19.5), ylim=(19.5, 9.5))
    check_layout(figure)
    assert [label.get_text() for label in labels(ax.yaxis)] == [tokens.shortened(n) for n in names(60)[10:20]]


def test_a_long_map_is_pooled_and_never_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = some_map(B, H, queries=300, keys=410, mask=fv.masks.causal())
    dense = weights.dense()[1, 2].double()
    rows, columns = torch.arange(300) * 64 // 300, torch.arange(410) * 64 // 410
    want = np.zeros((64, 64))
    np.maximum.at(want, (rows[:, None].numpy(), columns[None].numpy()), dense.numpy())
    sizes = []
    part = fv.AttentionMap._part

    def watched(self: Any, spans: Any, *more: Any) -> Any:
        sizes.append(np.prod([len(span) for span in spans]))
        return part(self, spans, *more)

    monkeypatch.setattr(fv.AttentionMap, "_part", watched)
    monkeypatch.setattr(given, "_AT_ONCE", 10_000)
    for worth in (16, 0):  # in one pass over all heads, and block by block
        monkeypatch.setattr(given, "_WORTH", worth)
        figure = fv.plot.heatmap(weights, names(300), names(410), index=(1, 2), cells=64)
        (image,) = figure.axes[0].images
        assert image.get_array().shape == (64, 64)
        np.testing.assert_allclose(image.get_array().filled(0), want, atol=1e-6)
        assert figure.axes[0].get_xlabel() == "key (cell: largest of 5 × 7 weights)"
        assert tuple(image.get_extent()) == (-0.5, 409.5, 299.5, -0.5)  # ticks still count tokens
        check_layout(figure)
    assert 0 < max(sizes) < 0.2 * 300 * 410
    np.testing.assert_allclose(fv.plot.heatmap(dense, cells=64).axes[0].images[0].get_array(), want, atol=1e-6)
    with pytest.raises(ValueError, match="numbers are those of single weights; this map is pooled"):
        fv.plot.heatmap(dense, cells=64, numbers=True)


@pytest.mark.parametrize("vary", ["all", "batch", "head"])
@pytest.mark.parametrize("cells", [256, 3])
def test_masked_keys_are_not_drawn_as_zeros(vary: str, cells: int) -> None:
    shape = {"all": (Q, K), "batch": (B, 1, Q, K), "head": (B, H, Q, K)}[vary]
    table = torch.rand(shape) > 0.7
    weights = some_map(B, H, mask=table)
    rows, columns = torch.arange(Q) * min(cells, Q) // Q, torch.arange(K) * min(cells, K) // K
    grids = [given.matrix(weights, (b, h), cells) for h in range(H) for b in range(B)]
    places = [(b, h) for h in range(H) for b in range(B)]
    together = given.matrices(weights, places, slice(0, Q), slice(0, K), cells)
    for (b, h), grid in zip(places * 2, grids + together, strict=True):
        seen = np.zeros((min(cells, Q), min(cells, K)), dtype=bool)
        np.logical_or.at(seen, (rows[:, None].numpy(), columns[None].numpy()), table.expand(B, H, Q, K)[b, h].numpy())
        assert (grid.seen is None and seen.all()) or np.array_equal(grid.seen, seen)
    figure = fv.plot.heatmap(weights, index=(0, 0))
    image = figure.axes[0].images[0]
    assert np.array_equal(np.ma.getmaskarray(image.get_array()), ~table.expand(B, H, Q, K)[0, 0].numpy())
    masked, nothing = image.cmap(np.ma.masked)[:3], image.cmap(0.0)[:3]
    assert np.abs(np.subtract(masked, nothing)).max() > 0.1


def test_colours_darken_evenly_and_say_how_much() -> None:
    image = fv.plot.heatmap(torch.rand(Q, K)).axes[0].images[0]
    grey = image.cmap(np.linspace(0, 1, 64))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()
    assert grey[0] - grey[-1] > 0.6
    figure = fv.plot.heatmap(torch.full((Q, K), 0.013))
    assert figure.axes[0].images[0].get_clim() == (0, 0.02)
    assert [label.get_text() for label in labels(figure.axes[1].yaxis)] == ["0", "0.01", "0.02"]
    assert fv.plot.heatmap(torch.rand(Q, K), vmax=2).axes[0].images[0].get_clim() == (0, 2)
    assert len(fv.plot.heatmap(torch.rand(Q, K), bar=False).axes) == 1
    found = [matrix.scale_top([np.array([w])]) for w in (0.0, np.nan, 1.0, 0.51, 0.5, 0.21, 1e-7, 3.0, 60.0)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 1e-7, 5, 100]


def test_what_cannot_be_seen_is_written_out() -> None:
    assert tokens.visible([" the", "\n", "\t", "New York", "", "x\x00", "\u200b"]) == [
        "␣the",
        "⏎",
        "⇥",
        "New York",
        "∅",
        "x\\x00",
        "\\u200b",
    ]
    assert tokens.visible(["Ġcaf", "Ã©", "Ċ", "ĠÃ"]) == ["␣caf", "é", "⏎", "␣�"]  # the last is half a character
    assert tokens.visible(["▁the", "s"]) == ["␣the", "s"]
    assert tokens.visible(["Ġdid", "▁"], pieces=False) == ["Ġdid", "▁"]
    assert tokens.shortened("internationalisation") == "international…"
    assert all(len(tokens.shortened("x" * n)) <= 14 for n in range(40))
    assert tokens.shortened("猫" * 9) == "猫" * 6 + "…"


def test_text_is_literal_text() -> None:
    odd = ["$x^2$", "a_b", r"\alpha", "<b>&amp;", "ĠcafÃ©"]
    figure = fv.plot.heatmap(torch.rand(5, 5), odd, odd, title="of $n$")
    texts = written(figure)
    assert texts.count("$x^2$") == texts.count("a_b") == texts.count(r"\alpha") == 2
    assert texts.count("&lt;b&gt;&amp;amp;") == texts.count("␣café") == 2
    assert "key" in texts and "query" in texts and "weight" in texts


# alignment


def test_an_alignment_is_drawn_as_in_the_paper() -> None:
    made = translation()
    figure = fv.plot.alignment(made)
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), made.word_weights, rtol=1e-6)
    figure.draw_without_rendering()
    assert [label.get_text() for label in labels(ax.xaxis)] == list(made.source_words)
    assert [label.get_text() for label in labels(ax.yaxis)] == list(made.words)
    assert labels(ax.xaxis)[0].get_window_extent().y0 >= ax.bbox.y1  # source on top
    assert ax.images[0].get_clim() == (0, 1)
    same = fv.plot.alignment(made.word_weights.tolist(), made.source_words, made.words)
    assert svg(same) == svg(figure)
    check_layout(figure)


def marks(ax: Any) -> tuple[set[tuple[int, int]], dict[str, set[tuple[int, int]]]]:
    """(source, target) of dots, and of squares by their kind of line."""
    dots = {(round(x), round(y)) for line in ax.lines for x, y in line.get_xydata()}
    boxes: dict[str, set[tuple[int, int]]] = {}
    for patch in ax.patches:
        assert isinstance(patch, Rectangle)
        kind = "solid" if patch.get_linestyle() in ("-", "solid") else "dashed"
        x, y = patch.get_xy()
        boxes.setdefault(kind, set()).add((round(x + 0.42), round(y + 0.42)))
    return dots, boxes


def test_links_and_gold_are_marked() -> None:
    made = translation()
    figure = fv.plot.alignment(made, links=True, gold=Gold({(1, 0)}, {(1, 0), (0, 1), (2, 1)}))
    assert marks(figure.axes[0]) == ({(1, 0), (0, 1)}, {"solid": {(1, 0)}, "dashed": {(0, 1), (2, 1)}})
    assert {"link", "gold", "gold, possible"} <= set(written(figure))
    check_layout(figure)
    weights = made.word_weights
    figure = fv.plot.alignment(weights, list("abc"), list("xy"), links=True, gold=[(2, 0)], numbers=False)
    assert marks(figure.axes[0]) == ({(1, 0), (0, 1)}, {"solid": {(2, 0)}})
    assert "gold, possible" not in written(figure)
    figure = fv.plot.alignment(weights, links=[(2, 1)])
    assert marks(figure.axes[0]) == ({(2, 1)}, {})
    assert fv.plot.alignment(made).axes[0].get_legend() is None


@pytest.mark.parametrize("words", [1, 9, 40])
def test_words_of_an_alignment_do_not_touch(words: int) -> None:
    weights = torch.rand(words, words + 3).softmax(-1)
    figure = fv.plot.alignment(weights, names(words + 3), names(words), links=True, title="A sentence")
    check_layout(figure)


# all heads


def test_every_head_is_drawn_in_its_place_and_in_the_same_colours() -> None:
    layers = [some_map(B, H, mask=fv.masks.causal()), torch.rand(B, H + 1, 4, 4), np.random.rand(2, K, K) / 9]
    figure = fv.plot.head_grid(layers)
    ax = figure.axes[0]
    found = {tuple(round(x) for x in np.mean(np.reshape(i.get_extent(), (2, 2)), 1)[::-1]): i for i in ax.images}
    assert set(found) == {(row, h) for row, heads in enumerate((H, H + 1, 2)) for h in range(heads)}
    np.testing.assert_allclose(found[0, 2].get_array().filled(0), layers[0][0, 2], rtol=1e-6)
    np.testing.assert_allclose(found[1, 3].get_array(), layers[1][0, 3], rtol=1e-6)
    np.testing.assert_allclose(found[2, 1].get_array(), layers[2][1], rtol=1e-6)
    assert {image.get_clim() for image in ax.images} == {(0, 1)}
    check_layout(figure)
    assert [label.get_text() for label in labels(ax.xaxis)] == ["0", "1", "2", "3"]
    assert [label.get_text() for label in labels(ax.yaxis)] == ["0", "1", "2"]
    some = fv.plot.head_grid(layers, layers=[-1, 1], heads=[1], sequence=1).axes[0]
    np.testing.assert_allclose(some.images[0].get_array(), layers[2][1], rtol=1e-6)
    np.testing.assert_allclose(some.images[1].get_array(), layers[1][1, 1], rtol=1e-6)
    some.figure.draw_without_rendering()
    assert [label.get_text() for label in labels(some.yaxis)] == ["2", "1"]


def test_a_grid_of_a_recording_leaves_padding_out() -> None:
    model = torch.nn.TransformerEncoderLayer(12, 3, batch_first=True).eval()
    stack = torch.nn.TransformerEncoder(model, 2, enable_nested_tensor=False)
    hidden = torch.arange(K)[None] >= torch.tensor([K, 4])[:, None]
    with fv.watch(stack) as seen:
        stack(torch.randn(2, K, 12), src_key_padding_mask=hidden)
    seen.lengths = [K, 4]
    figure = fv.plot.head_grid(seen, sequence=1, title="An encoder")
    images = figure.axes[0].images
    assert len(images) == 2 * 3
    want = seen["layers.1.self_attn"][1, 2, :4, :4].detach()
    np.testing.assert_allclose(np.asarray(images[5].get_array()), want, rtol=1e-6)
    check_layout(figure)
    assert [label.get_text() for label in labels(figure.axes[0].yaxis)] == ["0", "1"]
    named = fv.plot.head_grid(seen, layers=["layers.1.self_attn"], heads=[2], sequence=1)
    np.testing.assert_allclose(np.asarray(named.axes[0].images[0].get_array()), want, rtol=1e-6)
    with pytest.raises(KeyError, match=r"no layer 'x'; there is 'layers\.0\.self_attn'"):
        fv.plot.head_grid(seen, layers=["x"])
    with pytest.raises(IndexError, match="no module was called 2 times"):
        fv.plot.head_grid(seen, step=1)
    with pytest.raises(IndexError, match="sequence must be numbers from 0 to 1; got 2"):
        fv.plot.head_grid(seen, sequence=2)


def test_twelve_layers_of_twelve_heads_fit_a_column() -> None:
    layers = [torch.rand(12, 100, 100) for _ in range(12)]
    figure = fv.plot.head_grid(layers)
    assert figure.get_figwidth() == pytest.approx(3.3)
    assert len(figure.axes[0].images) == 144
    check_layout(figure)
    cells = figure.axes[0].images[0].get_array().shape[0]
    assert 16 <= cells < 100
    assert "cell: largest of" in figure.axes[0].get_xlabel()
    assert len(labels(figure.axes[0].xaxis)) == len(labels(figure.axes[0].yaxis)) == 12


@pytest.mark.parametrize("name", ["heatmap", "head_grid"])
def test_queries_go_downwards_and_keys_to_the_right(name: str) -> None:
    weights = torch.zeros(2, Q, K)
    weights[:, 1, K - 1] = 1
    drawn = weights[0] if name == "heatmap" else [weights]
    figure = getattr(fv.plot, name)(drawn, bar=False, **({"numbers": False} if name == "heatmap" else {}))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[::-1]  # from the bottom up, as matplotlib counts
    ax = figure.axes[0]
    left, right, bottom, top = ax.images[0].get_extent()
    for q, k in np.ndindex(Q, K):
        place = left + (k + 0.5) * (right - left) / K, top + (q + 0.5) * (bottom - top) / Q
        x, y = ax.transData.transform(place).round().astype(int)
        assert (page[y, x, 0] < 100) == ((q, k) == (1, K - 1))
    corner = ax.transData.transform((left, top))
    assert corner[1] > ax.transData.transform((right, bottom))[1]


# lines


def strands(ax: Any) -> LineCollection:
    (found,) = [one for one in ax.collections if isinstance(one, LineCollection)]
    return found


def test_lines_lead_from_query_to_key() -> None:
    weights = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.04, 0.06, 0.2, 0.7]])
    figure = fv.plot.lines(weights, ["a", "b"], list("wxyz"), threshold=0.05, top=2)
    found = strands(figure.axes[0])
    left, right = figure.axes
    place = {}
    for segment, thick in zip(found.get_segments(), found.get_linewidths(), strict=True):
        (x0, query), (x1, y) = segment
        key = right.transData.inverted().transform(left.transData.transform((1, y)))[1]
        assert (x0, x1) == (0, 1)
        place[round(query), round(key)] = thick
        assert abs(query - round(query)) < 1e-6 > abs(key - round(key))
    assert set(place) == {(0, 0), (0, 1), (1, 2), (1, 3)}  # (1, 1) is third, the others are below the threshold
    assert place[1, 3] > place[0, 0] > place[0, 1] > place[1, 2]
    assert len(strands(fv.plot.lines(weights, ["a", "b"], list("wxyz"), row=-1).axes[0]).get_segments()) == 2
    assert {"a", "b", *"wxyz", "query", "key"} <= set(written(figure))


def test_heads_have_lines_of_their_own() -> None:
    heads = 12
    weights = torch.rand(heads, Q, K).softmax(-1)
    figure = fv.plot.lines(weights, names(Q), names(K), threshold=0, top=1)
    found = strands(figure.axes[0])
    dashes = [None if on is None else round(on[0] / on[1]) for _, on in found.get_linestyle()]
    looks = set(zip(map(tuple, found.get_colors()), dashes, strict=True))
    assert len(looks) == heads
    assert len(found.get_segments()) == heads * Q
    legend = figure.axes[0].get_legend()
    assert {text.get_text() for text in legend.get_texts()} == {str(h) for h in range(heads)}
    check_layout(figure)
    one = fv.plot.lines(weights, names(Q), names(K), head=5, threshold=0, top=1)
    assert len(strands(one.axes[0]).get_segments()) == Q
    assert one.axes[0].get_legend() is None
    two = fv.plot.lines(some_map(1, heads), names(Q), names(K), head=[3, -1])
    assert {text.get_text() for text in two.axes[0].get_legend().get_texts()} == {"3", "11"}


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 60), (90, 90)])
def test_lines_grow_until_every_token_has_room(queries: int, keys: int) -> None:
    figure = fv.plot.lines(torch.rand(queries, keys), names(queries), names(keys), title="A title")
    check_layout(figure)
    assert [len(labels(ax.yaxis)) for ax in figure.axes] == [queries, keys]
