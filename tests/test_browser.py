"""The page in a real Chromium: what a reader does with mouse and keyboard, and that nothing leaves the machine.

Set FOVEATE_CHROMIUM to a browser, or have `chromium` on the PATH; FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import foveate as fv
from foveate.apps.builtin import BuiltinModel
from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.views.source import Source
from foveate.views.words import Tokens, from_words
from pages import CHROMIUM, PATIENCE, READY, WordModel, alerted, lines, open_page, random_source, settled, word

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]

SENTENCE = "The cat sat on the mat because it was tired."
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def cat() -> Iterator[Page]:
    model = BuiltinModel()
    workspace = Workspace(model)
    workspace.add(model.run(SENTENCE, None, lambda progress, message: None))
    with Page(workspace, port=0) as page:
        yield page


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png")


# the main job


def test_it_looks_at_cat(tab: Any, cat: Page) -> None:
    open_page(tab, cat.url)
    assert "token" not in tab.evaluate("location.href")
    assert "it → cat" in tab.locator("h1").inner_text()
    word(tab, "it").click()
    settled(tab)
    found = lines(tab)
    thickest = max(found, key=lambda line: line["width"])
    words = SENTENCE.replace(".", " .").split()
    assert words[thickest["from"]] == "it"
    assert words[thickest["to"]] == "cat"
    assert thickest == max(found, key=lambda line: line["weight"])
    assert thickest["opacity"] == max(line["opacity"] for line in found)
    keep_picture(tab, "light-10")


def test_a_changed_word_changes_the_answer(tab: Any, cat: Page) -> None:
    open_page(tab, cat.url)
    tab.get_by_label("Text", exact=True).fill(SENTENCE.replace("tired", "dirty"))
    tab.get_by_role("button", name="Run").click()
    tab.locator("h1").filter(has_text="it → mat").wait_for()


def test_all_heads_have_colours_of_their_own(tab: Any, cat: Page) -> None:
    open_page(tab, cat.url)
    word(tab, "it").click()
    settled(tab)
    toggle = tab.get_by_role("button", name="All heads")
    assert toggle.get_attribute("aria-pressed") == "false"
    assert len({line["head"] for line in lines(tab)}) == 1
    toggle.click()
    settled(tab)
    assert toggle.get_attribute("aria-pressed") == "true"
    heads = cat.workspace.source(cat.workspace.documents()[0]["id"]).document().calls[0].heads
    found = lines(tab)
    assert {line["head"] for line in found} == set(range(heads))
    assert len({line["color"] for line in found}) == heads
    toggle.click()
    settled(tab)
    assert len({line["head"] for line in lines(tab)}) == 1


def test_dark_and_light(tab: Any, cat: Page) -> None:
    open_page(tab, cat.url)
    colour = "getComputedStyle(document.querySelector('#foveate')).backgroundColor"
    light = tab.evaluate(colour)
    tab.get_by_role("button", name="Dark").click()
    word(tab, "it").click()
    settled(tab)
    assert tab.evaluate(colour) != light
    keep_picture(tab, "dark-10")
    tab.get_by_role("button", name="Light").click()
    settled(tab)
    assert tab.evaluate(colour) == light


# every number is the weight


WORDS = ["one", "two", "three", "four", "five", "six"]


@pytest.mark.parametrize(
    ("label", "direction", "side"), [("Looks at", "reads", "query"), ("Looked at by", "read_by", "key")]
)
def test_lines_carry_the_exact_weights(tab: Any, serve: Any, label: str, direction: Any, side: str) -> None:
    source = random_source(WORDS)
    open_page(tab, serve(source).url)
    choice = tab.get_by_role("radiogroup", name="Direction").get_by_role("radio", name=label, exact=True)
    choice.click()
    settled(tab)
    assert choice.get_attribute("aria-checked") == "true"
    tab.locator('[role=gridcell][data-layer="1"][data-head="2"]').click()
    word(tab, "three", side).click()
    settled(tab)
    row = source.row(1, 0, 2, direction, "token")[2]
    found = {line["to" if line["from"] == 2 else "from"]: line["weight"] for line in lines(tab)}
    assert len(found) == len(WORDS)
    assert {line["head"] for line in lines(tab)} == {2}
    for other, weight in found.items():
        assert weight == pytest.approx(float(row[other]), rel=1e-4)


def test_hovering_shows_numbers_and_a_click_keeps_them(tab: Any, serve: Any) -> None:
    source = random_source(WORDS)
    open_page(tab, serve(source).url)
    word(tab, "two").hover()
    settled(tab)
    figures = tab.locator(".fv-figure").all_text_contents()
    row = source.row(0, 0, 1, "reads", "token")[0]
    assert f"{float(row.max()):.2f}" in figures
    word(tab, "two").click()
    word(tab, "five").hover()
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {1}
    tab.keyboard.press("Escape")
    word(tab, "one").hover()
    word(tab, "five").hover()
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {4}


def test_a_page_without_a_focus_opens_at_a_word(tab: Any, serve: Any) -> None:
    source = random_source(WORDS, title="random")
    open_page(tab, serve(source).url)
    assert {line["from"] for line in lines(tab)} == {len(WORDS) // 2}
    assert tab.get_by_text("random", exact=True).locator("visible=true").count() == 1  # title and model are one
    word(tab, "one").hover()
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {0}
    tall = tab.get_by_label("Mechanism", exact=True).bounding_box()["height"]
    tab.mouse.move(1, 1)
    tab.reload()
    tab.wait_for_selector(READY)
    tab.keyboard.press("Escape")
    settled(tab)
    assert lines(tab) == []
    assert tab.locator("path.fv-web").count() > 0
    tab.wait_for_selector(".fv-mech.fv-unused")
    assert tab.get_by_label("Mechanism", exact=True).bounding_box()["height"] < tall / 2


def test_many_words_in_columns_ask_for_no_picture_of_all_lines(tab: Any, serve: Any) -> None:
    open_page(tab, serve(random_source([f"w{i}" for i in range(2500)], layers=1, heads=1)).url)
    tab.get_by_role("radio", name="Columns").click()
    tab.keyboard.press("Escape")
    settled(tab)
    assert tab.get_by_role("alert").locator("visible=true").count() == 0
    assert tab.locator("path.fv-web").count() == 0


def test_the_map_tells_the_weight_of_the_head_that_is_shown(tab: Any, serve: Any) -> None:
    """Also in a row that was asked for while another head was shown."""
    source = random_source(WORDS)
    open_page(tab, serve(source).url)
    word(tab, "two").click()
    for head in (0, 1):
        tab.locator(f'[role=gridcell][data-layer="0"][data-head="{head}"]').click()
        settled(tab)
        box = tab.locator("canvas.fv-map").bounding_box()
        tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.75 * box["height"])
        settled(tab)
        row, column, weight = re.findall(r"“(\w+)” → “(\w+)”  (\d\.\d{4})$", tab.locator(".fv-readout").inner_text())[0]
        assert row != "two"
        exact = source.row(0, 0, WORDS.index(row), "reads", "token")[head, WORDS.index(column)]
        assert float(weight) == pytest.approx(float(exact), abs=1e-4)
        tab.mouse.move(1, 1)


def test_the_mechanism_shows_how_the_weight_came_about(tab: Any, serve: Any) -> None:
    source = random_source(WORDS)
    open_page(tab, serve(source).url)
    word(tab, "two").click()
    settled(tab)
    other = int(source.row(0, 0, 1, "reads", "token")[0].argmax())
    pair = source.pair(0, 0, 0, 1, other)
    text = tab.get_by_label("Mechanism", exact=True).inner_text().replace("−", "-")
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    for name in ("score", "scale", "scaled", "logsumexp", "weight"):
        assert min(abs(abs(pair[name]) - abs(number)) for number in numbers) < 1e-3, name


def test_the_mechanism_never_shows_another_heads_numbers(tab: Any, serve: Any) -> None:
    source, go = random_source(WORDS), threading.Event()
    open_page(tab, serve(source).url)
    word(tab, "two").click()
    settled(tab)
    mechanism, pair = tab.get_by_label("Mechanism", exact=True), source.pair
    before = mechanism.inner_text()
    source.pair = lambda **at: go.wait(PATIENCE) and pair(**at)  # type: ignore[method-assign, return-value]
    tab.locator('[role=gridcell][data-layer="0"][data-head="1"]').click()
    tab.locator('[role=gridcell][data-head="1"][aria-selected=true]').wait_for()
    assert mechanism.inner_text() == before
    go.set()
    settled(tab)
    other = int(source.row(0, 0, 1, "reads", "token")[1].argmax())
    assert f"{abs(pair(0, 0, 1, 1, other)['score']):.4f}" in mechanism.inner_text()


def test_the_mechanism_of_another_score_and_normaliser_is_told_in_words(tab: Any, serve: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 1, 2, len(WORDS), 4, generator=draw)
    torch.manual_seed(1)
    score = fv.scores.Additive(4, 4, 8)
    weights = fv.AttentionMap(query, key, value=value, score=score, normalizer="sparsemax")
    source = Source({"attn": weights}, from_words(WORDS))
    open_page(tab, serve(source).url)
    word(tab, "two").click()
    settled(tab)
    other = int(source.row(0, 0, 1, "reads", "token")[0].argmax())
    pair = source.pair(0, 0, 0, 1, other)
    text = tab.get_by_label("Mechanism", exact=True).inner_text().replace("−", "-")
    assert "additive" in text and "no sum of query × key" in text and "sparsemax; this row's threshold" in text
    assert "add up to" not in text and "exp" not in text and "soft cap" not in text
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    for name in ("score", "statistic", "weight"):
        assert min(abs(pair[name] - number) for number in numbers) < 1e-3, name


def test_special_tokens_and_parts_of_words_can_be_hidden(tab: Any, serve: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, 2, 5, 4, generator=draw)
    tokens = Tokens(("[CLS]", "play", "ing", "games", "[SEP]"), (0, 1, 1, 2, 3), (True, False, False, False, True))
    source = Source({"attn": fv.AttentionMap(query, key)}, tokens)
    open_page(tab, serve(source).url)
    whole, special = tab.get_by_label("Whole words"), tab.get_by_label("Special tokens")
    special.check()
    whole.uncheck()
    settled(tab)
    shown = tab.locator('[data-token][data-side="query"]')
    assert shown.all_inner_texts() == ["[CLS]", "play", "ing", "games", "[SEP]"]
    special.uncheck()
    settled(tab)
    assert shown.all_inner_texts() == ["play", "ing", "games"]
    special.check()
    whole.check()
    settled(tab)
    assert shown.all_inner_texts() == ["[CLS]", "playing", "games", "[SEP]"]
    word(tab, "playing").click()
    settled(tab)
    expected = source.row(0, 0, 1, "reads", "word")[0]
    for line in lines(tab):
        assert line["weight"] == pytest.approx(float(expected[line["to"]]), rel=1e-4)
    assert sum(line["weight"] for line in lines(tab)) == pytest.approx(1, abs=1e-3)


def test_cross_attention_shows_two_texts(tab: Any, serve: Any) -> None:
    draw = torch.Generator().manual_seed(2)
    query, key = torch.randn(1, 2, 3, 4, generator=draw), torch.randn(1, 2, 4, 4, generator=draw)
    english, french = from_words(["How", "are", "you", "?"]), from_words(["Comment", "allez", "vous"])
    source = Source({"cross_attn": fv.AttentionMap(query, key)}, english, french)
    open_page(tab, serve(source).url)
    word(tab, "vous").click()
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {2}
    assert len(lines(tab)) == 4
    assert word(tab, "you", "key").count() == 1
    keep_picture(tab, "cross")


# hostile text


def test_a_hostile_token_stays_text(tab: Any, serve: Any) -> None:
    open_page(tab, serve(random_source([HOSTILE, "cat"], title=HOSTILE), model=WordModel()).url)
    word(tab, HOSTILE).click()
    tab.get_by_label("Text", exact=True).fill(f"cat {HOSTILE.replace(' ', chr(160))} <b>dog</b>")
    tab.get_by_role("button", name="Run").click()
    word(tab, "<b>dog</b>").click()
    settled(tab)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img, #foveate :text-is('dog')").count() == 0


def test_an_endless_token_does_not_hold_the_page_up(tab: Any, serve: Any) -> None:
    open_page(tab, serve(random_source(["cat", "a" * 100_000])).url)
    word(tab, "cat").click()
    settled(tab)
    assert tab.locator(".fv-readout").inner_text().startswith("“cat” → ")


def test_a_hostile_token_stays_text_in_a_file(tab: Any, tmp_path: Path) -> None:
    words = [HOSTILE, "<!--", "cat"]
    path = fv.export_html(random_source(words).maps[0], tmp_path / "page.html", tokens=words, title=HOSTILE)
    open_page(tab, path.as_uri())
    word(tab, HOSTILE).click()
    settled(tab)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0
    assert len(lines(tab)) == 3


# keyboard and screen reader


def test_the_keyboard_is_enough(tab: Any, serve: Any) -> None:
    source = random_source(WORDS)
    open_page(tab, serve(source, model=WordModel()).url)
    press = tab.keyboard.press

    def focus(test: str) -> None:
        for _ in range(60):
            if tab.evaluate(f"document.activeElement.matches({test!r})"):
                return
            press("Tab")
        raise AssertionError(f"the Tab key never reaches {test}")

    focus("textarea")
    tab.keyboard.type("seven eight nine")
    press("Control+a")
    tab.keyboard.type("seven eight nine")
    focus("button[type=submit]")
    press("Enter")
    word(tab, "eight").wait_for()
    settled(tab)
    focus("[role=listbox]")
    press("Home")
    press("ArrowRight")
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {1}
    press("ArrowDown")
    settled(tab)
    assert {line["from"] for line in lines(tab)} == {2}
    press("h")
    settled(tab)
    assert len({line["head"] for line in lines(tab)}) == 3
    press("h")
    press("Shift+Tab")
    focus("[role=gridcell]")
    press("ArrowRight")
    press("Enter")
    settled(tab)
    assert {line["head"] for line in lines(tab)} == {1}
    press("Escape")
    settled(tab)
    assert lines(tab) == []


def test_everything_that_can_be_reached_has_a_name(tab: Any, serve: Any) -> None:
    open_page(tab, serve(random_source(WORDS), model=WordModel()).url)
    word(tab, "two").click()
    settled(tab)
    nameless = tab.evaluate(
        """() => Array.from(document.querySelectorAll(
            'button, textarea, select, input, [tabindex="0"], [role=grid], [role=radiogroup], [role=listbox], canvas'))
            .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
            .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.innerText?.trim()
                || e.labels?.length || e.title))
            .map(e => e.outerHTML.slice(0, 100))"""
    )
    assert nameless == []
    for role, name in [("radiogroup", "Direction"), ("grid", "Layers and heads")]:
        assert tab.get_by_role(role, name=name).count() == 1
    assert tab.locator('canvas[aria-label^="Heatmap"]').count() == 1
    assert tab.evaluate("document.documentElement.lang") == "en"


# runs, progress and errors


def test_errors_appear_in_words(tab: Any, serve: Any) -> None:
    open_page(tab, serve(random_source(WORDS), model=WordModel()).url)
    tab.get_by_label("Text", exact=True).fill("word " * 65)
    tab.get_by_role("button", name="Run").click()
    alerted(tab, "takes at most 64")
    tab.get_by_label("Text", exact=True).fill("crash")
    tab.get_by_role("button", name="Run").click()
    alerted(tab, "the model broke")


def test_loading_shows_progress_then_the_document(tab: Any) -> None:
    workspace, go = Workspace(WordModel()), threading.Event()

    def work(report: Any) -> Source:
        report(0.4, "Loading the weights")
        go.wait(PATIENCE)
        return random_source(WORDS)

    workspace.first = workspace.start(work).id
    with Page(workspace, port=0) as page:
        tab.goto(page.url)
        bar = tab.get_by_role("progressbar")
        tab.wait_for_selector("[role=progressbar][aria-valuenow='40']")
        assert bar.get_attribute("aria-valuetext") == "Loading the weights"
        go.set()
        word(tab, "three").wait_for()
        tab.wait_for_selector(READY)
        tab.goto("about:blank")


def test_a_model_that_cannot_load_says_why(tab: Any) -> None:
    workspace = Workspace(WordModel())

    def work(report: Any) -> Source:
        raise ValueError("the weights are damaged")

    workspace.first = workspace.start(work).id
    with Page(workspace, port=0) as page:
        tab.goto(page.url)
        alerted(tab, "the weights are damaged")
        tab.goto("about:blank")


# files


def test_a_file_works_offline(tab: Any, tmp_path: Path) -> None:
    source = BuiltinModel().run(SENTENCE, None, lambda progress, message: None)
    from foveate.apps import export

    path = export.write(source, tmp_path / "page.html")
    tab.context.set_offline(True)
    open_page(tab, path.as_uri())
    word(tab, "it").click()
    settled(tab)
    focus = source.document().focus
    assert focus is not None
    row = source.row(focus.call, 0, focus.token, "reads", "word")[focus.head or 0]
    found = {line["to"]: line["weight"] for line in lines(tab)}
    assert max(found, key=lambda other: found[other]) == SENTENCE.split().index("cat")
    for other, weight in found.items():
        assert weight == pytest.approx(float(row[other]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("button", "start"), [("Save SVG", b"<svg"), ("Save PNG", b"\x89PNG")])
def test_pictures_can_be_saved(tab: Any, serve: Any, tmp_path: Path, button: str, start: bytes) -> None:
    open_page(tab, serve(random_source(WORDS)).url)
    word(tab, "two").click()
    settled(tab)
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name=button).click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    data = path.read_bytes()
    assert start in data[:200]
    if start == b"<svg":
        assert data.count(b"<path") >= len(WORDS)
        assert b"three" in data
        assert b"<script" not in data


def test_a_picture_of_control_characters_is_still_xml(tab: Any, serve: Any, tmp_path: Path) -> None:
    open_page(tab, serve(random_source(["a\x00b", "\x1b[31m", "\ud800", "\uffff", "\u202e"])).url)
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="Save SVG").click()
    waiting.value.save_as(tmp_path / "a.svg")
    texts = ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")
    assert {"a\ufffdb", "\ufffd[31m", "\u202e"} <= {text.text for text in texts}


# size


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_any_length_stays_quick_and_small(tab: Any, serve: Any, count: int) -> None:
    words = [SENTENCE.split()[i % 10] for i in range(count)]
    source = random_source(words, layers=2, heads=2)
    open_page(tab, serve(source).url)
    word(tab, "cat").click()
    settled(tab)
    assert lines(tab)
    assert tab.evaluate("document.querySelectorAll('*').length") < 5000
    keep_picture(tab, f"words-{count}")
    tab.get_by_role("button", name="Dark").click()
    settled(tab)
    keep_picture(tab, f"words-{count}-dark")
