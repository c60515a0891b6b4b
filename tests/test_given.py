"""Weights given as numbers: every question gives those numbers, in the page, in a file, and by bertviz's names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import foveate as fv
from foveate.apps import export, head_view
from foveate.apps.embed import exact
from foveate.apps.errors import UserError
from foveate.apps.viewing import source_of
from foveate.views.source import Source
from pages import CHROMIUM, open_page, settled

ROOT = Path(__file__).parent.parent
L, B, H, Q, K = 2, 1, 3, 7, 7
WORDS = ["The", "cat", "sat", "down", "to", "sleep", "."]
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM")


def weights(*shape: int, causal: bool = False) -> Tensor:
    """Rows that do not sum to 1, and a row of zeros."""
    table = torch.rand(shape)
    table[..., 1:2, :] = 0
    return table.tril() if causal else table


def layers(causal: bool = False) -> tuple[Tensor, ...]:
    return tuple(weights(B, H, Q, K, causal=causal) for _ in range(L))


def test_every_answer_is_the_numbers_that_were_given() -> None:
    given = layers()
    source = source_of(given, WORDS)
    for call, table in enumerate(given):
        for index in range(Q):
            assert torch.equal(source.row(call, 0, index, "reads", "token"), table[0, :, index])
            assert torch.equal(source.row(call, 0, index, "read_by", "token"), table[0, :, :, index])
        _, top, rest = source.topk(call, 0, 2, "reads", "token", 3)
        assert torch.equal(top, table[0, :, 2].topk(3).values)
        torch.testing.assert_close(rest, table[0, :, 2].sum(-1) - top.sum(-1))
        tile = source.tile(call, 0, 1, 2, 7, 0, 4, 5, 4)
        assert tile.peak == float(table[0, 1, 2:7, :4].max())
        np.testing.assert_array_equal(tile.pixels, np.rint(255 * (table[0, 1, 2:7, :4] / tile.peak).double().numpy()))
        seen = source.map(call, 0, 1, 0, 0, 0)
        assert seen.exact and seen.pixels.shape == (Q, K) and not seen.pixels[1].any()
        np.testing.assert_allclose(source.thumbnails(call, 0).peak, table[0].amax((1, 2)).tolist())
        assert torch.equal(source.maps[call].dense(), table)
        received = source.maps[call].reduce(fv.stats.Received())
        torch.testing.assert_close(received, table.sum(2).to(received.dtype))


def test_what_nobody_knows_is_not_made_up() -> None:
    given = layers()
    pair = source_of(given, WORDS).pair(1, 0, 2, 3, 4)
    assert pair["weight"] == pytest.approx(float(given[1][0, 2, 3, 4]), rel=1e-6)
    assert (pair["query"], pair["key"], pair["normalizer"]) == ([], [], "given")
    for name in ("products", "score", "scaled", "scale", "logsumexp", "statistic", "value", "output"):
        assert pair[name] is None, name


def test_the_numbers_stay_as_they_are() -> None:
    given = layers()
    before = [table.clone() for table in given]
    source = source_of(given, WORDS)
    source.row(0, 0, 0, "reads", "token").fill_(9)
    source.maps[0].dense().fill_(9)
    source.thumbnails(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (weights(Q, K), (1, 1, 1, Q, K)),
        (weights(H, Q, K).numpy(), (1, 1, H, Q, K)),
        (weights(2, H, Q, K).double(), (1, 2, H, Q, K)),
        (weights(L, 2, H, Q, K).half(), (L, 2, H, Q, K)),
        ([weights(H, Q, K).bfloat16().requires_grad_()] * 3, (3, 1, H, Q, K)),
        ((torch.eye(Q, dtype=torch.int64),), (1, 1, 1, Q, Q)),
    ],
)
def test_shapes_and_dtypes(given: Any, shape: tuple[int, ...]) -> None:
    source = source_of(given)
    assert (len(source.maps), *source.maps[0].shape) == shape
    first = given if isinstance(given, Tensor | np.ndarray) and given.ndim < 5 else given[0]
    expected = torch.as_tensor(first).detach().float().reshape(-1, *shape[-3:])
    assert torch.equal(source.row(0, 0, 2, "reads", "token"), expected[0, :, 2])


def test_causal_weights_are_known_by_their_zeros() -> None:
    assert {call.kind for call in source_of(layers(causal=True)).document().calls} == {"decoder"}
    assert {call.kind for call in source_of(layers()).document().calls} == {"encoder"}
    step = source_of([weights(1, H, 1, K)], WORDS).document().calls[0]
    assert (step.kind, step.offset) == ("encoder", K - 1)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ((), ValueError, "attention holds no weights: fused attention does not return them. Record the model"),
        ((None, None), ValueError, "attention holds no weights"),
        (
            "abc",
            TypeError,
            "expected a Recording, an AttentionMap, a mapping of them, or weights as numbers; ",
        ),
        (3, TypeError, "one for each layer, as a model's outputs.attentions; got int"),
        ([weights(H, Q, K), (weights(H, Q, K),)], TypeError, r"attention\[1\]: weights are a tensor .* got tuple"),
        (torch.rand(Q), ValueError, r"must be \(batch, heads, queries, keys\), none of them 0; got \(7,\)"),
        (torch.rand(H, 0, K), ValueError, r"none of them 0; got \(3, 0, 7\)"),
        (torch.randn(H, Q, K), ValueError, "it holds numbers below 0: are these scores"),
        ([weights(1, H, Q, K), weights(2, H, Q, K)], ValueError, "all calls must have the same batch size"),
    ],
)
def test_what_is_no_weights(given: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        source_of(given)


def test_hugging_faces_attentions_are_taken_as_they_are() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, n_positions=16, vocab_size=16)
    config._attn_implementation = "eager"
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad(), fv.watch(model) as seen:
        found = model(ids, output_attentions=True).attentions
    given, recorded = source_of(found), source_of(seen)
    assert [call.kind for call in given.document().calls] == [call.kind for call in recorded.document().calls]
    for call in range(2):
        ours, theirs = (source.row(call, 0, 3, "reads", "token") for source in (recorded, given))
        torch.testing.assert_close(theirs, ours)


@needs_browser
@pytest.mark.browser
def test_a_file_holds_the_numbers_and_says_what_is_not_known(tmp_path: Path, tab: Any) -> None:
    path = fv.export_html(layers(), tmp_path / "given.html", WORDS)
    open_page(tab, path.as_uri())
    tab.locator('[data-token="2"][data-side="query"]').click()
    settled(tab)
    mechanism = tab.get_by_label("Mechanism")
    assert "This weight was given as a number" in mechanism.inner_text()
    assert mechanism.locator(".fv-mech-card:visible").count() == 1
    assert tab.complaints == []


def test_given_weights_of_any_number_go_into_a_file_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "DENSE", 4)
    monkeypatch.setattr(export, "SMALL", 0)
    given = layers()
    text = export.page_of(source_of(given, WORDS))
    data = json.loads(text.split('id="foveate-data">')[1].split("</script>")[0])
    dense = data["calls"][1]["dense"]
    assert dense["weights"] == dense["scores"]
    assert dense["weights"]["dtype"] == "float16"
    with pytest.raises(UserError, match="the page would take"):
        export.page_of(source_of(given, WORDS), limit=100)


# bertviz's names


@pytest.fixture
def viewed(monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    shown: list[Source] = []
    monkeypatch.setattr(head_view, "view", shown.append)
    return shown


def test_head_view_takes_what_bertviz_takes(viewed: list[Source]) -> None:
    given = layers()
    fv.head_view(given, WORDS, 4, layer=1, heads=[2])
    document = viewed[0].document()
    assert document.focus is not None
    assert (document.focus.call, document.focus.head, document.focus.token) == (1, 2, None)
    assert document.notes == ("The second text begins with token 4, “to”.",)
    fv.head_view(given, WORDS, layer=1, include_layers=[1], heads=[0, 2])
    document = viewed[1].document()
    assert [call.label for call in document.calls] == ["layer 1"]
    assert document.focus is not None
    assert (document.focus.call, document.focus.head, document.focus.heads) == (0, None, (0, 2))
    assert torch.equal(viewed[1].row(0, 0, 2, "reads", "token"), given[1][0, :, 2])
    fv.head_view(given, ["[CLS]", "sl", "##eep", "a", "b", "c", "[SEP]"], prettify_tokens=False)
    tokens = viewed[2].document().sequences[0].source
    assert tokens.text[2] == "##eep" and tokens.word == (0, 1, 2, 3, 4, 5, 6) and tokens.special[0]
    assert viewed[2].document().focus is None


def test_head_view_of_an_encoder_decoder(viewed: list[Source]) -> None:
    source, target = ["a", "b", "c", "d"], ["x", "y", "z"]
    sides = {"encoder_attention": (weights(1, 2, 4, 4),) * 2, "decoder_attention": (weights(1, 2, 3, 3, causal=True),)}
    cross = (weights(1, 2, 3, 4),)
    fv.head_view(**sides, cross_attention=cross, encoder_tokens=source, decoder_tokens=target, layer=0)
    document = viewed[0].document()
    assert [(call.kind, call.rows, call.columns) for call in document.calls] == [
        *[("encoder", "source", "source")] * 2,
        ("decoder", "target", "target"),
        ("cross", "target", "source"),
    ]
    assert document.focus is not None and document.focus.call == 3
    assert torch.equal(viewed[0].row(3, 0, 1, "reads", "token"), cross[0][0, :, 1])
    fv.head_view(decoder_attention=sides["decoder_attention"], decoder_tokens=target)
    alone = viewed[1].document()
    assert alone.calls[0].kind == "decoder" and alone.sequences[0].source.text == tuple(target)


def test_head_view_of_a_recording(viewed: list[Source]) -> None:
    model = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    with torch.no_grad(), fv.watch(model.eval(), heads=[1]) as seen:
        model(torch.randn(1, Q, 8))
    fv.head_view(seen, WORDS, layer=1, heads=1)
    focus = viewed[0].document().focus
    assert focus is not None and (focus.call, focus.head) == (1, 0)
    with pytest.raises(ValueError, match="include_layers goes with weights that are given as numbers"):
        fv.head_view(seen, WORDS, include_layers=[0])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give attention, or some of encoder_attention, decoder_attention and cross_attention"),
        ({"attention": weights(Q, K), "cross_attention": weights(Q, K)}, "give attention, or some of"),
        ({"attention": weights(Q, K), "encoder_tokens": WORDS}, "attention goes with tokens; leave out encoder_tokens"),
        ({"cross_attention": weights(Q, K), "tokens": WORDS}, "go with encoder_tokens and decoder_tokens; leave out"),
        ({"attention": weights(Q, K), "html_action": "return"}, "must be 'view'; got 'return'; fv.export_html"),
        ({"attention": layers(), "layer": 2}, "layer: there is no 2; there are 0 to 1"),
        ({"attention": layers(), "layer": 0, "include_layers": [1]}, "layer: there is no 0; there are 1"),
        ({"attention": layers(), "include_layers": [0, 5]}, "include_layers: there is no 5; there are 0 to 1"),
        ({"attention": layers(), "heads": [0, 3]}, "heads: there is no 3; there are 0, 1, 2"),
        ({"attention": layers(), "tokens": WORDS, "sentence_b_start": 7}, "must be a token from 1 to 6; got 7"),
        ({"attention": layers(), "tokens": WORDS[1:]}, "tokens must have one entry for each position of the maps, 7"),
        ({"encoder_attention": [None]}, "encoder_attention holds no weights"),
    ],
)
def test_head_view_refuses(viewed: list[Source], given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fv.head_view(**given)
    assert viewed == []


def test_the_docs_page_runs(monkeypatch: pytest.MonkeyPatch, viewed: list[Source]) -> None:
    monkeypatch.setattr(fv, "view", lambda *given: viewed.append(source_of(*given)))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "notebook.md").read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/notebook.md", "exec"), scope)
    assert len(viewed) == len(blocks) == 2


@needs_browser
@pytest.mark.browser
def test_chosen_heads_are_drawn_together(tab: Any, serve: Any, viewed: list[Source]) -> None:
    fv.head_view(layers(), WORDS, heads=[0, 2])
    open_page(tab, serve(viewed[0]).url)
    assert set(tab.locator("path.fv-line").evaluate_all("paths => paths.map(path => path.dataset.head)")) == {"0", "2"}
