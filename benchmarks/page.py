"""The page on a GPT-2-small-like recording, 12 layers x 12 heads, in a real Chromium: how soon, how fast, how big.

    python benchmarks/page.py [--tokens 512] [--json]

Prints the time from navigation to the first answer on the screen, the time until all 144 thumbnails are there, the
latency of hovering over words (from the browser's pointer event to the lines redrawn; neighbours in order, and jumps),
and the bytes that crossed the wire. To reach at 512 tokens: 1 s, 50 ms, 2 MB.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import sys
from typing import Any

import torch

import foveate as fv
from figures import figure
from foveate.apps.serve import Page, share_cores
from foveate.apps.workspace import Workspace
from foveate.views.source import Source
from foveate.views.words import from_pieces

LAYERS, HEADS, DIM = 12, 12, 64
TEXT = "The cat sat on the mat because it was tired , and nobody dared to wake the sleep ##ing animal up again ."


def recording(tokens: int) -> Source:
    """Random causal calls whose scores spread like a trained model's."""
    draw = torch.Generator().manual_seed(0)
    maps = {}
    for layer in range(LAYERS):
        query, key, value = torch.randn(3, 1, HEADS, tokens, DIM, generator=draw)
        maps[f"h.{layer}.attn"] = fv.AttentionMap(1.5 * query, key, value=value, mask=fv.masks.causal())
    words = list(itertools.islice(itertools.cycle(TEXT.split()), tokens))
    return Source(maps, from_pieces(words), title=f"{tokens} tokens", model="random, GPT-2-small shape")


def measure(page: Page, tokens: int, hovers: int = 60) -> dict[str, float]:
    """Drive the page as a reader would."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        received = count_bytes(tab)
        tab.goto(page.url)
        tab.wait_for_selector("#foveate[data-ready=true]")
        interactive = tab.evaluate("performance.getEntriesByName('foveate-interactive')[0].startTime")
        first = received["bytes"]
        tab.set_default_timeout(120_000)
        tab.wait_for_function(
            "n => performance.getEntriesByType('resource').filter(r => r.name.includes('/thumbnails')).length >= n",
            arg=LAYERS,
        )
        last = "Math.max(...performance.getEntriesByType('resource').map(r => r.responseEnd))"
        thumbnails = tab.evaluate(last)
        words = visible(tab)
        middle = len(words) // 2
        order = [*range(middle, min(middle + hovers // 2, len(words)))]
        steps = hover(tab, [words[i] for i in order])
        random.seed(0)
        jumps = hover(tab, random.choices(words, k=hovers))
        tab.wait_for_load_state("networkidle")
        browser.close()
    return {
        "tokens": tokens,
        "interactive_ms": interactive,
        "thumbnails_ms": thumbnails,
        "hover_steps_median_ms": statistics.median(steps),
        "hover_jumps_median_ms": statistics.median(jumps),
        "hover_max_ms": max(steps + jumps),
        "hovers": len(steps) + len(jumps),
        "bytes_to_interactive": first,
        "bytes_in_all": received["bytes"],
    }


def count_bytes(tab: Any) -> dict[str, int]:
    """Bytes of all answers as they came over the wire, headers included."""
    received = {"bytes": 0}
    session = tab.context.new_cdp_session(tab)
    session.send("Network.enable")

    def finished(event: dict[str, Any]) -> None:
        received["bytes"] += int(event["encodedDataLength"])

    session.on("Network.loadingFinished", finished)
    return received


def visible(tab: Any) -> list[tuple[float, float]]:
    """The centres of the words that can be pointed at without scrolling."""
    return [
        (box["x"], box["y"])
        for box in tab.evaluate(
            """() => Array.from(document.querySelectorAll('.fv-word[data-token]'), word => {
                const box = word.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                return { x, y, hit: document.elementFromPoint(x, y) === word };
            }).filter(word => word.hit)"""
        )
    ]


def hover(tab: Any, places: list[tuple[float, float]]) -> list[float]:
    """Point at each place, wait for its lines, and give the latency of each."""
    tab.mouse.move(1, 1)
    tab.evaluate("performance.clearMeasures('foveate-hover')")
    for n, (x, y) in enumerate(places):
        before = tab.evaluate("performance.getEntriesByName('foveate-hover').length")
        tab.mouse.move(x, y)
        if n and places[n - 1] == (x, y):
            continue
        tab.wait_for_function("n => performance.getEntriesByName('foveate-hover').length > n", arg=before)
    return list(tab.evaluate("performance.getEntriesByName('foveate-hover').map(m => m.duration)"))


def chromium() -> str:
    found = os.environ.get("FOVEATE_CHROMIUM") or shutil.which("chromium")
    if not found:
        sys.exit("no Chromium found; install one or set FOVEATE_CHROMIUM")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    share_cores()
    workspace = Workspace()
    workspace.add(recording(arguments.tokens))
    workspace.warm()
    with Page(workspace, port=0) as page:
        found = measure(page, arguments.tokens)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:24} {value:12,.1f}" if isinstance(value, float) else f"{name:24} {value:12,}")
    page = f"page on 12 x 12 heads, {arguments.tokens} tokens"
    figure(f"{page}: interactive", found["interactive_ms"], "ms", goal="<= 1000")
    hovers = max(found["hover_steps_median_ms"], found["hover_jumps_median_ms"])
    figure(f"{page}: median hover", hovers, "ms", goal="<= 50")
    figure(f"{page}: bytes sent", found["bytes_in_all"] / 1e6, "MB", goal="<= 2")


if __name__ == "__main__":
    main()
