"""The page on one layer of a long text, in a real Chromium: how soon it is seen, how smooth, how fast.

    python benchmarks/long_page.py [--tokens 32768 131072] [--heads 12] [--width 64] [--threads 2]

A recording on disk (`long_text.py`) is opened as `foveate view run.fov` opens it. Measured from the start of the
navigation: the first overview of one head on the screen (256 x 256 pixels, of some of its rows), and the last pixel of
it computed. Then the time between two frames while a part of the map is dragged about, with the tiles of each zoom
coming in; and from a click on a word to its links in the text and its list of passages, as the browser has it. No other
viewer opens such a text, so there is no peer beside these figures.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foveate as fv
import long_text
from figures import figure
from foveate.apps.serve import Page, share_cores
from foveate.apps.viewing import source_of
from foveate.apps.workspace import Workspace
from page import chromium

CLICKS, DRAGS, STEPS = 40, 4, 60
FRAME = 1000 / 60  # ms
GOALS: dict[int, dict[str, str]] = {
    32768: {"first": "<= 2", "all": "<= 12", "frame": "<= 16.7", "click": "<= 50"},
    131072: {"frame": "<= 16.7", "click": "<= 150"},
}
WATCH_FRAMES = """() => {
    const seen = window.seen = { times: [], on: true };
    let last = 0;
    const frame = (now) => {
        if (last) seen.times.push(now - last);
        last = now;
        if (seen.on) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
}"""
WATCH_MAP = """() => {
    const find = setInterval(() => {
        const map = document.querySelector('.fv-heat');
        if (!map) return;
        clearInterval(find);
        const look = () => {
            if (map.dataset.tiles && map.dataset.tiles !== 'coming') window.first ??= performance.now();
            if (map.dataset.tiles === 'exact') window.all ??= performance.now();
        };
        new MutationObserver(look).observe(map, { attributeFilter: ['data-tiles'] });
        look();
    });
}"""


IN_SIGHT = """() => {
    const pane = document.querySelector('.fv-pane').getBoundingClientRect();
    const words = [...document.querySelectorAll('.fv-word')].map(word => word.getBoundingClientRect());
    const seen = words.filter(word => word.top > pane.top + 100 && word.bottom < pane.bottom - 100);
    window.target = seen[seen.length >> 1];
    return window.target !== undefined;
}"""


def opened(tab: Any, page: Page) -> dict[str, float]:
    """Seconds until the whole map is seen, and until all of it is computed."""
    tab.add_init_script(f"({WATCH_MAP})()")
    tab.goto(page.url)
    tab.wait_for_function("() => window.all !== undefined", timeout=600_000)
    return {name: tab.evaluate(f"window.{name}") / 1000 for name in ("first", "all")}


def dragged(tab: Any) -> np.ndarray[Any, Any]:
    """Milliseconds between frames while the map is dragged, at four zooms from the overview to single tokens."""
    canvas = tab.locator("canvas.fv-world")
    box = canvas.bounding_box()
    left, top = box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"]
    found: list[float] = []
    for _ in range(DRAGS):
        canvas.press("+")
        canvas.press("+")
        tab.wait_for_load_state("networkidle")
        tab.evaluate(WATCH_FRAMES)
        tab.mouse.move(left + 300, top + 300)
        tab.mouse.down()
        for step in range(STEPS):
            tab.mouse.move(left + 300 - 5 * step, top + 300 - 5 * step)
        tab.mouse.up()
        found += tab.evaluate("() => { window.seen.on = false; return window.seen.times; }")[1:]
        tab.wait_for_load_state("networkidle")
    canvas.press("0")
    tab.wait_for_load_state("networkidle")
    return np.array(found)


def clicked(tab: Any) -> np.ndarray[Any, Any]:
    """Milliseconds from a click on a word to its links drawn, at words all over the text."""
    chance = random.Random(1)
    tab.evaluate("performance.clearMeasures('foveate-hover')")
    for n in range(CLICKS):
        part = chance.random()
        tab.evaluate(
            "part => { const pane = document.querySelector('.fv-pane'); pane.scrollTop = part * pane.scrollHeight; }",
            part,
        )
        tab.wait_for_function(IN_SIGHT)
        tab.wait_for_load_state("networkidle")
        x, y = tab.evaluate("[window.target.x + window.target.width / 2, window.target.y + window.target.height / 2]")
        tab.evaluate(
            "([x, y]) => document.elementFromPoint(x, y).dispatchEvent(new MouseEvent('click', { bubbles: true }))",
            [x, y],
        )
        tab.wait_for_function("n => performance.getEntriesByName('foveate-hover').length > n", arg=n)
    return np.array(tab.evaluate("performance.getEntriesByName('foveate-hover').map(measure => measure.duration)"))


def measure(path: Path, tokens: int, threads: int) -> None:
    from playwright.sync_api import sync_playwright

    goals, what = GOALS.get(tokens, {}), f"page on {tokens:,} tokens"
    workspace = Workspace()
    workspace.add(source_of(fv.load(path)))
    with Page(workspace, port=0) as page, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        tab.set_default_timeout(120_000)
        times = opened(tab, page)
        figure(
            f"{what}: overview of a head on the screen", times["first"], "s", goal=goals.get("first"), threads=threads
        )
        figure(f"{what}: the same, all rows", times["all"], "s", goal=goals.get("all"), threads=threads)
        frames = dragged(tab)
        figure(
            f"{what}: frame while dragging the map, p95",
            float(np.percentile(frames, 95)),
            "ms",
            goal=goals.get("frame"),
        )
        late = 100 * float((frames > 1.5 * FRAME).mean())
        figure(f"{what}: frames that came late, of {len(frames)}", late, "%")
        clicks = clicked(tab)
        figure(
            f"{what}: click to links, p95",
            float(np.percentile(clicks, 95)),
            "ms",
            goal=goals.get("click"),
            threads=threads,
        )
        heap = tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
        figure(f"{what}: memory of scripts", heap, "MB")
        browser.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    options.add_argument("--heads", type=int, default=12)
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    share_cores()
    for tokens in chosen.tokens:
        with tempfile.TemporaryDirectory() as folder:
            path = long_text.saved(Path(folder), tokens, chosen.heads, chosen.width)
            measure(path, tokens, torch.get_num_threads())


if __name__ == "__main__":
    main()
