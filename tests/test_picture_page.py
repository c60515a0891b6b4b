"""Pictures in the page, in a real Chromium: weights over them, parts that act as words do, files.

FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import foveate as fv
from foveate.apps import viewing
from foveate.views.source import Source
from pages import CHROMIUM, address, open_page, settled, word
from scenes import looking, mixed, photograph, reading, scene

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
GREY = np.full((96, 96, 3), 128, np.uint8)


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png")


def shows(tab: Any, row: Any, first: int = 0, parts: int | None = None) -> None:
    """The overlay is strongest where a row of weights is, and says how strong."""
    settled(tab)
    among = row[first : None if parts is None else first + parts]
    strongest = tab.locator(".fv-picture").get_attribute("data-strongest")
    assert strongest == str(first + int(among.argmax()))
    label = tab.locator('[role="listbox"]:has(.fv-picture)').get_attribute("aria-label")
    assert float(label.split()[-1]) == pytest.approx(float(among.max()), abs=6e-5)


def part(tab: Any, row: int, column: int, source: Source, press: bool = True) -> None:
    """Point at the middle of a part, rows and columns from 1, and click it."""
    settled(tab)  # what is still drawn may move it
    grid = source.document().sequences[0].picture
    box = tab.locator(".fv-picture").bounding_box()
    at = box["x"] + (column - 0.5) * box["width"] / grid.columns, box["y"] + (row - 0.5) * box["height"] / grid.rows
    (tab.mouse.click if press else tab.mouse.move)(*at)
    settled(tab)


def corners(tab: Any, rows: int, columns: int) -> np.ndarray[Any, Any]:
    """The colour near the upper left corner of every part as it is on the screen, (rows * columns, 3)."""
    found = tab.locator(".fv-picture").evaluate(
        """(canvas, [rows, columns]) => {
            const {width, height} = canvas, copied = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
            copied.drawImage(canvas, 0, 0);
            const {data} = copied.getImageData(0, 0, width, height);
            const at = (r, c) => 4 * (Math.floor((r + 0.12) * height / rows) * width + Math.floor((c + 0.12) * width / columns));
            return Array.from({length: rows * columns}, (_, p) => at(Math.floor(p / columns), p % columns))
                .map(start => Array.from(data.slice(start, start + 3)));
        }""",  # noqa: E501
        [rows, columns],
    )
    return np.array(found, dtype=np.int64)


def test_a_word_colours_the_parts_by_its_weights(tab: Any, serve: Any) -> None:
    source = reading(shown=GREY)
    open_page(tab, serve(source).url)
    for text, at in (("red", 2), ("square", 7)):
        word(tab, text).click()
        weights = source.row(0, 0, at, "reads", "token")[0].numpy()
        shows(tab, weights)
        light = corners(tab, 8, 8).sum(-1)[np.argsort(weights)]
        assert np.all(np.diff(light) <= 3)  # more weight, more ink, but for what bytes round
        assert light.max() - light.min() > 100
    tab.keyboard.press("o")
    settled(tab)
    assert np.array_equal(corners(tab, 8, 8), np.full((64, 3), 128))  # the picture as it is


def test_each_word_has_parts_of_its_own(tab: Any, serve: Any) -> None:
    source = reading()
    open_page(tab, serve(source).url)
    tab.get_by_role("listbox", name="Words that look").focus()
    for at in range(8):
        tab.keyboard.press("Home" if at == 0 else "ArrowRight")
        shows(tab, source.row(0, 0, at, "reads", "token")[0])
    word(tab, "red").click()
    part(tab, 3, 2, source, press=False)
    weight = float(source.row(0, 0, 2, "reads", "token")[0, 2 * 8 + 1])
    tab.locator(f'.fv-part.fv-other[aria-label="row 3, column 2, weight {weight:.4f}"]').wait_for()
    assert tab.locator(".fv-picture-foot .fv-partread").inner_text().split()[-1] == f"{weight:.4f}"
    keep_picture(tab, "picture-words")
    tab.get_by_role("button", name="All heads").click()
    shows(tab, source.row(0, 0, 2, "reads", "token").mean(0))


def test_a_part_is_a_word_clicked_and_by_the_keyboard(tab: Any, serve: Any) -> None:
    source = looking(5, 7, first=1, after=2)
    page = serve(source)

    def row(unit: int, direction: Any = "reads") -> Any:
        return source.row(0, 0, unit, direction, "token")[0]

    open_page(tab, page.url)
    shows(tab, row(0), 1, 35)  # what [CLS] reads
    part(tab, 2, 3, source)
    unit = 1 + 7 + 2
    tab.locator(f'.fv-part.fv-chosen.fv-locked[data-part="{unit}"]').wait_for()
    shows(tab, row(unit), 1, 35)
    tab.get_by_role("radio", name="Looked at by").click()
    shows(tab, row(unit, "read_by"), 1, 35)
    tab.get_by_role("radio", name="Looks at").click()
    part(tab, 2, 3, source)
    moves = ("ArrowDown", unit + 7), ("ArrowRight", unit + 8), ("ArrowUp", unit + 1), ("ArrowUp", 4), ("ArrowUp", 0)
    for key, expected in moves:
        tab.keyboard.press(key)
        tab.locator(f'#fv-query-{expected}[role="option"][aria-selected="true"]').wait_for()
        shows(tab, row(expected), 1, 35)
        held = tab.locator('[role="listbox"]:has(.fv-picture)')
        assert held.get_attribute("aria-activedescendant") == f"fv-query-{expected}"
    word(tab, "[36]").click()
    shows(tab, row(36), 1, 35)
    part(tab, 4, 6, source)
    assert address(tab)["word"] == "27"
    kept = tab.evaluate("location.href")
    tab.goto("about:blank")
    open_page(tab, kept)
    tab.locator('.fv-part.fv-chosen.fv-locked[data-part="27"]').wait_for()


def test_a_model_with_two_sides_shows_the_picture_where_it_is_read(tab: Any, serve: Any) -> None:
    source = mixed()
    kinds = [call.kind for call in source.document().calls]
    open_page(tab, serve(source).url)
    word(tab, "red").click()
    shows(tab, source.row(kinds.index("cross"), 0, 2, "reads", "token")[0], 1, 16)
    tab.get_by_role("radio", name="Decoder").click()
    settled(tab)
    assert tab.locator("path.fv-line").count() > 0
    assert tab.locator(".fv-picture").count() == tab.locator(".fv-picture-foot:visible").count() == 0
    tab.get_by_role("radio", name="Encoder").click()
    part(tab, 1, 2, source)
    shows(tab, source.row(kinds.index("encoder"), 0, 2, "reads", "token")[0], 1, 16)
    assert tab.locator("path.fv-line").count() == 0


def test_an_exported_file_and_saved_pictures(tab: Any, tmp_path: Path) -> None:
    source = reading()
    path = fv.export_html(source, tmp_path / "scene.html")
    open_page(tab, path.as_uri())
    word(tab, "red").click()
    weights = source.row(0, 0, 2, "reads", "token")[0].numpy()
    shows(tab, weights)
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="Save SVG").click()
    drawn = ElementTree.fromstring(Path(waiting.value.path()).read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    (image,) = drawn.iter(f"{space}image")
    assert image.get("href", "").startswith("data:image/png;base64,")
    parts = [float(rect.get("data-weight", "nan")) for rect in drawn.iter(f"{space}rect") if rect.get("data-weight")]
    assert max(parts) == pytest.approx(float(weights.max()), abs=1e-6)
    assert len(parts) > 1
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="Save PNG").click()
    from PIL import Image

    saved = np.asarray(Image.open(waiting.value.path()).convert("RGB"), dtype=np.int64)
    reds = (saved[..., 0] > 190) & (saved[..., 1] < 170) & (saved[..., 2] < 175)  # of the circle, under the veil
    assert reds.sum() > 200


def test_many_parts_cost_no_elements(tab: Any, serve: Any) -> None:
    source = looking(48, 48, first=0, pixels=photograph(96, 96))  # too many for a map whose tiles are made at once
    open_page(tab, serve(source).url)
    part(tab, 30, 11, source)
    shows(tab, source.row(0, 0, 29 * 48 + 10, "reads", "token")[0])
    assert tab.evaluate("document.querySelectorAll('*').length") < 1200
    assert tab.get_by_role("region", name="Passages").count() == 0


def test_two_recordings_with_pictures_side_by_side(tab: Any, serve: Any) -> None:
    with viewing.view([reading(), reading(heads=3)], open=False) as page:
        open_page(tab, page.url)
        word(tab, "red").click()
        shows(tab, reading().row(0, 0, 2, "reads", "token")[0])
        tab.locator(".fv-difference td").first.wait_for()
        tab.goto("about:blank")


def test_view_and_export_take_pictures_of_what_was_watched(tab: Any, tmp_path: Path) -> None:
    import torch

    model = torch.nn.ModuleDict({"cross_attention": fv.nn.MultiHeadAttention(8, 2)})
    with fv.watch(model) as seen:
        model["cross_attention"](torch.randn(1, 2, 8), torch.randn(1, 6, 8))
    picture = fv.Picture(scene(), 2, 3)
    made = [viewing.source_of(seen, None, [["red", "circle"]], given) for given in (picture, [picture])]
    assert [one.document().sequences[0].picture for one in made] == [picture, picture]
    path = fv.export_html(seen, tmp_path / "seen.html", target_tokens=["red", "circle"], pictures=picture)
    open_page(tab, path.as_uri())
    word(tab, "circle").click()
    shows(tab, made[0].row(0, 0, 1, "reads", "token")[0])
    with pytest.raises(ValueError, match="a Source has its own pictures"):
        fv.view(made[0], pictures=picture)
    with pytest.raises(ValueError, match="one for each sequence of the batch, 1; got 2"):
        fv.export_html(seen, path, target_tokens=["red", "circle"], pictures=[picture, picture])
