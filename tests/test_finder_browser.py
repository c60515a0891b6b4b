"""The list of all heads in a real Chromium: open it, sort it, choose one; a long text, and one that cannot be read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.recording.strict import RecordingError
from foveate.views import source
from foveate.views.source import Source
from foveate.views.words import from_words
from pages import CHROMIUM, address, alerted, open_page, settled, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
WORDS = [f"w{i % 9}" for i in range(40)]
HEADS = ".fv-finder tbody tr"


def with_a_previous_token_head(layers: int = 2, heads: int = 3) -> Source:
    """Random heads; head 2 of layer 1 reads the token before."""
    draw = torch.Generator().manual_seed(4)
    maps = {}
    for layer in range(layers):
        q, k = torch.randn(2, 1, heads, len(WORDS), 40, generator=draw)
        if layer == 1:
            q[0, 2], k[0, 2] = 5 * torch.eye(40)[torch.arange(40) - 1], 5 * torch.eye(40)
        maps[f"h.{layer}.attn"] = fv.AttentionMap(q, k, mask=fv.masks.causal())
    return Source(maps, from_words(WORDS), title="Many heads")


def names(tab: Any) -> list[str]:
    settled(tab)
    return [re.sub(r"\s+", " ", text) for text in tab.locator(f"{HEADS} th").all_inner_texts()]


def test_a_head_is_found_by_what_it_does(tab: Any, serve: Any) -> None:
    one = with_a_previous_token_head()
    found = torch.cat([one.heads(layer, 0).values for layer in range(2)])
    open_page(tab, serve(one).url)
    tab.keyboard.press("f")
    dialog = tab.get_by_role("dialog", name="Find a head")
    assert names(tab) == [f"layer {layer} head {head}" for layer in range(2) for head in range(3)]
    assert tab.evaluate("document.activeElement.dataset.head") == "0"  # where one was
    dialog.get_by_role("button", name="Previous").click()
    order = found[:, 5].argsort(descending=True, stable=True).tolist()
    assert order[0] == 5
    assert names(tab) == [f"layer {n // 3} head {n % 3}" for n in order]
    shown = tab.locator(f"{HEADS}:first-child td").all_inner_texts()
    assert shown[6] == f"{100 * float(found[5, 5]):.0f} %"
    assert tab.locator('th[data-column="previous"]').get_attribute("aria-sort") == "descending"
    dialog.get_by_role("button", name="Previous").click()
    assert names(tab) == [f"layer {n // 3} head {n % 3}" for n in found[:, 5].argsort(stable=True).tolist()]
    if folder := os.environ.get("FOVEATE_SCREENSHOTS"):
        tab.screenshot(path=Path(folder) / "finder.png")
    tab.locator(HEADS).first.focus()
    tab.keyboard.press("End")
    tab.keyboard.press("Enter")
    settled(tab)
    assert not dialog.is_visible()
    assert tab.locator('[role=gridcell][data-layer="1"][data-head="2"]').get_attribute("aria-selected") == "true"
    assert (address(tab)["call"], address(tab)["head"]) == ("1", "2")


def test_a_long_text_is_measured_while_one_looks(tab: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LONG", 0)
    one = with_a_previous_token_head()
    open_page(tab, serve(one).url)
    tab.get_by_role("button", name="Find a head").click()
    measured = tab.locator(f"{HEADS} td:nth-child(3)")
    wanted = [f"{value:.2f}" for layer in range(2) for value in one.heads(layer, 0).values[:, 0].tolist()]
    until(measured.all_inner_texts, wanted)  # in a while: asked for again, from more rows each time
    tab.keyboard.press("Escape")
    settled(tab)
    assert not tab.get_by_role("dialog", name="Find a head").is_visible()


def test_what_cannot_be_read_is_said(tab: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = with_a_previous_token_head()
    open_page(tab, serve(one).url)

    def gone(**_: Any) -> Any:
        raise RecordingError("run.fov/calls/00000.safetensors: the file is missing")

    for question in ("heads", "row"):
        monkeypatch.setattr(one, question, gone)
    tab.keyboard.press("f")
    tab.locator(".fv-finder [role=status]").filter(has_text="The recording can no longer be read").wait_for()
    tab.keyboard.press("Escape")
    tab.locator('[data-token][data-side="query"]').nth(5).click()
    alerted(tab, "run.fov/calls/00000.safetensors: the file is missing")
    settled(tab)
    assert all("409" in line for line in tab.complaints)
    tab.complaints.clear()
