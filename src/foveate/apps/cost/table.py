"""What was measured, as a table of text, and as one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from foveate.apps.cost.study import Point, Study

__all__ = ["as_json", "growths", "text"]


def text(study: Study, busy: bool = False) -> str:
    """One line for each form and length: time, peak memory beyond the inputs, and both over the first form's."""
    names = study.plan.forms
    first = f"/ {names[0]}"
    clock = "CPU ms" if busy else "ms"
    lines = [("n", "form", clock, first, "peak MB", first, "ran on")]
    for n in study.plan.lengths:
        base = study.point(names[0], n)
        lines += [_line(point, base, busy) for name in names if (point := study.point(name, n)) is not None]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    left = (1, 6)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def growths(study: Study, busy: bool = False) -> str:
    """The fitted exponents, one line for each form; what could not be fitted or measured says why."""
    width = max(map(len, study.plan.forms))
    lines = []
    for name in study.plan.forms:
        found = study.growth(name, busy)
        on = {point.backend for point in study.points(name)} - {""}
        few = "fewer than three lengths" + (" on one backend" if len(on) > 1 else "") + ": no exponent"
        lines.append(f"{name.ljust(width)}  {found or few}")
    return "\n".join(lines)


def as_json(study: Study, files: list[str], busy: bool = False) -> dict[str, Any]:
    """Everything the table says."""
    return {
        "settings": asdict(study.plan.settings),
        "machine": study.store.machine,
        "clock": "processor" if busy else "wall",
        "measurements": [
            {
                "form": point.form,
                "n": point.n,
                "seconds": point.seconds(busy),
                "calls": len(point.wall),
                "peak_bytes": point.bytes,
                "backend": point.backend or None,
            }
            for name in study.plan.forms
            for point in study.points(name)
        ],
        "growth": {name: asdict(g) if (g := study.growth(name, busy)) else None for name in study.plan.forms},
        "skipped": study.skipped,
        "files": files,
    }


def _line(point: Point, base: Point | None, busy: bool) -> tuple[str, ...]:
    seconds, held = point.seconds(busy), point.bytes
    time_ratio = _ratio(seconds, base.seconds(busy) if base else None)
    held_ratio = _ratio(held, base.bytes if base else None)
    megabytes = "-" if held is None else _digits(held / 1e6)
    return f"{point.n:,}", point.form, _digits(seconds * 1e3), time_ratio, megabytes, held_ratio, point.backend


def _ratio(a: float | None, b: float | None) -> str:
    return "-" if a is None or not b else _digits(a / b)


def _digits(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
