"""A translation's page in a real Chromium: its lines, its steps, its numbers, alike over HTTP and in a file.

FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from foveate.apps import export
from foveate.apps.translation import TranslationModel
from foveate.tasks.translation import Translator
from foveate.views.document import Alternative, Beside, Decoding, Step
from foveate.views.source import Source
from pages import CHROMIUM, READY, lines, open_page, random_source, settled, stop_clock, word
from translators import SUBWORDS, TARGET, TEXT, forced, quiet, shown, translator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
WORDS, SOURCE_WORDS = TARGET.split(), TEXT.split()
STEPS = len(SUBWORDS.encode(TARGET)) + 1
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def rnn() -> Translator:
    return translator()


@pytest.fixture(scope="module")
def source(rnn: Translator) -> Source:
    return shown(rnn, fixed=translator(2, attention="none"))


@pytest.fixture
def page(tab: Any, serve: Any, source: Source) -> Any:
    """The page of the translation, over HTTP."""
    return open_page(tab, serve(source).url)


@pytest.fixture
def file(tab: Any, source: Source, tmp_path: Path) -> Any:
    """The same from a file, without a network."""
    tab.context.set_offline(True)
    return open_page(tab, export.write(source, tmp_path / "page.html").as_uri())


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def written(tab: Any) -> list[str]:
    """The words of the target that stand there."""
    return list(tab.locator('[data-side="query"]:visible').all_inner_texts())


def step(tab: Any, number: int, of: int = STEPS) -> None:
    settled(tab)
    assert tab.locator(".fv-where").inner_text() == f"Step {number} of {of}"


# lines


def check_alignment(tab: Any, translator: Translator) -> None:
    """The thickest line of each target word goes to the source word that it read most."""
    tab.get_by_label("Special tokens").uncheck()
    expected = forced(translator).word_weights(translator.reading)
    assert len(set(expected.argmax(-1).tolist())) > 1
    for name, row in zip(WORDS, expected, strict=True):
        word(tab, name).click()
        settled(tab)
        found = lines(tab)
        assert {line["from"] for line in found} == {WORDS.index(name)}
        thickest = max(found, key=lambda line: line["width"])
        assert SOURCE_WORDS[thickest["to"]] == SOURCE_WORDS[int(row.argmax())]
        assert thickest["opacity"] == max(line["opacity"] for line in found)
    tab.get_by_label("Special tokens").check()


def test_the_thickest_line_of_a_target_word_goes_to_its_source_word(page: Any, rnn: Translator) -> None:
    check_alignment(page, rnn)


def test_a_source_word_shows_who_read_it(page: Any, source: Source) -> None:
    word(page, "dogs", "key").click()
    settled(page)
    column = source.row(0, 0, SOURCE_WORDS.index("dogs"), "read_by", "word")[0]
    found = {line["to"]: line["weight"] for line in lines(page)}
    assert found
    for unit, weight in found.items():
        assert weight == pytest.approx(float(column[unit]), rel=1e-3)
    assert max(found, key=lambda unit: found[unit]) == int(column.argmax())


def test_without_attention_the_answer_stands_beside(page: Any, source: Source) -> None:
    (beside,) = source.document().beside
    line = page.locator(".fv-beside")
    assert line.inner_text() == f"{beside.label}: {beside.text}"
    assert "one fixed summary" in beside.label
    assert page.locator("h1").inner_text() == TARGET
    keep_picture(page, "translation")


# steps


def check_steps(page: Any, source: Source) -> None:
    """The keyboard walks them; what is written, chosen and drawn belongs to the step."""
    decoding = source.document().decoding
    assert decoding is not None
    steps = decoding.steps[0]
    tokens = source.document().sequences[0].side("target")
    assert written(page) == [*WORDS, "</s>"]
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    step(page, 4)
    current = steps[3]
    so_far = "".join(tokens.text[1 : current.token + 1])
    assert "".join(written(page)) == so_far
    assert page.locator('[data-side="query"][aria-selected=true]').inner_text() == written(page)[-1]
    row = source.row(0, 0, 3, "reads", "token")[0]
    words = source.axes(0, 0)[1].sum_words(row)
    for line in lines(page):
        assert line["weight"] == pytest.approx(float(words[line["to"]]), rel=1e-3)
    assert len(lines(page)) == len(words)
    page.get_by_role("listbox", name="Words that look").focus()
    page.keyboard.press("ArrowLeft")
    step(page, 3)
    page.keyboard.press("End")
    step(page, STEPS)
    assert len(steps) == STEPS
    assert written(page)[-1] == "</s>"
    page.keyboard.press("Escape")
    settled(page)
    assert written(page) == [*WORDS, "</s>"]
    assert page.get_by_label("This step").locator("visible=true").count() == 0


def test_the_keyboard_walks_the_steps(page: Any, source: Source) -> None:
    check_steps(page, source)


def test_a_file_tells_the_same_offline(file: Any, rnn: Translator, source: Source) -> None:
    check_alignment(file, rnn)
    check_steps(file, source)
    check_panel(file, source)


def test_a_step_tells_its_weights_its_context_and_its_word(page: Any, source: Source) -> None:
    check_panel(page, source)
    keep_picture(page, "translation-step")


def check_panel(page: Any, source: Source) -> None:
    decoding = source.document().decoding
    assert decoding is not None
    page.get_by_role("button", name="Next step").click()
    page.get_by_role("button", name="Next step").click()
    step(page, 2)
    panel = page.get_by_label("This step")
    assert panel.get_by_text(re.compile("cosine")).count() == 1
    bars = panel.get_by_label("Weights of this step").locator("li")
    row = source.axes(0, 0)[1].sum_words(source.row(0, 0, 1, "reads", "token"))[0]
    shown_bars = [text.split("\n") for text in bars.all_inner_texts()]
    assert [name for name, *_ in shown_bars] == [*SOURCE_WORDS, "</s>"]
    for (_, number), weight in zip(shown_bars, row.tolist(), strict=True):
        assert float(number.lstrip("<")) == pytest.approx(weight, abs=6e-3)
    one = decoding.steps[0][1]
    best = panel.get_by_label("Most probable words").locator("li")
    assert [text.split("\n")[0] for text in best.all_inner_texts()] == [other.text for other in one.alternatives]
    own = best.nth(one.chosen)
    assert "fv-mine" in own.get_attribute("class")
    percent = float(own.inner_text().split("\n")[1].removesuffix(" %").lstrip("<"))
    assert percent == pytest.approx(100 * one.alternatives[one.chosen].probability, abs=0.51)
    label = panel.locator("canvas").first.get_attribute("aria-label")
    context = source.pair(0, 0, 0, 1, 0)["output"]
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", label.replace("−", "-"))]
    assert numbers[0] == len(context)
    assert numbers[1:] == pytest.approx([min(context), max(context)], abs=6e-3)


def test_contexts_differ_from_step_to_step(page: Any) -> None:
    page.get_by_role("button", name="Next step").click()
    panel = page.get_by_label("This step")
    seen = set()
    for number in range(1, 5):
        step(page, number)
        assert (panel.get_by_text("change since the step before").locator("visible=true").count() == 1) == (number > 1)
        seen.add(panel.locator("canvas").first.get_attribute("aria-label"))
        page.get_by_role("button", name="Next step").click()
    assert len(seen) == 4


def test_a_word_of_several_tokens_is_written_token_by_token(page: Any, source: Source) -> None:
    tokens = source.document().sequences[0].side("target")
    first = next(i for i in range(1, len(tokens)) if tokens.word[i] == tokens.word[i + 1])
    number = tokens.word[first] - 1
    for _ in range(first):
        page.get_by_role("button", name="Next step").click()
    step(page, first)
    assert written(page)[number] == tokens.text[first] and WORDS[number].startswith(tokens.text[first])
    assert tokens.text[first] != WORDS[number]
    page.get_by_label("Whole words").uncheck()
    step(page, first)
    assert written(page) == list(tokens.text[1 : first + 1])
    word(page, WORDS[0]).click()
    step(page, 1)


def test_ends_are_special_in_both_rows_and_in_the_steps(page: Any) -> None:
    assert page.locator('[data-token]:visible:text-is("</s>")').count() == 2
    page.get_by_label("Special tokens").uncheck()
    settled(page)
    assert page.locator('[data-token]:visible:text-is("</s>")').count() == 0
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    page.keyboard.press("End")
    step(page, STEPS - 1, STEPS - 1)
    assert written(page) == WORDS
    assert page.get_by_role("button", name="Next step").is_disabled()


def test_a_source_word_can_be_held_while_a_step_is_shown(page: Any, source: Source) -> None:
    tokens = source.document().sequences[0].side("target")
    second = next(i for i in range(2, len(tokens)) if tokens.word[i] == tokens.word[i - 1])  # of its word's tokens
    for _ in range(second):
        page.get_by_role("button", name="Next step").click()
    step(page, second)
    word(page, "park", "key").click()
    settled(page)
    exact = source.pair(0, 0, 0, second - 1, source.axes(0, 0)[1].starts[SOURCE_WORDS.index("park")])
    text = page.get_by_label("Mechanism", exact=True).inner_text().replace("−", "-")
    assert "looks at “park”" in text
    for name in ("score", "logsumexp"):
        assert f"{abs(exact[name]):.4f}" in text, name


def test_play_goes_on_by_itself_and_stops_at_a_touch(page: Any) -> None:
    stop_clock(page)
    page.get_by_role("button", name="Play").click()
    step(page, 1)
    page.clock.run_for(1500)
    step(page, 2)
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(5000)
    step(page, 2)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Next step").click()
    page.clock.run_for(5000)
    step(page, 3)  # the reader went on
    assert page.get_by_role("button", name="Play").count() == 1


def test_steps_are_told_to_those_who_listen(page: Any) -> None:
    slider = page.get_by_role("slider", name="Step")
    assert slider.get_attribute("aria-valuetext") == f"{STEPS} steps"
    page.get_by_role("button", name="Next step").click()
    spoken = page.locator("[aria-live=polite]").filter(has_text=f"Step 1 of {STEPS}: “deux”")
    spoken.filter(has_text="looks at").wait_for(state="attached")
    settled(page)
    assert slider.get_attribute("aria-valuetext").startswith(f"Step 1 of {STEPS}: “deux”, ")
    nameless = page.evaluate(
        """() => Array.from(document.querySelectorAll('button, input, canvas, ol, [role=group]'))
            .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
            .filter(e => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length || e.title))
            .map(e => e.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_bars_move_only_for_those_who_like_it(tab: Any, serve: Any, source: Source, motion: Any) -> None:
    tab.emulate_media(reduced_motion=motion)
    open_page(tab, serve(source).url)
    tab.get_by_role("button", name="Next step").click()
    settled(tab)
    bar = tab.get_by_label("Weights of this step").locator(".fv-bar").first
    moves = bar.evaluate("bar => getComputedStyle(bar).transitionDuration")
    assert (moves not in ("0s", "")) == (motion == "no-preference")


def test_a_step_survives_in_the_address(tab: Any, serve: Any, source: Source) -> None:
    open_page(tab, serve(source).url)
    for _ in range(3):
        tab.get_by_role("button", name="Next step").click()
    step(tab, 3)
    tab.reload()
    tab.wait_for_selector(READY)
    step(tab, 3)
    assert len(lines(tab)) == len(SOURCE_WORDS) + 1


def test_steps_begin_where_words_were_written(tab: Any, serve: Any) -> None:
    """A Transformer has attention of other kinds, and an alignment read one step later."""
    source = shown(translator(arch="transformer"))
    open_page(tab, serve(source).url)
    tab.get_by_role("radio", name="Encoder").click()
    tab.get_by_role("button", name="Next step").click()
    step(tab, 1)
    assert tab.get_by_role("radio", name="Cross").get_attribute("aria-checked") == "true"
    tab.get_by_role("radio", name="Decoder").click()
    tab.get_by_role("button", name="Next step").click()
    step(tab, 2)
    keys = tab.locator('[data-side="key"]:visible').all_inner_texts()
    assert keys == ["<s>", "deux"]  # what was written before
    tab.get_by_role("radio", name="Encoder").click()
    settled(tab)
    assert tab.get_by_label("This step").locator("visible=true").count() == 0


def test_a_new_text_is_translated_and_a_given_one_read(tab: Any, serve: Any, rnn: Translator) -> None:
    model, own = TranslationModel(rnn), rnn.translate(["the cat sat on the mat"])[0].text
    open_page(tab, serve(model.run(TEXT, TARGET, quiet), model=model).url)
    tab.get_by_role("button", name="Next step").click()
    tab.get_by_label("Text", exact=True).fill("the cat sat on the mat")
    tab.get_by_label("Target text").fill("le chat")
    tab.get_by_role("button", name="Run").click()
    word(tab, "chat").wait_for()
    settled(tab)
    assert written(tab) == ["le", "chat", "</s>"]
    assert tab.locator("h1").inner_text() == "le chat"
    tab.get_by_label("Target text").fill("")
    tab.get_by_role("button", name="Run").click()
    tab.locator("h1").filter(has_text=re.compile(f"^{re.escape(own)}$")).wait_for()


# numbers in the map

PRINTED = """
    window.printed = [];
    const write = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        const at = this.getTransform().transformPoint(new DOMPoint(x, y));
        const is = { right: 'row', left: 'column', center: 'number' }[this.textAlign];
        if (this.canvas.classList.contains('fv-map')) window.printed.push([is, text, at.x, at.y]);
        return write.apply(this, arguments);
    };
    const clear = CanvasRenderingContext2D.prototype.clearRect;
    CanvasRenderingContext2D.prototype.clearRect = function () {
        if (this.canvas.classList.contains('fv-map')) window.printed = [];
        return clear.apply(this, arguments);
    };
"""


def cells(tab: Any) -> tuple[dict[tuple[int, int], str], list[str], list[str]]:
    """The numbers of the map by cell, found by the words at its sides, and these words. A pixel is a pixel here."""
    found: dict[str, list[Any]] = {"row": [], "column": [], "number": []}
    for kind, text, x, y in tab.evaluate("window.printed"):
        found[kind].append((text, x, y))
    rows, columns = [y for _, _, y in found["row"]], [x for _, x, _ in found["column"]]
    numbers = {}
    for text, x, y in found["number"]:  # each stands in the middle of its cell, as the words at its sides do
        i, j = (min(range(len(line)), key=lambda n: abs(line[n] - at)) for line, at in ((rows, y), (columns, x)))
        assert abs(columns[j] - x) < 2 and abs(rows[i] - y) < 2
        numbers[i, j] = text
    return numbers, [text for text, *_ in found["row"]], [text for text, *_ in found["column"]]


def compare(printed: dict[tuple[int, int], str], weights: Any) -> None:
    for i, row in enumerate(weights):
        for j, weight in enumerate(row):
            if weight >= 0.005:
                assert abs(float(printed.pop((i, j))) - weight) <= 0.00501, (i, j)
    assert printed == {}


@pytest.mark.parametrize("level", ["word", "token"])
def test_numbers_in_cells_are_the_weights(tab: Any, serve: Any, source: Source, level: Any) -> None:
    tab.add_init_script(PRINTED)
    open_page(tab, serve(source).url)
    tab.get_by_label("Whole words").set_checked(level == "word")
    settled(tab)
    rows, _ = source.axes(0, 0)
    weights = [source.row(0, 0, i, "reads", level)[0].tolist() for i in range(rows.size(level))]
    tab.locator("canvas.fv-map").focus()
    tab.keyboard.press("0")
    settled(tab)
    compare(cells(tab)[0], weights)


def test_any_map_has_numbers_of_the_head_that_is_shown(tab: Any, serve: Any) -> None:
    words = ["one", "two", "three", "four", "five"]
    source = random_source(words)
    tab.add_init_script(PRINTED)
    open_page(tab, serve(source).url)
    for head in (0, 2):
        tab.locator(f'[role=gridcell][data-layer="1"][data-head="{head}"]').click()
        settled(tab)
        printed, rows, columns = cells(tab)
        assert rows == columns == words
        compare(printed, [source.row(1, 0, i, "reads", "token")[head].tolist() for i in range(5)])


def test_rows_that_are_not_computed_yet_have_no_numbers(tab: Any, serve: Any, source: Source) -> None:
    tab.add_init_script(PRINTED)
    open_page(tab, serve(source).url)
    tab.get_by_label("Whole words").uncheck()
    tab.get_by_role("button", name="Next step").click()
    tab.get_by_role("button", name="Next step").click()
    step(tab, 2)
    printed, rows, _ = cells(tab)
    compare(printed, [source.row(0, 0, i, "reads", "token")[0].tolist() for i in range(2)])
    assert "".join(rows) == "".join(rows[:2])  # the others have no name yet


# hostile text, and pictures


@pytest.mark.parametrize("where", ["server", "file"])
def test_hostile_text_stays_text(tab: Any, serve: Any, rnn: Translator, tmp_path: Path, where: str) -> None:
    source = shown(rnn, f"dogs {HOSTILE} </s>", f"chiens {HOSTILE} </s>")
    decoding = source.document().decoding
    assert decoding is not None
    steps = tuple(Step(one.token, (Alternative(HOSTILE, 0.5),)) for one in decoding.steps[0])
    beside = (Beside(HOSTILE, HOSTILE),)
    source = source.with_answer(HOSTILE, None, decoding=Decoding((0,), (steps,)), beside=beside)
    open_page(tab, serve(source).url if where == "server" else export.write(source, tmp_path / "a.html").as_uri())
    for _ in range(3):
        tab.get_by_role("button", name="Next step").click()
    settled(tab)
    assert tab.get_by_label("Most probable words").inner_text().startswith(HOSTILE[:10])
    assert tab.locator(".fv-beside").inner_text() == f"{HOSTILE}: {HOSTILE}"
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0
    assert tab.locator('[data-token].fv-special:text-is("</s>")').count() <= 2  # text that reads so is no end


def test_a_picture_of_a_step_holds_what_is_written(tab: Any, serve: Any, source: Source, tmp_path: Path) -> None:
    open_page(tab, serve(source).url)
    tab.get_by_role("button", name="Next step").click()
    step(tab, 1)
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="Save SVG").click()
    waiting.value.save_as(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">deux<" in text and ">park<" in text and ">parc<" not in text
    assert len(re.findall('<text[^>]*font-size="16"', text)) == len(SOURCE_WORDS) + 2  # with the end, and nothing else
