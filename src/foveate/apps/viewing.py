"""`fv.view` and `fv.export_html`: what was recorded, on the screen or in a file."""

from __future__ import annotations

import html
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate.apps import export
from foveate.apps.workspace import Workspace
from foveate.map import AttentionMap
from foveate.views.source import Source
from foveate.views.texts import TokenLists

FRAME_HEIGHT = 760  # pixels, of the page inside a notebook


class NotebookPage:
    """The static page inside a notebook's cell; nothing is served."""

    url = ""

    def close(self) -> None:
        """Nothing runs, so there is nothing to stop."""


def source_of(
    seen: Source | AttentionMap | Mapping[str, Any],
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    **about: Any,
) -> Source:
    """A Source over a recording, any mapping from names to maps, or one map; tokens default to the recording's."""
    if isinstance(seen, Source):
        return seen
    maps: Mapping[str, Any] = {"attention": seen} if isinstance(seen, AttentionMap) else seen
    if not isinstance(maps, Mapping):
        raise TypeError(f"expected a Recording, an AttentionMap or a mapping of them; got {type(seen).__name__}")
    if tokens is None:
        tokens = getattr(seen, "tokens", None)
    if target_tokens is None:
        target_tokens = getattr(seen, "target_tokens", None)
    about.setdefault("model", getattr(seen, "model", None) or "")
    about.setdefault("title", about["model"] or "Recording")
    return Source(maps, tokens, target_tokens, **about)


def view(
    seen: Source | AttentionMap | Mapping[str, Any],
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    *,
    open: bool = True,
    block: bool = False,
    host: str | None = None,
    port: int | None = None,
    title: str | None = None,
) -> Any:
    """Show a recording: inside the cell of a notebook, elsewhere as a local page.

    Args:
        seen: what `watch` gave, a loaded recording, one AttentionMap, or a mapping from names to maps.
        tokens: the tokens of each sequence; one flat list of strings is one sequence.
        target_tokens: those of the decoder's side of an encoder-decoder.
        open: also open the user's browser.
        block: return only when the page is closed, by Ctrl-C.

    Returns:
        A handle with `.url` and `.close()`.
    """
    source = source_of(seen, tokens, target_tokens, **({"title": title} if title else {}))
    if _in_notebook():
        _display(export.page_of(source))
        return NotebookPage()
    from foveate.apps.serve import DEFAULT_HOST, Page

    workspace = Workspace()
    workspace.add(source)
    page = Page(workspace, host or DEFAULT_HOST, port).start()
    workspace.warm()
    if open and not page.open():
        print(f"Open {page.url}", file=sys.stderr)
    if block:
        try:
            page.wait()
        finally:
            page.close()
    return page


def export_html(
    seen: Source | AttentionMap | Mapping[str, Any],
    path: str | os.PathLike[str],
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    *,
    title: str | None = None,
    layers: export.Which = None,
    heads: export.Which = None,
    embed: export.Embed = "auto",
    k: int | None = None,
    values: bool | None = None,
    float16: bool | None = None,
    limit: int = export.LIMIT,
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Write one self-contained page that works offline, and says what in it is exact, rounded, pooled or left out.

    Args:
        layers: which go in: a number in the order of the page, a glob over module names, or a list of these. None: all.
        heads: which heads of these, by their numbers in the module; one or a list. None: all.
        embed: "exact": queries and keys, from which the page computes every weight, at any length. "top": the largest
            weights of each row and a pooled picture of each head. "auto": exact up to 12 MB, else "top".
        k: how many weights of each row "top" keeps. None: from 8 to 32, as fits.
        values: also keep recorded values ("exact" only), to show what each word adds to the output. None: if they fit.
        float16: round queries, keys and values. None: above 8 MB of float32.
        limit: bytes the page may have.
        progress: told the share done, 0 to 1, and a line.

    Raises:
        UserError: there is no such layer or head, or the page would be larger than `limit` bytes; the text names the
            sizes and the remedy.
        ValueError: an option has none of its values.
    """
    options = export.Options(layers, heads, embed, k, values, float16)
    source = source_of(seen, tokens, target_tokens, **({"title": title} if title else {}))
    return export.write(source, path, title or "", limit, options, progress)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ in ("ZMQInteractiveShell", "Shell")  # Jupyter, Colab


def _display(page: str) -> None:
    shown = importlib.import_module("IPython.display")
    frame = (
        f'<iframe title="foveate" width="100%" height="{FRAME_HEIGHT}" style="border:0" '
        f'sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(page)}"></iframe>'
    )
    shown.display(shown.HTML(frame))
