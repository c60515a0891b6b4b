"""What the tests of the local page share: a small model that needs no weights, raw requests, and a reader's moves."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import foveate as fv
from foveate.apps.errors import UserError
from foveate.apps.serve import Page
from foveate.views.source import Source
from foveate.views.words import from_words

CHROMIUM = os.environ.get("FOVEATE_CHROMIUM") or shutil.which("chromium")
READY = "#foveate[data-ready=true]"
PATIENCE = 60  # seconds; only for what hangs
SLOW = float(os.environ.get("FOVEATE_SLOW_PAGE") or 0)
WATCH = (Path(__file__).parent / "stillness.js").read_text(encoding="utf-8")


def random_source(words: list[str], layers: int = 2, heads: int = 3, dim: int = 4, title: str = "A text") -> Source:
    """A document of `layers` calls over these words."""
    draw = torch.Generator().manual_seed(len(words))
    maps = {}
    for layer in range(layers):
        query, key, value = torch.randn(3, 1, heads, len(words), dim, generator=draw)
        maps[f"layers.{layer}.attention"] = fv.AttentionMap(query, key, value=value)
    return Source(maps, from_words(words), title=title, model="random")


@dataclass
class WordModel:
    """Splits a text at white space and looks around at random; refuses more than `max_tokens` words."""

    name: str = "word model"
    kind: Any = "encoder"
    examples: list[str] = field(default_factory=lambda: ["one two three"])
    max_tokens: int = 64

    def run(self, text: str, target: str | None, report: Any) -> Source:
        words = text.split()
        report(0.5, f"Running on {len(words)} words")
        if len(words) > self.max_tokens:
            raise UserError(f"The text has {len(words)} tokens; {self.name} takes at most {self.max_tokens}.")
        if words[0] == "crash":
            raise RuntimeError("the model broke")
        return random_source(words, title=text)


def ask(
    page: Page, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    """One raw request: the path goes out as it is, and no header is added but Host (unless given) and the cookie."""
    sent = {"Host": f"127.0.0.1:{page.port}", "Cookie": f"foveate_{page.port}={page.token}", **(headers or {})}
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        if body is not None and "Transfer-Encoding" not in sent:
            connection.putheader("Content-Length", sent.get("X-Length", str(len(body))))
        connection.endheaders(body)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return response.status, received, response.read()
    finally:
        connection.close()


def watch(tab: Any) -> None:
    """What a tab needs before it opens a page, so that `settled` can tell; it may be a slow one."""
    tab.set_default_timeout(1000 * PATIENCE)
    tab.add_init_script(f"({WATCH})({SLOW})")
    if SLOW:
        tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": SLOW})


def open_page(tab: Any, url: str) -> Any:
    tab.goto(url)
    tab.wait_for_selector(READY)
    settled(tab)
    return tab


def word(tab: Any, text: str, side: str = "query") -> Any:
    return tab.locator(f'[data-token][data-side="{side}"]').filter(has_text=re.compile(f"^{re.escape(text)}$")).first


def lines(tab: Any) -> list[dict[str, Any]]:
    """Every line: its head, weight, width, colour, and the words at its ends."""
    found = tab.locator("path.fv-line").evaluate_all(
        """paths => paths.map(path => ({
            head: +path.dataset.head, to: +path.dataset.to, from: +path.dataset.from, weight: +path.dataset.weight,
            width: +path.getAttribute('stroke-width'), color: path.getAttribute('stroke'),
            opacity: +path.getAttribute('stroke-opacity') }))"""
    )
    return list(found)


def settled(tab: Any) -> None:
    """Wait until all is over that the last move set off: requests, frames, short timers, and what follows from them.

    What is read from a page after a move is read after this: a page in which nothing is under way does not change.
    What it does later by itself (it asks how far a run is, say) is waited for by `until`, or a locator's `wait_for`,
    with something that is not so before.
    """
    tab.evaluate("patience => window.stillness(patience)", 1000 * PATIENCE)


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until what is read is what is wanted."""
    end = time.monotonic() + PATIENCE
    while (found := read()) != wanted:
        assert time.monotonic() < end, f"it does not become {wanted!r}; the last that was read is {found!r}"
        time.sleep(0.02)


def address(tab: Any) -> dict[str, str]:
    """What the address says of the page, which follows a frame later."""
    settled(tab)
    return dict(re.findall(r"(\w+)=([^&]*)", tab.evaluate("decodeURIComponent(location.hash)")))


def stop_clock(tab: Any) -> None:
    """From now on the page's time, that of its frames too, passes by `tab.clock.run_for`, however long a test takes."""
    tab.clock.install(time=0)
    tab.clock.pause_at(1000 * PATIENCE)


def alerted(tab: Any, sentence: str) -> None:
    tab.get_by_role("alert").filter(has_text=sentence).wait_for()
