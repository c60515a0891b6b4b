"""`fv.view` and `fv.export_html`: what was recorded, on the screen or in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foveate.apps import export
from foveate.apps.workspace import Workspace
from foveate.map import AttentionMap
from foveate.views.given import recording_of, tables_of
from foveate.views.source import Source
from foveate.views.texts import TokenLists

Attention = Source | AttentionMap | Mapping[str, Any] | Tensor | np.ndarray | Sequence[Any]


def source_of(
    seen: Attention,
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    **about: Any,
) -> Source:
    """A Source over a recording, any mapping from names to maps, one map, or weights as numbers (`views.given`).

    Tokens default to the recording's.
    """
    if isinstance(seen, Source):
        return seen
    if not isinstance(seen, AttentionMap | Mapping):
        try:
            seen = recording_of({"": tables_of(seen)})
        except TypeError as error:
            rule = "expected a Recording, an AttentionMap, a mapping of them, or weights as numbers"
            raise TypeError(f"{rule}; {error}") from None
    maps: Mapping[str, Any] = {"attention": seen} if isinstance(seen, AttentionMap) else seen
    if tokens is None:
        tokens = getattr(seen, "tokens", None)
    if target_tokens is None:
        target_tokens = getattr(seen, "target_tokens", None)
    about.setdefault("model", getattr(seen, "model", None) or "")
    about.setdefault("title", about["model"] or "Recording")
    return Source(maps, tokens, target_tokens, **about)


def view(
    seen: Attention,
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    *,
    open: bool = True,
    block: bool = False,
    host: str | None = None,
    port: int | None = None,
    title: str | None = None,
) -> Any:
    """Show a recording: inside the cell of a notebook (with `foveate[notebook]`), elsewhere as a local page.

    Args:
        seen: what `watch` gave, a loaded recording, one AttentionMap, a mapping from names to maps, or weights as
            numbers: a tensor (B, H, Q, K), or one for each layer, as Hugging Face's `outputs.attentions`.
        tokens: the tokens of each sequence; one flat list of strings is one sequence.
        target_tokens: those of the decoder's side of an encoder-decoder.
        open: also open the user's browser.
        block: return only when the page is closed, by Ctrl-C.

    Returns:
        A handle with `.url` and `.close()`; in a notebook a widget, which closes by itself when its cell is cleared.
    """
    source = source_of(seen, tokens, target_tokens, **({"title": title} if title else {}))
    if _in_notebook():
        from foveate.apps.notebook import show

        return show(source)
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
    seen: Attention,
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
    if type(shell).__name__ in ("ZMQInteractiveShell", "Shell"):  # Jupyter, VS Code; Colab
        return True
    return bool(getattr(sys.modules.get("marimo"), "running_in_notebook", lambda: False)())
