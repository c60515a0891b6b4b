"""`fv.view` and `fv.export_html`: what was recorded, on the screen or in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foveate.apps import export
from foveate.apps.errors import UserError
from foveate.apps.workspace import Workspace
from foveate.map import AttentionMap
from foveate.recording import Recording
from foveate.views.generated import tokens_of
from foveate.views.given import recording_of, tables_of
from foveate.views.pictures import Picture
from foveate.views.source import Source
from foveate.views.texts import TokenLists

_RECORDED = (Source, AttentionMap, Mapping)
Pictures = Picture | Sequence[Picture]
Attention = Source | AttentionMap | Mapping[str, Any] | Tensor | np.ndarray | Sequence[Any]


def source_of(
    seen: Attention,
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    pictures: Pictures = (),
    **about: Any,
) -> Source:
    """A Source over a recording, any mapping from names to maps, one map, or weights as numbers (`views.given`).

    Tokens default to the recording's.
    """
    pictures = [pictures] if isinstance(pictures, Picture) else pictures
    if isinstance(seen, Source):
        if pictures:
            raise ValueError("a Source has its own pictures: give them where it is made, Source(..., pictures=[...])")
        return seen
    if not isinstance(seen, AttentionMap | Mapping):
        try:
            seen = recording_of({"": tables_of(seen)})
        except TypeError as error:
            rule = "expected a Recording, an AttentionMap, a mapping of them, or weights as numbers"
            raise TypeError(f"{rule}; {error}") from None
    maps: Mapping[str, Any] = {"attention": seen} if isinstance(seen, AttentionMap) else seen
    if isinstance(seen, Recording):
        known = tokens_of(seen)
        tokens = known[0] if tokens is None else tokens
        target_tokens = known[1] if target_tokens is None else target_tokens
    about.setdefault("model", getattr(seen, "model", None) or "")
    about.setdefault("title", about["model"] or "Recording")
    return Source(maps, tokens, target_tokens, pictures=pictures, **about)


def view(
    seen: Attention,
    tokens: TokenLists = None,
    target_tokens: TokenLists = None,
    *,
    pictures: Pictures = (),
    open: bool = True,
    block: bool = False,
    host: str | None = None,
    port: int | None = None,
    title: str | None = None,
) -> Any:
    """Show a recording: inside the cell of a notebook (with `foveate[notebook]`), elsewhere as a local page.

    Args:
        seen: what `watch` gave, a loaded recording, one AttentionMap, a mapping from names to maps, or weights as
            numbers: a tensor (B, H, Q, K), or one for each layer, as Hugging Face's `outputs.attentions`. A list of two
            recordings: both side by side, the same place in each, and the difference; their tokens are their own.
        tokens: the tokens of each sequence; one flat list of strings is one sequence.
        target_tokens: those of the decoder's side of an encoder-decoder, or the words that read a picture.
        pictures: what a vision model saw, one `Picture` for each sequence, or the only one; the page draws the weights
            over it.
        open: also open the user's browser.
        block: return only when the page is closed, by Ctrl-C.

    Returns:
        A handle with `.url` and `.close()`; in a notebook a widget, which closes by itself when its cell is cleared.
    """
    if isinstance(seen, list | tuple) and seen and all(isinstance(one, _RECORDED) for one in seen):
        return _view_two(seen, tokens, target_tokens, pictures, open=open, block=block, host=host, port=port)
    source = source_of(seen, tokens, target_tokens, pictures, **({"title": title} if title else {}))
    if _in_notebook():
        from foveate.apps.notebook import show

        return show(source)
    workspace = Workspace()
    workspace.add(source)
    return _served(workspace, open=open, block=block, host=host, port=port)


def _view_two(
    seen: Sequence[Any], tokens: TokenLists, target_tokens: TokenLists, pictures: Pictures, **how: Any
) -> Any:
    if len(seen) != 2:
        raise ValueError(f"two recordings are shown side by side; got {len(seen)}")
    if tokens is not None or target_tokens is not None:
        raise ValueError("of two recordings each has its own tokens: set seen.tokens, or give two views.source.Source")
    if _in_notebook():
        raise UserError("two recordings are compared in a page of its own: foveate view a.fov b.fov")
    one, other = (source_of(one, pictures=() if isinstance(one, Source) else pictures) for one in seen)
    workspace = Workspace()
    workspace.add_compared(one, other, names_of(one, other))
    return _served(workspace, **how)


def names_of(one: Source, other: Source) -> tuple[str, str]:
    """What two documents are called beside each other: by their models, if these differ."""
    titles = one.document().title, other.document().title
    return titles if titles[0] != titles[1] else ("A", "B")


def _served(workspace: Workspace, *, open: bool, block: bool, host: str | None, port: int | None) -> Any:
    from foveate.apps.serve import DEFAULT_HOST, Page

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
    pictures: Pictures = (),
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
        pictures: what a vision model saw, as for `view`.
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
    source = source_of(seen, tokens, target_tokens, pictures, **({"title": title} if title else {}))
    return export.write(source, path, title or "", limit, options, progress)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ in ("ZMQInteractiveShell", "Shell"):  # Jupyter, VS Code; Colab
        return True
    return bool(getattr(sys.modules.get("marimo"), "running_in_notebook", lambda: False)())
