"""One file that works offline: its numbers give back the weights, nothing in it can become HTML, no write is torn."""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate as fv
from foveate.apps import export, page
from foveate.apps.embed import exact
from foveate.apps.embed.choose import choose, document_of
from foveate.apps.embed.parts import decode
from foveate.apps.errors import UserError
from foveate.apps.export import Options
from foveate.extras import need
from foveate.views.document import Compared, Focus
from foveate.views.source import Source
from pages import random_source

B, H, G, Q, D, V = 2, 6, 3, 7, 5, 11


def data_of(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="foveate-data">(.*?)</script>', html, re.DOTALL)
    return dict(json.loads(found))


def array(data: dict[str, Any], ref: dict[str, Any]) -> np.ndarray:
    """A tensor of the page, read as docs/DESIGN.md says."""
    raw, shape = zlib.decompress(decode(data["parts"][ref["part"]]), -zlib.MAX_WBITS), ref["shape"]
    if ref["dtype"] == "bits":
        packed = np.frombuffer(raw, np.uint8).reshape(int(np.prod(shape[:-1])), -1)
        return np.unpackbits(packed, axis=1, count=shape[-1]).reshape(shape).astype(bool)
    dtype = np.dtype({"float32": "<f4", "float16": "<f2", "steps": "<i4", "uint8": "u1"}[ref["dtype"]])
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    numbers = np.ascontiguousarray(planes.T).view(dtype).reshape(shape)
    return numbers.cumsum(-1) if ref["dtype"] == "steps" else numbers.astype(np.float64)


def allowed_by(data: dict[str, Any], spans: list[dict[str, Any]], sequence: int, shape: tuple[int, ...]) -> np.ndarray:
    """Who may attend, (H|1, Q, K), by intervals of each row's keys."""
    found = np.zeros((1, *shape), bool)
    for span in spans:
        first, last = (array(data, span[end]) for end in ("first", "last"))
        first, last = (t[min(sequence, len(t) - 1), :, : shape[0], None] for t in (first, last))
        found = found | ((np.arange(shape[1]) >= first) & (np.arange(shape[1]) < last))
    return found


def bias_of(data: dict[str, Any], distances: dict[str, Any], sequence: int, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(array(data, distances["table"])[:, columns - rows + distances["shifts"][sequence]])


def weights_of(data: dict[str, Any], call: int, sequence: int) -> np.ndarray:
    """(H, Q, K), computed from the page's numbers alone."""
    embedded = data["calls"][call]
    queries, keys = embedded["lengths"][sequence]
    query = array(data, embedded["query"])[sequence, :, :queries]
    key = array(data, embedded["key"])[sequence, :, :keys]
    key = key.repeat(query.shape[0] // key.shape[0], axis=0)
    score = embedded["score"]
    s = query @ key.transpose(0, 2, 1) * score["scale"]
    if score["softcap"]:
        s = score["softcap"] * np.tanh(s / score["softcap"])
    if embedded["distances"]:
        s = s + bias_of(data, embedded["distances"], sequence, (queries, keys))
    if embedded["spans"] is not None:
        s = np.where(allowed_by(data, embedded["spans"], sequence, (queries, keys)), s, -np.inf)
    for name in ("bias", "mask"):
        if embedded[name]:
            part = array(data, embedded[name])
            part = part[min(sequence, len(part) - 1), :, :queries, :keys]
            s = s + part if name == "bias" else np.where(part, s, -np.inf)
    top = np.maximum(s.max(-1, keepdims=True), -1e30)
    e = np.exp(s - top)
    total = e.sum(-1, keepdims=True)
    if embedded["sinks"]:
        total = total + np.exp(array(data, embedded["sinks"])[:, None, None] - top)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0)


def random_map(batch: int = 1, heads: int = H, **options: Any) -> fv.AttentionMap:
    draw = torch.Generator().manual_seed(3)
    query = torch.randn(batch, heads, Q, D, generator=draw)
    key, value = (torch.randn(batch, G, Q, width, generator=draw) for width in (D, V))
    return fv.AttentionMap(query, key, value=value, **options)


CASES = {
    "plain": {},
    "causal": {"mask": fv.masks.causal()},
    "nothing to see": {"mask": fv.masks.where(lambda b, h, q, k: (q != 2) & (k <= q))},
    "bias": {"bias": torch.linspace(-2, 2, H * Q * Q).reshape(1, H, Q, Q)},
    "bias that hides": {"bias": torch.zeros(1, 1, Q, Q).masked_fill(torch.ones(Q, Q).triu(1) > 0, -torch.inf)},
    "smallest number": {"bias": torch.zeros(1, 1, 1, Q).index_fill(3, torch.tensor([4]), torch.finfo().min)},
    "dot": {"score": "dot"},
    "softcap": {"score": fv.scores.scaled_dot(softcap=0.7)},
    "sinks": {"normalizer": fv.normalizers.softmax(sinks=torch.linspace(-1, 1, H))},
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_holds_what_the_weights_are_made_of(case: str) -> None:
    weights = random_map(**CASES[case])
    data = data_of(export.page_of(Source({"attn": weights})))
    assert data["document"]["id"] == "embedded"
    np.testing.assert_allclose(weights_of(data, 0, 0), weights.dense()[0].numpy(), rtol=1e-4, atol=1e-6)


def test_a_stored_linear_map_has_the_name_of_its_score(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return fv.linear_attention(x, x, x)[0]

    model = Model()
    with fv.watch(model) as seen:
        model(torch.randn(1, H, Q, D))
    seen.save(tmp_path / "run.fov")
    source = Source(fv.load(tmp_path / "run.fov"))
    data = data_of(export.page_of(source))
    assert data["document"]["calls"][0]["score"] == data["calls"][0]["score"]["name"] == "kernel"
    assert source.pair(0, 0, 1, 2, 3)["score_name"] == "kernel"


@pytest.mark.parametrize("starts", [[0, 0], [3, 0]])
def test_padding_is_left_out(starts: list[int]) -> None:
    lengths = [4, 7]
    mask = torch.zeros(2, 1, 1, Q, dtype=torch.bool)
    for b in range(2):
        mask[b, ..., starts[b] : starts[b] + lengths[b]] = True

    class Padded(dict[str, Any]):
        pass

    maps = Padded({"attn": random_map(2, mask=mask & torch.ones(Q, Q).tril().bool())})
    maps.lengths, maps.starts = lengths, starts  # type: ignore[attr-defined]
    source = Source(maps)
    data = data_of(export.page_of(source))
    for b in range(2):
        found = weights_of(data, 0, b)
        assert found.shape == (H, lengths[b], lengths[b])
        for i in range(lengths[b]):
            np.testing.assert_allclose(found[:, i], source.row(0, b, i, "reads", "token"), rtol=1e-4, atol=1e-6)


def test_equal_masks_and_biases_are_stored_once() -> None:
    draw = torch.Generator().manual_seed(0)
    bias = torch.randn(1, H, Q, Q, generator=draw)
    maps = {f"layer.{i}": random_map(mask=fv.masks.causal(), bias=bias.clone()) for i in range(4)}
    data = data_of(export.page_of(Source(maps)))
    assert len({call["bias"]["part"] for call in data["calls"]}) == 1
    assert len({call["spans"][0]["last"]["part"] for call in data["calls"]}) == 1


def test_large_recordings_go_in_as_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random_source(["a", "b", "c"])
    assert data_of(export.page_of(source))["calls"][0]["query"]["dtype"] == "float32"
    monkeypatch.setattr(export, "SMALL", 10)
    data = data_of(export.page_of(source))
    assert data["calls"][0]["query"]["dtype"] == "float16"
    np.testing.assert_allclose(weights_of(data, 0, 0)[:, 1], source.row(0, 0, 1, "reads", "token"), atol=2e-3)


def test_numbers_beyond_half_precision_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "SMALL", 10)
    weights = fv.AttentionMap(torch.full((1, 1, 3, 2), 1e5), torch.full((1, 1, 3, 2), 1e-5))
    assert data_of(export.page_of(Source({"attn": weights})))["calls"][0]["query"]["dtype"] == "float32"


def test_too_large_a_page_is_refused_with_its_size_and_the_remedy(tmp_path: Path) -> None:
    query = torch.zeros(1, 1, 3_000_000, 1)
    weights = fv.AttentionMap(query, query)
    with pytest.raises(UserError, match=r"would take 66 MB with the 8 largest .* 13 MB with .* limit of 9 MB; choose"):
        fv.export_html(weights, tmp_path / "page.html", limit=9_000_000)
    assert list(tmp_path.iterdir()) == []


OTHERS = {
    "a score of one's own": {"score": lambda q, k: -torch.cdist(q, k)},
    "another normaliser": {"normalizer": "sparsemax", "mask": fv.masks.causal()},
    "bias": {"score": "l2", "normalizer": "sparsemax", "bias": torch.linspace(-1, 1, H * Q * Q).reshape(1, H, Q, Q)},
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_a_page_cannot_compute_goes_in_as_it_is(case: str) -> None:
    weights = random_map(2, **OTHERS[case])
    source = Source({"attn": weights})
    data = data_of(export.page_of(source))
    (call,) = data["calls"]
    dense = {name: array(data, call["dense"][name]) for name in ("weights", "scores", "statistic")}
    np.testing.assert_allclose(dense["weights"], weights.dense().numpy(), rtol=1e-6, atol=1e-8)
    for b, h, i, j in [(0, 0, 0, 0), (1, 4, 5, 2)]:
        pair = source.pair(0, b, h, i, j)
        assert dense["scores"][b, h, i, j] == pytest.approx(pair["scaled"], rel=1e-5)
        assert dense["statistic"][b, h, i] == pytest.approx(pair["statistic"], rel=1e-5)
        assert [call["dense"][name] for name in ("normalizer", "statistic_name")] == [
            pair["normalizer"],
            pair["statistic_name"],
        ]
        assert call["score"]["name"] == pair["score_name"]
        assert (call["score"]["scale"] is None) == (pair["products"] is None)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"score": fv.scores.Function(lambda q, k: -torch.cdist(q, k))}, "the score '<lambda>'"),
        ({"normalizer": "sparsemax"}, "the normalizer 'sparsemax'"),
    ],
)
def test_a_large_call_of_them_is_refused(monkeypatch: pytest.MonkeyPatch, options: Any, what: str) -> None:
    def page(**more: Any) -> dict[str, Any]:
        return data_of(export.page_of(Source({"attn": random_map(**options)}), options=Options(**more)))

    monkeypatch.setattr(exact, "DENSE", H * Q * Q)
    assert page(embed="exact")["calls"][0]["dense"]
    monkeypatch.setattr(exact, "DENSE", H * Q * Q - 1)
    with pytest.raises(UserError, match=f"{what} cannot be computed inside a page, and 294 weights of a call are too"):
        page(embed="exact")
    assert page()["calls"][0]["top"]["k"] == Q


