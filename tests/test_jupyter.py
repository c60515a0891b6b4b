"""The widget in a real JupyterLab, from a fresh kernel: seen, clicked, cleared, freed, and opened again without it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import foveate
from pages import CHROMIUM, PATIENCE, lines, word

ROOT = Path(__file__).parent.parent
NEEDED = ("jupyterlab", "anywidget", "ipykernel")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install 'foveate[dev]'"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

LOOK = """\
import gc, weakref
import torch, foveate as fv
torch.manual_seed(0)
words = "The cat sat on the mat".split()
q, k = torch.randn(2, 1, 2, 6, 4)
first, second = fv.view(fv.AttentionMap(q, k), words), fv.head_view([torch.rand(1, 2, 6, 6)] * 3, words)
sources = [weakref.ref(page._conversation._source) for page in (first, second)]"""
FREED = """\
import asyncio
async def freed():
    while any(source() for source in sources):
        gc.collect()
        await asyncio.sleep(0.05)
await asyncio.wait_for(freed(), 60)
print("freed", first)"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    made = importlib.import_module("lab")
    made.write_notebook(tmp_path / "look.ipynb", LOOK, FREED)
    with made.Lab(tmp_path, Path(foveate.__file__).parent.parent) as running:
        yield running


def run_cell(tab: Any, cell: Any) -> None:
    tab.get_by_text(re.compile(r"Python 3 .*\| Idle")).wait_for()
    cell.locator(".jp-InputPrompt").click()
    tab.locator('[data-command="notebook:run-cell-and-select-next"]').click()


def menu(tab: Any, name: str, item: str) -> None:
    tab.get_by_role("menuitem", name=name, exact=True).click()
    tab.get_by_role("menuitem", name=item, exact=True).click()


def test_in_jupyterlab(browser: Any, lab: Any) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1400}, reduced_motion="reduce")
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    tab = context.new_page()
    tab.set_default_timeout(1000 * PATIENCE)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(lab.url("look.ipynb"))
    look, freed = (tab.locator(".jp-CodeCell").nth(n) for n in range(2))
    run_cell(tab, look)
    pages = look.locator(".fv")
    for n in range(2):
        look.locator(".fv[data-ready=true]").nth(n).wait_for()
    assert pages.count() == 2
    shown = [lines(pages.nth(n)) for n in range(2)]
    assert all(shown)

    # a click in one of them changes that one, and neither the other nor the page around it
    word(pages.nth(0), "sat").click()
    pages.nth(0).locator(".fv-who").filter(has_text="sat").wait_for()
    assert lines(pages.nth(0)) != shown[0]
    assert lines(pages.nth(1)) == shown[1]
    for way in ("Looked at by", "Looks at"):
        tab.keyboard.press("d")  # twice, and JupyterLab would delete the cell
        pages.nth(0).locator(f'[role=radio][aria-checked=true]:text-is("{way}")').wait_for()
    assert tab.locator(".jp-CodeCell").count() == 2
    assert "#" not in tab.url and "foveate" not in tab.title()

    # the page is loaded again: the kernel still answers
    tab.locator(".jp-mod-dirty").wait_for(state="attached")
    tab.keyboard.press("Control+s")
    tab.locator(".jp-mod-dirty").wait_for(state="detached")
    tab.reload()
    for n in range(2):
        look.locator(".fv[data-ready=true]").nth(n).wait_for()

    # cleared, it is freed
    look.locator(".jp-InputPrompt").click()
    menu(tab, "Edit", "Clear Cell Output")
    pages.first.wait_for(state="detached")
    run_cell(tab, freed)
    freed.locator(".jp-OutputArea-output").filter(has_text="freed foveate: this view is closed").wait_for()

    context.close()
    outside = [url for url in requests if not re.match(rf"(http|ws)://127\.0\.0\.1:{lab.port}/|data:|blob:", url)]
    assert outside == []
    assert errors == []
