"""What the tests of the local page share: a small model that needs no weights, raw requests, and a reader's moves."""

from __future__ import annotations

import http.client
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import foveate as fv
from foveate.apps.errors import UserError
from foveate.apps.serve import Page
from foveate.views.source import Source
from foveate.views.words import from_words

CHROMIUM = os.environ.get("FOVEATE_CHROMIUM") or shutil.which("chromium")
READY = "#foveate[data-ready=true]"


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
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
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


def open_page(tab: Any, url: str) -> Any:
    tab.goto(url)
    tab.wait_for_selector(READY)
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
    """Wait until the lines belong to the word that is chosen now."""
    tab.wait_for_load_state("networkidle")
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")


def alerted(tab: Any, sentence: str) -> None:
    tab.get_by_role("alert").filter(has_text=sentence).wait_for()
