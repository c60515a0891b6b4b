"""Two recordings side by side in a real Chromium: the same place in both, exact differences, heads by how they differ.

FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.views.difference import difference
from foveate.views.source import Source
from pages import CHROMIUM, open_page, settled, word
from test_compare import TEXT, source

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
OTHER = ["the", "dog", "sat", "here", "on", "the", "mat"]


@pytest.fixture
def beside(tab: Any, serve: Any) -> Any:
    """Opens a page with two sources side by side."""
    pages: list[Page] = []

    def start(one: Source, other: Source) -> Any:
        workspace = Workspace()
        workspace.add_compared(one, other, ("before", "after"))
        pages.append(Page(workspace, port=0).start())
        return open_page(tab, pages[-1].url)

    yield start
    tab.goto("about:blank")
    for page in pages:
        page.close()


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def cells(tab: Any, table: str) -> list[list[str]]:
    rows = tab.locator(f".fv-difference {table} tr").all()
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows]


def check_words(tab: Any, a: Source, b: Source, call: int, head: int, i: int) -> None:
    """The table says what query i reads in both, to the last digit that it shows."""
    settled(tab)
    assert tab.locator(".fv-difference h3").first.inner_text() == f"What “{TEXT[i]}” reads"
    want = [one.row(call, 0, i, "reads", "token")[head].tolist() for one in (a, b)]
    order = sorted(range(len(TEXT)), key=lambda j: -abs(want[1][j] - want[0][j]))

    def said(text: str) -> float:
        return 0.0 if text.startswith("<") else float(text.replace("−", "-"))

    rows = cells(tab, ".fv-two > div:first-child table")
    assert rows[0] == ["word", "before", "after", "difference"]
    assert [row[0] for row in rows[1:]] == [TEXT[j] for j in order]
    for j, row in zip(order, rows[1:], strict=True):
        for text, number in zip(row[1:], (want[0][j], want[1][j], want[1][j] - want[0][j]), strict=True):
            assert abs(said(text) - number) <= 0.0051


def test_the_same_place_in_both(beside: Any) -> None:
    a, b = source(TEXT, 1), source(TEXT, 2)
    tab = beside(a, b)
    captions = tab.locator(".fv-difference figcaption").all_inner_texts()
    assert captions == ["before", "after", "after − before"]
    word(tab, "mat").click()
    check_words(tab, a, b, 0, 0, 5)
    keep_picture(tab, "compare")
    assert tab.locator(".fv-ranking").get_attribute("data-of") == "6"
    found = {call: difference(a, b, call, 0, "token") for call in range(2)}
    for name, button in (("divergence", "divergence"), ("moved", "moved")):
        tab.locator(".fv-ranking").get_by_role("button", name=button).click()
        settled(tab)
        numbers = {(c, h): getattr(found[c], name)[h] for c in range(2) for h in range(3)}
        order = sorted(numbers, key=lambda place: -numbers[place])
        rows = cells(tab, ".fv-ranking")[1:]
        assert [row[0] for row in rows] == [f"layer {c}, head {h}" for c, h in order]
    call, head = order[0]
    tab.locator(".fv-ranking").get_by_role("button", name=f"layer {call}, head {head}").click()
    check_words(tab, a, b, call, head, 5)
    tab.keyboard.press("[" if call else "]")  # another layer, the same word: no row of the one before stays
    check_words(tab, a, b, 1 - call, head, 5)


def test_pointing_at_a_cell_and_zooming_move_all_three(beside: Any) -> None:
    tab = beside(source(TEXT * 3, 1), source(TEXT * 3, 2))
    box = tab.locator('.fv-three figure[data-part="b"] canvas').bounding_box()
    readout = tab.locator(".fv-difference .fv-readout")
    tab.mouse.move(box["x"] + 70, box["y"] + 64)  # the first cell, behind the names
    readout.filter(has_text=re.compile("“the” → “the”  1.0000 and 1.0000, difference 0")).wait_for()
    pictures = lambda: [c.evaluate("c => c.toDataURL()") for c in tab.locator(".fv-three canvas").all()]  # noqa: E731
    settled(tab)
    before = pictures()
    for _ in range(3):
        tab.get_by_role("button", name="Zoom into both").click()
    settled(tab)
    assert not set(pictures()) & set(before)
    tab.get_by_role("button", name="Show both whole").click()
    settled(tab)
    tab.mouse.move(box["x"] + 70, box["y"] + 64)
    settled(tab)
    assert pictures() == before


def test_what_has_no_counterpart_is_said(beside: Any) -> None:
    tab = beside(source(TEXT, 1), source(OTHER, 1))
    told = "the texts differ: 1 only in before, 2 only in after, struck out"
    assert told in tab.locator(".fv-differs").inner_text()
    word(tab, "cat").click()
    settled(tab)
    who = tab.locator(".fv-difference h3").first
    assert who.inner_text() == "“cat” has no counterpart in after"
    word(tab, "mat").click()
    settled(tab)
    assert who.inner_text() == "What “mat” reads"
    rows = {row[0]: row for row in cells(tab, ".fv-two > div:first-child table")[1:]}
    assert rows["cat"][2:] == ["none", "no counterpart"]
    assert rows["dog"][1] == "none"
    assert rows["dog"][3] == "no counterpart"
    keep_picture(tab, "compare-texts")


def test_modules_of_other_names_and_missing_heads_are_said(beside: Any) -> None:
    tab = beside(source(TEXT, 1), source(TEXT, 2, heads=2, names=("h.0", "h.1")))
    told = "the other recording has no layers.0; h.0 is at the same place"
    assert told in tab.locator(".fv-differs").inner_text()
    tab.keyboard.press(".")
    tab.keyboard.press(".")  # head 2, which the other has not
    settled(tab)
    assert "the other has no such head" in tab.locator(".fv-differs").inner_text()
    assert not tab.locator(".fv-three").is_visible()
    assert [row[1:] for row in cells(tab, ".fv-ranking") if row[0].endswith("head 2")] == [["none there"] * 2] * 2
