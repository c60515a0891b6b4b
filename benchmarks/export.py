"""Pages in one file, in a real Chromium: how large they are, how soon they answer, how fast a row is.

    python benchmarks/export.py [--many 512] [--long 32768]

Two pages, written as `fv.export_html` writes them if nothing is chosen: 12 layers of 12 heads at 512 tokens (d = 64;
each row's largest weights and pooled pictures), causal and not, and one head at 32,768 tokens (queries and keys, from
which the browser computes rows). Measured are the file, the time from navigation until a word is looked at, and at
32,768 tokens a row, a column and a tile of the map at random places, p95. Peers at 512 tokens, on the same shape:
bertviz writes 1,036 MB and crashes its tab; inspectus writes 202 MB and needs 24 s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foveate as fv
from figures import figure
from foveate.apps import export
from foveate.views.source import Source
from foveate.views.words import from_pieces
from page import DIM, HEADS, LAYERS, TEXT, chromium

ASKED = 40
TIMES = """async ([question, queries]) => {
    const data = JSON.parse(document.getElementById("foveate-data").textContent);
    window.source ??= new foveate.EmbeddedSource(data.document, data.calls, data.parts);
    const taken = [];
    for (const query of queries) {
        const start = performance.now();
        await window.source[question]({ call: 0, sequence: 0, head: 0, level: "token", how: "max", k: 256, ...query });
        taken.push(performance.now() - start);
    }
    return taken.slice(1);
}"""


def many(tokens: int, causal: bool) -> Source:
    """Random calls whose scores spread like a trained model's."""
    draw = torch.Generator().manual_seed(0)
    maps = {}
    for layer in range(LAYERS):
        query, key, value = torch.randn(3, 1, HEADS, tokens, DIM, generator=draw)
        mask = fv.masks.causal() if causal else None
        maps[f"h.{layer}.attn"] = fv.AttentionMap(1.5 * query, key, value=value, mask=mask)
    return Source(maps, words(tokens), title=f"{tokens} tokens")


def long(tokens: int) -> Source:
    """One causal head. Queries and keys drift, so that there is something to see."""
    draw = torch.Generator().manual_seed(1)
    drift = torch.randn(tokens // 64 + 1, DIM, generator=draw).cumsum(0).repeat_interleave(64, 0)[:tokens] * 0.3
    q, k = (torch.randn(1, 1, tokens, DIM, generator=draw) + drift for _ in range(2))
    return Source({"h.3.attn": fv.AttentionMap(q, k, mask=fv.masks.causal())}, words(tokens), title=f"{tokens} tokens")


def words(tokens: int) -> Any:
    return [from_pieces(list(itertools.islice(itertools.cycle(TEXT.split()), tokens)))]


def opened(browser: Any, path: Path) -> tuple[Any, float]:
    """A tab with the page, and milliseconds until it was interactive."""
    tab = browser.new_page(viewport={"width": 1440, "height": 1000})
    tab.set_default_timeout(120_000)
    tab.goto(path.as_uri())
    tab.wait_for_selector("#foveate[data-ready=true]")
    return tab, tab.evaluate("performance.getEntriesByName('foveate-interactive')[0].startTime")


def p95(tab: Any, question: str, queries: list[dict[str, Any]]) -> float:
    return float(np.percentile(tab.evaluate(TIMES, [question, queries[:1] + queries]), 95))


def measure(browser: Any, folder: Path, tokens: int, long_tokens: int) -> None:
    for causal in (True, False):
        what = f"one file, {LAYERS} x {HEADS} heads, {tokens} tokens{', causal' if causal else ''}"
        path = export.write(many(tokens, causal), folder / "many.html")
        peers = causal and tokens == 512
        size = os.path.getsize(path) / 1e6
        figure(f"{what}: size", size, "MB", goal="<= 8", peer=("inspectus", 202) if peers else None)
        tab, ready = opened(browser, path)
        figure(f"{what}: interactive", ready, "ms", goal="<= 1000", peer=("inspectus", 24000) if peers else None)
        tab.close()
    what = f"one file, one head, {long_tokens:,} tokens"
    source, start = long(long_tokens), time.perf_counter()
    path = export.write(source, folder / "long.html")
    figure(f"{what}: writing it", time.perf_counter() - start, "s", threads=torch.get_num_threads())
    figure(f"{what}: size", os.path.getsize(path) / 1e6, "MB", goal="<= 12")
    tab, ready = opened(browser, path)
    figure(f"{what}: interactive", ready, "ms")
    draw = torch.Generator().manual_seed(2)
    places = torch.randint(long_tokens, (ASKED,), generator=draw).tolist()
    for direction, name in (("reads", "a row"), ("read_by", "a column")):
        asked = [{"index": place, "direction": direction} for place in places]
        figure(f"{what}: {name}, p95", p95(tab, "row", asked), "ms", goal="<= 100")
    for zoom in (0, 2, 4):
        last = (long_tokens - 1) // (256 << zoom)
        tiles = torch.randint(last + 1, (10, 2), generator=draw).sort(-1).values.flip(-1).tolist()  # below the diagonal
        asked = [{"zoom": zoom, "row": row, "column": column} for row, column in tiles]
        figure(f"{what}: a map's tile at {1 << zoom} tokens a pixel, p95", p95(tab, "map", asked), "ms")


def main() -> None:
    from playwright.sync_api import sync_playwright

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--many", type=int, default=512, metavar="TOKENS")
    options.add_argument("--long", type=int, default=32768, metavar="TOKENS")
    chosen = options.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        measure(browser, Path(folder), chosen.many, chosen.long)
        browser.close()


if __name__ == "__main__":
    main()
