"""`fv.view` inside a notebook: a widget (anywidget), which any notebook that knows widgets can show.

The page is that of the server: one module of JavaScript that comes with the widget. It asks by messages.
"""

from __future__ import annotations

import gc
import sys
from functools import cache
from importlib import resources
from typing import Any

from foveate.apps.messages import Conversation
from foveate.extras import need
from foveate.views.source import Source

anywidget = need("anywidget", "notebook")

__all__ = ["Widget", "show"]


@cache
def _module() -> str:
    return (resources.files("foveate.apps") / "static" / "foveate-widget.js").read_text(encoding="utf-8")


class Widget(anywidget.AnyWidget):
    """A page about one source, in a cell. Closed, by `close` or with the last cell that shows it, it holds nothing."""

    url = ""  # nothing is served

    def __init__(self, source: Source) -> None:
        self._esm = _module()
        document = source.document()
        heads = max(call.heads for call in document.calls)
        self._about = f"{len(document.calls)} x {heads} heads, {len(document.sequences[0].source)} tokens"
        self._cell: int | None = None
        self._conversation = Conversation(source, self.send, self.close)
        super().__init__()
        self.on_msg(self._hear)

    def close(self) -> None:
        """Close the comm and let go of the source."""
        super().close()
        self._conversation.close()
        gc.collect()  # queries and keys are large, and a source lies in cycles

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        self._conversation.hear(content)

    def _ipython_display_(self) -> None:
        """Show it, unless `show` has done so in this very cell."""
        if self._cell != _cell():
            _display(self)

    def __repr__(self) -> str:
        if self.comm is None:
            return "foveate: this view is closed"
        return f"foveate: {self._about}; run this cell to look at them"


def show(source: Source) -> Widget:
    """A widget; where the notebook takes output at any time it is shown at once, in marimo as the value of its cell."""
    widget = Widget(source)
    widget._cell = _cell()
    if widget._cell is not None:
        _display(widget)
    return widget


def _display(widget: Widget) -> None:
    data, metadata = ({"text/plain": repr(widget)}, {}) if widget.comm is None else widget._repr_mimebundle_()
    need("IPython.display", "notebook").publish_display_data(data, metadata)


def _cell() -> int | None:
    """The number of the cell that is running; None without IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return None if shell is None else int(shell.execution_count)
