"""`fv.view` and `fv.export_html`: what was recorded, on the screen or in a file."""

from __future__ import annotations

import html
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.apps import export
from foveate.apps.workspace import Workspace
from foveate.map import AttentionMap
from foveate.recording import Recording
from foveate.views.generated import tokens_of
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
    if isinstance(seen, Recording):
        known = tokens_of(seen)
        tokens = known[0] if tokens is None else tokens
        target_tokens = known[1] if target_tokens is None else target_tokens
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
    limit: int = export.LIMIT,
) -> Path:
    """Write one self-contained page that works offline; queries and keys are inside it, so every number is.

    Up to 8 MB of queries and keys go in as float32, more as float16.

    Raises:
        UserError: the page would be larger than `limit` bytes; the text names the size and the remedy.
    """
    source = source_of(seen, tokens, target_tokens, **({"title": title} if title else {}))
    return export.write(source, path, title or "", limit)


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
