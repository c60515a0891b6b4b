"""The page on a text too long for one picture: its map, the text beside it, passages, search, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.views.source import Source
from foveate.views.words import from_pieces
from pages import CHROMIUM, address, open_page, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]

TOKENS, HEADS, DIM = 9000, 2, 8
ASKS, TOLD = 8000, (1200, 1201, 1203)  # in head 1 query ASKS reads these keys, of which the first two stand together
EXACT = ".fv-heat[data-tiles=exact]"
STILL = ".fv-heat[data-moving=false]"


def made() -> Source:
    """Random heads; in the second, one query reads one passage and a token far from it."""
    draw = torch.Generator().manual_seed(2)
    query, key = (0.3 * torch.randn(1, HEADS, TOKENS, DIM, generator=draw) for _ in range(2))
    query[0, 1, ASKS] = 0
    query[0, 1, ASKS, 0] = 12
    key[0, 1, :, 0] = 0
    for place in TOLD:
        key[0, 1, place, 0] = 3
    key[0, 1, 60, 0] = 2.6
    pieces = [f"▁w{i % 97}" for i in range(TOKENS)]
    pieces[1200:1204] = ["▁Secret", "▁pass", "age", "▁here"]
    pieces[ASKS] = "▁Question"
    pieces[8990:8992] = ["▁pass", "ages"]
    seen = {"layers.0.attention": fv.AttentionMap(query, key, mask=fv.masks.causal())}
    return Source(seen, from_pieces(pieces), title="A long text", model="random")


@pytest.fixture(scope="module")
def long() -> Iterator[Page]:
    workspace = Workspace()
    workspace.add(made())
    with Page(workspace, port=0) as page:
        yield page


@pytest.fixture
def text(tab: Any, long: Page) -> Any:
    open_page(tab, long.url)
    tab.locator('[role=gridcell][data-head="1"]').click()
    computed(tab)
    return tab


def computed(tab: Any) -> None:
    """Wait until all of the map that is in sight is computed."""
    settled(tab)  # what it says now is of this place and head
    tab.wait_for_selector(EXACT)


def source_of(page: Page) -> Source:
    return page.workspace.source(page.workspace.documents()[0]["id"])


def search(tab: Any, what: str) -> Any:
    tab.keyboard.press("/")
    tab.keyboard.type(what)
    settled(tab)
    return tab.locator(".fv-search-count")


def still(tab: Any) -> None:
    """Wait until the map stands still, and whoever follows it is there."""
    settled(tab)
    tab.wait_for_selector(STILL)
    settled(tab)


def place(tab: Any) -> tuple[float, ...]:
    """Middle row and column of the map, and the logarithm of how many tokens a pixel has, once the map stands still."""
    still(tab)
    return tuple(float(part) for part in address(tab)["map"].split(","))


def test_all_is_seen_first_and_every_pixel_is_computed(text: Any) -> None:
    assert "9,000 by 9,000" in text.locator("canvas.fv-world").get_attribute("aria-label")
    assert re.search(r"largest of (16|32) × \1 weights, all computed", text.locator(".fv-map-note").inner_text())
    text.get_by_role("radio", name="Mean", exact=True).click()
    computed(text)
    assert "mean of" in text.locator(".fv-map-note").inner_text()
    assert address(text)["how"] == "mean"
    assert text.evaluate("document.querySelectorAll('*').length") < 2500


def test_a_word_that_was_found_is_shown_in_the_map_down_to_its_exact_weights(text: Any, long: Page) -> None:
    count = search(text, "question")
    assert count.inner_text() == "1 of 1"
    text.get_by_role("button", name=re.compile("Show its row")).click()
    row, column, zoom = place(text)
    assert (abs(row - ASKS) < 2, zoom < 0) == (True, True)
    computed(text)
    box = text.locator("canvas.fv-world").bounding_box()
    for part in (0.35, 0.62):  # left and right of the diagonal
        text.mouse.move(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
        settled(text)
        said = text.locator(".fv-readout").inner_text()
        assert re.search(r"  \d\.\d{4}$|  \d\.\de−\d+$", said)
        i, j = (int(number.replace(",", "")) for number in re.findall(r"\((\d[\d,]*)\)", said))
        exact = float(source_of(long).row(0, 0, i, "reads", "token")[1, j])
        shown = float(said.split()[-1].replace("−", "-"))
        assert shown == pytest.approx(exact, abs=5e-5)
        assert column - 60 < j < column + 60
    text.mouse.move(1, 1)


def test_passages_lead_to_what_a_word_reads(text: Any, long: Page) -> None:
    search(text, "question")
    text.get_by_role("button", name=re.compile("Show its row")).click()
    text.get_by_role("heading", name="What “Question” (8,000) reads").wait_for()
    settled(text)
    first = text.locator(".fv-passage").first
    assert "1,200–1,203" in first.inner_text()
    weights = source_of(long).row(0, 0, ASKS, "reads", "token")[1]
    assert first.locator(".fv-passage-weight").inner_text() == f"{weights[list(TOLD)].sum():.2f}"
    assert first.locator("mark").all_inner_texts() == ["Secret", "pass", "here"]
    assert "Secret passage here" in first.inner_text()
    assert text.locator('.fv-word[data-token="1201"]').count() == 0  # far away in the text
    first.focus()
    text.keyboard.press("ArrowDown")
    settled(text)
    assert text.evaluate("document.activeElement.dataset.place") == "1"
    text.keyboard.press("ArrowUp")
    text.keyboard.press("Enter")
    still(text)
    assert text.locator('.fv-word[data-token="1201"]').count() == 1
    assert int(text.locator(".fv-word.fv-other").get_attribute("data-token")) in TOLD
    shade = "getComputedStyle(document.querySelector('.fv-word[data-token=\"1201\"]')).backgroundColor"
    assert text.evaluate(shade) != "rgba(0, 0, 0, 0)"
    row, column, _ = place(text)
    assert abs(row - ASKS) < 2
    assert 1199 < column < 1205


def test_who_reads_a_word_is_a_column(text: Any) -> None:
    assert search(text, "secret passage").inner_text() == "1 of 1"
    text.get_by_role("button", name=re.compile("Show its column")).click()
    text.get_by_role("heading", name="What “Secret” (1,200) is read by").wait_for()
    first = text.locator(".fv-passage").first
    first.filter(has_text="Question").wait_for()  # what a word receives gets known row by row
    assert first.locator(".fv-passage-where").inner_text() == "8,000"
    assert text.locator('.fv-word.fv-here[data-token="1201"]').count() == 1


def test_an_address_brings_back_place_search_and_word(text: Any, long: Page) -> None:
    search(text, "pass")
    text.keyboard.press("Enter")
    text.get_by_role("button", name=re.compile("Show its row")).click()
    before = place(text)
    assert address(text)["find"] == "pass"
    kept = text.evaluate("location.href")
    text.goto("about:blank")
    open_page(text, kept)
    computed(text)
    assert text.locator(".fv-search-count").inner_text() == "2 of 2"
    assert text.get_by_label("Search the text").input_value() == "pass"
    text.locator(".fv-pass h2").filter(has_text="“pass” (8,990)").wait_for()
    text.locator("canvas.fv-world").press("ArrowUp")
    after = place(text)
    assert after[1:] == pytest.approx(before[1:], abs=1)
    assert 0 < before[0] - after[0] < 20


def test_the_keyboard_reaches_everything(text: Any) -> None:
    count = search(text, "w5 w6")
    at, every = (int(number) for number in count.inner_text().split(" of "))
    assert every > 90
    text.keyboard.press("Enter")
    text.keyboard.press("Enter")
    text.keyboard.press("Shift+Enter")
    settled(text)
    assert count.inner_text() == f"{at + 1} of {every}"
    assert text.locator(".fv-word.fv-here").all_inner_texts() == ["w5", "w6"]
    text.keyboard.press("Escape")
    text.keyboard.press("Control+f")
    settled(text)
    assert text.evaluate("document.activeElement.type") == "search"
    text.keyboard.type("nowhere")
    settled(text)
    assert count.inner_text() == "not found"
    world = text.locator("canvas.fv-world")
    world.press("+")
    text.keyboard.press("+")
    assert place(text)[2] < 3
    assert text.locator("canvas.fv-mini:not(.fv-off)").count() == 1
    text.keyboard.press("Shift+ArrowDown")
    assert "word" in address(text)
    text.keyboard.press("0")
    still(text)
    assert "map" not in address(text)
    assert text.locator("canvas.fv-mini:not(.fv-off)").count() == 0


def test_hands_move_the_map_and_the_text_follows(text: Any) -> None:
    world = text.locator("canvas.fv-world")
    box = world.bounding_box()
    at = (box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"])
    text.mouse.move(*at)
    for _ in range(25):
        text.mouse.wheel(0, -120)
    near = place(text)
    seen = text.locator(".fv-word").evaluate_all("words => words.map(word => +word.dataset.token)")
    assert any(abs(token - near[0]) < 60 for token in seen)
    text.mouse.down()
    text.mouse.move(at[0] - 100, at[1] - 50, steps=4)
    text.mouse.up()
    moved = place(text)
    assert (moved[0] > near[0], moved[1] > near[1], moved[2]) == (True, True, near[2])


def test_a_map_that_fails_says_why_and_the_rest_lives(tab: Any, serve: Any) -> None:
    source = made()

    def changed(*_: object, **__: object) -> None:
        raise ValueError("the recording was changed while it was open")

    source.map = changed  # type: ignore[method-assign]
    open_page(tab, serve(source).url)
    tab.locator(".fv-map-note").filter(has_text="the recording was changed").wait_for()
    search(tab, "secret")
    tab.locator(".fv-word").filter(has_text="Secret").click()
    tab.locator(".fv-pass h2").filter(has_text="Secret").wait_for()
    settled(tab)
    assert any("400" in complaint for complaint in tab.complaints)
    tab.complaints.clear()
