"""The page of a recorded generation in a real Chromium: it steps through what was generated, each with what it read.

FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps import export
from foveate.apps.models import HubModel
from foveate.apps.viewing import source_of
from foveate.apps.writing import Writing
from foveate.recording import Recording
from foveate.views.source import Source
from hf_models import FAMILIES
from pages import CHROMIUM, address, lines, open_page, settled, stop_clock, word
from tiny import save_gpt2

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
PROMPT, NEW = 5, 6
LAYERS = ["model.layers.0.self_attn", "model.layers.1.self_attn"]


@pytest.fixture(scope="module")
def seen() -> Recording:
    """Five tokens p0 .. p4 were given, and six written, of which the last was not read any more."""
    model = FAMILIES["llama"].build("sdpa")
    ids = torch.arange(3, 3 + PROMPT)[None]
    with fv.watch(model, keep="qkv") as recording:
        how = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
    recording.tokens = [[f"p{i}" for i in range(PROMPT)] + [f"g{i}" for i in range(1, NEW)]]
    return recording


@pytest.fixture(scope="module")
def source(seen: Recording) -> Source:
    return source_of(seen)


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def words(tab: Any) -> list[str]:
    """The words in sight that look, in order."""
    found = tab.locator('.fv-word[data-side="query"]:visible')
    return list(found.all_inner_texts())


def check_lines(tab: Any, weights: torch.Tensor) -> None:
    """The lines carry the weights (K,) of the step, to every key that it read."""
    settled(tab)
    found = {line["to"]: line["weight"] for line in lines(tab)}
    assert found.keys() == set(range(len(weights)))
    for key, weight in found.items():
        assert abs(weight - float(weights[key])) < 2e-6


def test_it_steps_through_what_was_generated(tab: Any, serve: Any, source: Source, seen: Recording) -> None:
    open_page(tab, serve(source).url)
    assert tab.get_by_role("combobox", name="Step").count() == 0  # one call a module, not one a step
    generated = tab.locator('.fv-word.fv-generated[data-side="query"]')
    assert generated.all_inner_texts() == [f"g{i}" for i in range(1, NEW)]
    where = tab.locator(".fv-stepper .fv-where")
    assert where.inner_text() == "Step through what was generated"
    keep_picture(tab, "generation")
    forward = tab.get_by_role("button", name="Next step")
    for n, step in enumerate(seen[LAYERS[0]]):
        forward.click()
        settled(tab)
        assert where.inner_text() == f"Step {n + 1} of {NEW}"
        last = PROMPT + n
        assert words(tab) == [f"p{i}" for i in range(PROMPT)] + [f"g{i}" for i in range(1, n + 1)]
        check_lines(tab, step[0, 0, -1, :last])
        came = tab.locator(".fv-step .fv-came").inner_text()
        assert came == (f"g{n + 1}" if n + 1 < NEW else "not recorded: the text ends here")
        assert tab.locator(".fv-step .fv-step-part").nth(2).locator(".fv-bars li").count() == 0  # none are made up
    assert forward.is_disabled()
    keep_picture(tab, "generation-step")
    tab.keyboard.press("ArrowLeft")
    settled(tab)
    assert where.inner_text() == f"Step {NEW - 1} of {NEW}"
    tab.keyboard.press("]")  # the layer above, at the same step
    settled(tab)
    check_lines(tab, seen[LAYERS[1]][NEW - 2][0, 0, -1])
    tab.locator(".fv-stepper").get_by_role("button", name="Show all").click()
    settled(tab)
    assert len(words(tab)) == PROMPT + NEW - 1


def test_it_plays_by_itself(tab: Any, serve: Any, source: Source) -> None:
    open_page(tab, serve(source).url)
    stop_clock(tab)
    where = tab.locator(".fv-where")
    tab.get_by_role("button", name="Play").click()
    assert where.inner_text() == f"Step 1 of {NEW}"
    tab.clock.run_for(1500)
    assert where.inner_text() == f"Step 2 of {NEW}"
    tab.get_by_role("button", name="Pause").click()
    tab.clock.run_for(5000)
    assert where.inner_text() == f"Step 2 of {NEW}"


def test_a_file_steps_alike(tab: Any, source: Source, seen: Recording, tmp_path: Path) -> None:
    tab.context.set_offline(True)
    open_page(tab, export.write(source, tmp_path / "page.html").as_uri())
    tab.get_by_role("button", name="Next step").click()
    tab.get_by_role("button", name="Next step").click()
    settled(tab)
    check_lines(tab, seen[LAYERS[0]][1][0, 0, -1])
    assert address(tab)["step"] == "1"
    tab.get_by_role("radio", name="Text").click()
    settled(tab)
    assert word(tab, "g1").is_visible()
    assert not word(tab, "g2").is_visible()


def test_a_model_that_writes_says_what_else_could_have_come(tab: Any, serve: Any, tmp_path: Path) -> None:
    model = HubModel(str(save_gpt2(tmp_path / "gpt2")), writing=Writing(3))
    source = model.run("the cat sat", None, lambda progress, message: None)
    open_page(tab, serve(source).url)
    decoding = source.document().decoding
    assert decoding is not None
    for step in decoding.steps[0][:3]:
        tab.get_by_role("button", name="Next step").click()
        settled(tab)
        bars = tab.get_by_role("list", name="Most probable words").locator("li")
        assert bars.locator(".fv-bar-word").all_inner_texts() == [one.text for one in step.alternatives]
        assert bars.nth(step.chosen).get_attribute("class") == "fv-mine"
