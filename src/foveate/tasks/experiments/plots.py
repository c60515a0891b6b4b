"""The plots of the experiments (matplotlib).

Text stays text; colours can be told apart, and markers where colour is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...plot.style import COLOURS, MARKERS, both, drawing, paper
from .bottleneck import Result
from .contenders import CONTENDERS
from .induction import Moment
from .induction import Result as Copied
from .telephone import PLAYERS, Played

__all__ = ["draw_bottleneck", "draw_epochs", "draw_induction", "draw_phenomena", "draw_telephone"]

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


def draw_induction(
    results: Sequence[Copied], curves: Mapping[str, Sequence[Moment]], free: int, path: Path
) -> list[Path]:
    """For each model a row: left, what is copied and read while it learns; right, what is copied without each head.

    `free` is the step until which reading costs nothing.
    """
    with _figure(7.2, 0.6 + 2.5 * len(results)) as (figure, save):
        grid = figure.subplots(len(results), 2, squeeze=False, width_ratios=(3, 2), sharex="col")
        for (left, right), result in zip(grid, results, strict=True):
            _learning(left, curves[result.name])
            left.set(title=f"{result.name}: while it learns", ylabel="%")
            if result.cost:
                left.axvline(free, color="#666666", linestyle="--", linewidth=0.8)
                left.annotate("reading costs", (free, 2), (4, 0), textcoords="offset points", color="#444444")
            _without(right, result)
            right.set(title="without one head", ylabel="head")
        grid[-1][0].set(xlabel="step")
        grid[-1][1].set(xlabel="copying accuracy, %")
        grid[0][0].legend(frameon=False, fontsize=_POINTS - 1, loc="center right")
        grid[0][1].legend(frameon=False, fontsize=_POINTS - 1, loc="center left", bbox_to_anchor=(0.14, 0.5))
        return save(path)


def _learning(axes: Any, found: Sequence[Moment]) -> None:
    steps = [moment.step for moment in found]
    lines = {
        "copying accuracy": [m.copying for m in found],
        "induction score, best head": [m.induction for m in found],
        "previous-token score, best head": [m.previous for m in found],
    }
    for colour, marker, (label, heights) in zip(COLOURS, MARKERS, lines.items(), strict=False):
        axes.plot(steps, [100 * y for y in heights], label=label, color=colour, marker=marker, markersize=2.5, lw=1.2)
    axes.set_ylim(0, 103)


def _without(axes: Any, result: Copied) -> None:
    names = [head.name for head in result.heads]
    labels = {"induction": "induction head", "previous": "previous-token head", "other": "other head"}
    for colour, marker, (kind, label) in zip((*COLOURS[1:3], COLOURS[-1]), MARKERS, labels.items(), strict=False):
        at = [(100 * h.without, row) for row, h in enumerate(result.heads) if h.kind == kind]
        axes.scatter(*(zip(*at, strict=True) if at else ((), ())), label=label, color=colour, marker=marker, s=22)
    axes.axvline(100 * result.chance, color="#666666", linestyle=":", linewidth=1, label="a guess in the block")
    axes.axvline(100 * result.copying, color="#666666", linestyle="-", linewidth=0.8, label="all heads")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 103)
    axes.grid(axis="y", linewidth=0.3)


def draw_telephone(found: Sequence[Played], path: Path) -> list[Path]:
    """Words repeated over the words between, a panel for each game and a line for each model."""
    games = list(dict.fromkeys(one.game for one in found))
    titles = {"message": "repeat the message", "who": "who said what?"}
    with _figure(0.8 + 3.4 * len(games), 3.4) as (figure, save):
        panels = figure.subplots(1, len(games), squeeze=False, sharey=True)[0]
        for axes, game in zip(panels, games, strict=True):
            own = [one for one in found if one.game == game]
            for one in own:
                number = PLAYERS.index(one.name)
                style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4, "linewidth": 1.4}
                heights = [100 * share for share in one.accuracy.values()]
                axes.plot(range(len(heights)), heights, label=one.name, **style)
            distances = list(own[0].accuracy)
            axes.axvspan(0, distances.index(own[0].farthest), color="#000000", alpha=0.05, linewidth=0)
            axes.annotate("in training", (0, 102), (3, 0), textcoords="offset points", fontsize=_POINTS - 1.5)
            axes.axhline(100 * own[0].guess, color="#666666", linestyle=":", linewidth=1, label="a guess")
            axes.set_xticks(range(len(distances)), map(str, distances))
            axes.set(xlabel="words between", title=titles[game], ylim=(0, 108))
        panels[0].set_ylabel("words repeated, %")
        figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
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
