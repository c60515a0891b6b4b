"""The widget in a real JupyterLab, 12 layers x 12 heads: how soon there is something to see, and what it takes.

    python benchmarks/notebook.py [--tokens 2048]

One cell makes a recording of GPT-2-small's shape, the next one is `fv.view(...)`: the time is that from the click on
"run" to the first lines drawn, anywidget's import included. Memory is what the browser holds more than before that
cell: the JavaScript heap (CDP's `JSHeapUsedSize`) after a collection, and the private memory of the tab's process,
which holds arrays and canvases too; both once all 144 thumbnails are there, and again after ten words were looked at.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import psutil

import foveate
from figures import figure
from lab import Lab, write_notebook
from page import HEADS, LAYERS, chromium

RECORD = """\
import sys
sys.path.insert(0, {folder!r})
from page import recording
source = recording({tokens})
maps = dict(zip((call.name for call in source.document().calls), source.maps))
words = source.document().sequences[0].source"""
VIEW = "import foveate as fv\npage = fv.view(maps, words)"
HOVERS = 10


def measure(tokens: int) -> dict[str, float]:
    """Run both cells as a person would."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        write_notebook(Path(folder, "n.ipynb"), RECORD.format(folder=str(Path(__file__).parent), tokens=tokens), VIEW)
        with Lab(Path(folder), Path(foveate.__file__).parent.parent) as lab, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
            tab = browser.new_page(viewport={"width": 1440, "height": 1000})
            tab.set_default_timeout(120_000)
            tab.goto(lab.url("n.ipynb"))
            found = _look(tab, Memory(tab))
            browser.close()
    return found


class Memory:
    """What the tab holds, in bytes: (JavaScript heap, private memory of its process)."""

    def __init__(self, tab: Any) -> None:
        self._session = tab.context.new_cdp_session(tab)
        self._session.send("Performance.enable")

    def now(self) -> tuple[int, int]:
        for _ in range(2):
            self._session.send("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in self._session.send("Performance.getMetrics")["metrics"]}
        return int(metrics["JSHeapUsedSize"]), max(_private(one) for one in _renderers())


def _renderers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "--type=renderer" in " ".join(one.cmdline())]


def _private(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


def _look(tab: Any, memory: Memory) -> dict[str, float]:
    cells = [tab.locator(".jp-CodeCell").nth(n) for n in range(2)]
    run = tab.locator('[data-command="notebook:run-cell-and-select-next"]')
    idle = tab.get_by_text("| Idle")
    idle.wait_for()
    cells[0].locator(".jp-InputPrompt").click()
    run.click()
    cells[0].locator(".jp-InputPrompt").filter(has_text="[1]").wait_for()
    idle.wait_for()
    before = memory.now()
    tab.evaluate("addEventListener('click', () => performance.mark('run'), { capture: true, once: true })")
    run.click()
    tab.locator(".fv[data-ready=true]").wait_for()
    first = tab.evaluate(
        "['foveate-interactive', 'run'].map(name => performance.getEntriesByName(name)[0].startTime)"
        ".reduce((painted, run) => painted - run)"
    )
    tab.locator(".fv-heads .fv-quiet").filter(has_not_text="…").wait_for()
    tab.locator(".fv-heads .fv-quiet").get_by_text("", exact=True).wait_for(state="attached")
    shown = memory.now()
    words = tab.locator('.fv .fv-word[data-side="query"]')
    for n in range(HOVERS):
        words.nth(n).hover()
    used = memory.now()
    return {
        "first_ms": first,
        "heap": shown[0] - before[0],
        "process": shown[1] - before[1],
        "heap_used": used[0] - before[0],
        "process_used": used[1] - before[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    tokens = parser.parse_args().tokens
    found = measure(tokens)
    name = f"notebook, {LAYERS} x {HEADS} heads, {tokens:,} tokens"
    figure(f"{name}: first lines after the cell is run", found["first_ms"] / 1000, "s", goal="<= 1.5")
    figure(f"{name}: JavaScript heap", max(found["heap"], found["heap_used"]) / 1e6, "MB", goal="< 60")
    figure(f"{name}: private memory of the tab", max(found["process"], found["process_used"]) / 1e6, "MB", goal="< 60")


if __name__ == "__main__":
    main()
