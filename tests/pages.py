"""What the tests of the local page share: a small model that needs no weights, and raw requests."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import foveate as fv
from foveate.apps.errors import UserError
from foveate.apps.serve import Page
from foveate.views.source import Source
from foveate.views.words import from_words


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
