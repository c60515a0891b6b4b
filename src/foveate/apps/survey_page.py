"""The report of a survey of heads: one page in one file, from the table that `foveate heads` wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from foveate.apps import page
from foveate.heads import measures, table
from foveate.views.wire import dumps

__all__ = ["report_of", "served_of"]

_NAME = "foveate-survey"


def report_of(path: Path) -> str:
    """The page of a Parquet file, in one file.

    Raises:
        ValueError: it is no survey of heads.
        UserError: it cannot be read.
    """
    return page.static(*_told(path), _NAME)


def served_of(path: Path) -> str:
    """The same for a server to open with."""
    return page.served(*_told(path), _NAME)


def _told(path: Path) -> tuple[str, str]:
    """What the page shows, as JSON, and its title."""
    columns, facts = table.read_table(path)
    names = [name for name in measures.ALL if name in columns]
    about, corpus = facts["measures"], ", ".join(map(str, facts.get("corpus", [])))
    counts = f"{len(columns['head']):,} heads, {facts['texts']:,} texts, {facts['tokens']:,} tokens"
    title = f"What the heads of {facts['model']} do"
    data = {
        "title": title,
        "about": f"{counts} of {corpus}" if corpus else counts,
        "notes": [f"Not captured: {missed}" for missed in facts["not_captured"]],
        "heads": [
            dict(zip(("module", "layer", "kind", "head", "call"), row, strict=True))
            for row in zip(*(columns[name] for name in ("module", "layer", "kind", "head", "call")), strict=True)
        ],
        "measures": [
            {
                "name": name,
                "about": str(about.get(name, measures.MEANING[name])),
                "values": _short(columns[name]),
                "errors": _short(columns[f"{name}_se"]),
            }
            for name in names
        ],
        "agreement": [_short(row) for row in columns["agreement"]] if "agreement" in columns else None,
        "examples": columns.get("examples"),
    }
    return dumps(data), title


def _short(numbers: list[Any]) -> list[float | None]:
    """Five digits: more than the page shows."""
    return [None if x is None or not math.isfinite(x) else float(f"{x:.5g}") for x in numbers]
