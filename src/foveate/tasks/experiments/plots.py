"""The plots of the experiments (matplotlib).

Text stays text; colours can be told apart, and markers where colour is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...plot.style import both, drawing, paper
from .bottleneck import Result
from .contenders import CONTENDERS

__all__ = ["draw_bottleneck", "draw_epochs", "draw_phenomena"]

_POINTS = 9.0
_LABELS = {"none": "one fixed vector", "transformer": "Transformer"}
_BASELINES: dict[str, dict[str, Any]] = {
    "diagonal": {"color": "#999999", "marker": "x", "linestyle": ":"},
    "eflomal": {"color": "#000000", "marker": "+", "linestyle": "--"},
    "eflomal, one direction": {"color": "#666666", "marker": "1", "linestyle": "-."},
}


def draw_bottleneck(results: Sequence[Result], title: str, path: Path) -> list[Path]:
    """BLEU over the length of the source, a line for each model."""
    with _figure(6.4, 3.6) as (figure, save):
        axes = figure.add_subplot()
        for result in results:
            heights = [band.bleu for band in result.bands]
            axes.plot(range(len(heights)), heights, label=_label(result.name), **_line(result.name))
        bands = results[0].bands
        axes.set_xticks(range(len(bands)), [f"{band.label}\n({band.sentences})" for band in bands])
        axes.set(xlabel="words of the source (sentences)", ylabel="BLEU", title=title)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        return save(path)


def draw_epochs(
    curves: Mapping[str, Sequence[float]], levels: Mapping[str, float], title: str, path: Path
) -> list[Path]:
    """Alignment error rate in percent over epochs, a line for each model, and a level for each baseline."""
    with _figure(6.4, 3.6) as (figure, save):
        axes = figure.add_subplot()
        for name, heights in curves.items():
            axes.plot(range(1, len(heights) + 1), heights, label=_label(name), **_line(name))
        for name, height in levels.items():
            axes.axhline(height, label=name, **{**_line(name), "marker": ""})
        axes.set(xlabel="epoch", ylabel="alignment error rate, %", title=title)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False)
        return save(path)


def draw_phenomena(rates: Mapping[str, Mapping[str, float]], title: str, path: Path) -> list[Path]:
    """Alignment error rate in percent, a row for each phenomenon, a mark for each aligner."""
    names = sorted({p for found in rates.values() for p in found}, reverse=True)
    with _figure(6.4, 0.9 + 0.22 * len(names)) as (figure, save):
        axes = figure.add_subplot()
        for aligner, found in rates.items():
            at = [(found[p], row) for row, p in enumerate(names) if p in found]
            axes.plot(*zip(*at, strict=True), label=_label(aligner), **{**_line(aligner), "linestyle": ""})
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="alignment error rate, %", title=title)
        axes.set_xlim(left=0)
        axes.grid(axis="y", linewidth=0.4)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        return save(path)


def _label(name: str) -> str:
    return _LABELS.get(name, name)


def _line(name: str) -> dict[str, Any]:
    if name in _BASELINES:
        return {**_BASELINES[name], "markersize": 5, "linewidth": 1}
    one = CONTENDERS[name]
    return {"color": one.colour, "marker": one.marker, "markersize": 4, "linewidth": 1.4}


@contextmanager
def _figure(wide: float, high: float) -> Iterator[tuple[Any, Callable[[Path], list[Path]]]]:
    """A figure, and what saves it as PNG and SVG."""
    with drawing(_POINTS, open_axes=True, extra="train"):
        figure = paper(wide, high, dpi=180, layout="constrained")
        yield figure, partial(both, figure)