def test_a_page_is_refused_before_its_weights_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(
        {"attn": fv.AttentionMap(torch.ones(1, 1, 900, 1), torch.ones(1, 1, 900, 1), normalizer="sparsemax")}
    )
    monkeypatch.setattr(fv.AttentionMap, "dense", lambda self: pytest.fail("computed"))
    with pytest.raises(UserError, match=r"would take 8.1 MB, more than the limit of 5 MB"):
        export.page_of(source, limit=5_000_000, options=Options(embed="exact"))


class Elements(HTMLParser):
    """The elements of a page, and the text of each script and style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


HOSTILE = ["</script><img src=x onerror=alert(1)>", "<!--", "<script>", "\u2028", "&lt;", "'\"`${1}", "\0", "\ud83d"]


def test_hostile_tokens_and_titles_stay_text(tmp_path: Path) -> None:
    path = fv.export_html(random_source(HOSTILE).maps[0], tmp_path / "page.html", tokens=HOSTILE, title=HOSTILE[0])
    html = path.read_text(encoding="utf-8")
    assert "<title>&lt;/script&gt;" in html
    assert data_of(html)["document"]["sequences"][0]["source"]["text"] == HOSTILE
    tags = [tag for tag, _ in Elements(html).found]
    assert "img" not in tags
    assert sorted(set(tags)) == ["body", "div", "head", "html", "link", "meta", "noscript", "script", "style", "title"]
    assert tags.count("script") == 2


def test_the_policy_allows_the_pages_own_script_and_nothing_else(tmp_path: Path) -> None:
    html = export.page_of(random_source(["a", "b"]))
    (policy,) = (a["content"] for tag, a in Elements(html).found if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert [page.script_hash(text) in policy for text in scripts + styles] == [True, True]
    assert "unsafe" not in policy
    assert "connect-src 'none'" in policy
    assert "default-src 'none'" in policy


def test_the_page_asks_nobody_for_anything() -> None:
    html = export.page_of(random_source(["a", "b"]))
    for _, attributes in Elements(html).found:
        for name in ("src", "href"):
            assert attributes.get(name, "data:,") == "data:,"
    outside = set(re.findall(r"https?://[\w./-]+", html))
    assert all(address.startswith("http://www.w3.org/") for address in outside), outside


def test_writing_replaces_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.html"
    target.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "replace", fail)
    with pytest.raises(UserError, match=r"cannot write .*page.html: No space left on device"):
        export.write(random_source(["a"]), target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]
    monkeypatch.undo()
    assert export.write(random_source(["a"]), target) == target
    assert "old" not in target.read_text()[:10]
    assert os.listdir(tmp_path) == ["page.html"]


def test_nothing_is_left_of_a_page_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "page_of", lambda *_, **__: "\ud800")
    with pytest.raises(UnicodeEncodeError, match="surrogates"):
        export.write(random_source(["a"]), tmp_path / "page.html")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*: No such file or directory"):
        fv.export_html(random_source(["a"]).maps[0], tmp_path / "nowhere" / "page.html")


def test_inline_assets_cannot_end_their_element() -> None:
    script, style = page.assets()
    assert not re.search(r"</script|<script|<!--", script, re.IGNORECASE)
    assert "</style" not in style.lower()


def test_a_missing_extra_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(ImportError, match=re.escape("starlette is not installed; run: pip install 'foveate[view]'")):
        need("starlette", "view")


def test_where_to_look_moves_with_the_heads_that_go_in() -> None:
    focus = Focus(token=1, call=1, head=None, heads=(0, 2))
    source = random_source(["a", "b", "c"]).with_answer("", focus, compare=Compared("other", "A", "B"))
    document = document_of(source, choose(source, [1], [2]))
    assert document.focus == Focus(token=1, call=0, head=None, heads=(0,))
    assert document.compare is None  # which is not in the file
    alone = source.with_answer("", replace(focus, head=1, heads=None))
    assert document_of(alone, choose(alone, [1], [1, 2])).focus == replace(focus, call=0, head=0, heads=None)
