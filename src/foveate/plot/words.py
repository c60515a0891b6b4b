"""Which words a translation was read from, as Bahdanau et al. (2015, "Neural Machine Translation by Jointly Learning
to Align and Translate", figure 3) draw it.

Axes: J target words, I source words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .given import Grid, numbers
from .matrix import Look, draw
from .style import COLOURS, COLUMN, LINE, POINTS, drawing
from .tokens import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["alignment"]

_LINK, _GOLD = COLOURS[1], COLOURS[5]


def alignment(
    translation: Any,
    source: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    *,
    links: bool | Iterable[tuple[int, int]] = False,
    gold: Any = None,
    ax: Axes | None = None,
    width: float = COLUMN,
    title: str | None = None,
    numbers: bool | None = None,
    vmax: float = 1.0,
    cmap: Any = "Blues",
    bar: bool = True,
) -> Figure | Axes:
    """Word by word, what a translation was read from: source words on top, target words at the left.

    Args:
        translation: what `Translator.translate` gives for one text, or weights (J, I).
        source: I source words; default: those of the translation.
        target: J target words; default: those of the translation.
        links: mark links with a dot: True for the source word that each word read most, or (source word, target word)
            pairs, such as `translation.alignment`.
        gold: links that people drew, as outlines: pairs, or a `fv.tasks.alignment.Gold`, possible links dashed.
        ax: draw here; default: a new figure.
        width: inches, of the new figure; more of them for more words.
        title: written above.
        numbers: write weights into their cells; default: where there is room.
        vmax: the weight of the darkest colour.
        cmap: matplotlib's name of a colour map.
        bar: draw the colour bar.

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        TypeError: weights are no numbers, or links no pairs.
        ValueError: the words are not one for each row and column, a link lies outside of them, or the translation has
            no weights.
        MissingExtraError: matplotlib is not installed.
    """
    weights, source, target = _read(translation, source, target)
    grid = Grid(weights, None, *weights.shape)
    names = named(target, grid.queries, "target", pieces=False), named(source, grid.keys, "source", pieces=False)
    if links is True:
        links = getattr(translation, "alignment", None) or _hard(weights)
    marks = _marks(() if links is False else links, gold, grid)
    below = 1.5 * LINE if any(marks.values()) else 0.0
    look = Look(title, width, ("", ""), numbers, vmax, cmap, bar, top=True, below=below)
    drawn = draw(ax, grid, names, look)
    if below:
        with drawing():
            _mark(drawn, marks)
    return drawn.figure if ax is None else drawn


def _read(translation: Any, source: Any, target: Any) -> tuple[Any, Any, Any]:
    """Weights (J, I) and the words."""
    if hasattr(translation, "word_weights"):
        if translation.word_weights is None:
            raise ValueError("this translation has no weights: its model has no attention, or weights=False was given")
        source = translation.source_words if source is None else source
        target = translation.words if target is None else target
        translation = translation.word_weights
    elif isinstance(translation, list | tuple) and translation and hasattr(translation[0], "word_weights"):
        raise ValueError("alignment draws one translation; got a list of them: choose, as in translations[0]")
    weights = numbers(translation)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(
            f"weights must have the axes (target words, source words), none of them empty; got shape {weights.shape}"
        )
    return weights, source, target


def _hard(weights: Any) -> frozenset[tuple[int, int]]:
    import torch

    from ..tasks.alignment import hard

    return hard(torch.as_tensor(weights))


def _marks(links: Any, gold: Any, grid: Grid) -> dict[str, set[tuple[int, int]]]:
    """What to mark, by its name in the legend, as sorted (source, target) pairs."""
    sure = () if gold is None else getattr(gold, "sure", gold)
    possible = getattr(gold, "possible", ())
    marks = {}
    for name, given in (("link", links), ("gold", sure), ("gold, possible", possible)):
        try:
            pairs = {(int(i), int(j)) for i, j in given}
        except (TypeError, ValueError):
            raise TypeError("links must be pairs of word numbers, (source word, target word)") from None
        for i, j in pairs:
            if not (0 <= i < grid.keys and 0 <= j < grid.queries):
                raise ValueError(
                    f"links must lie within {grid.keys} source words and {grid.queries} target words; got {(i, j)}"
                )
        marks[name] = pairs
    marks["gold, possible"] -= marks["gold"]
    return marks


def _mark(ax: Any, marks: dict[str, set[tuple[int, int]]]) -> None:
    """Dots for links, squares for gold, and a legend below."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    from .figures import inches

    cell = 72 * min(inches(ax.xaxis) / ax.viewLim.width, inches(ax.yaxis) / abs(ax.viewLim.height))
    dot: dict[str, Any] = {
        "marker": "o",
        "color": _LINK,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "linestyle": "",
    }
    handles: list[Any] = []
    if marks["link"]:
        across, down = zip(*sorted(marks["link"]), strict=True)
        size, aside = (0.22, 0.33) if ax.texts else (0.45, 0.0)  # in the corner, where the middle holds a number
        ax.plot([i + aside for i in across], [j - aside for j in down], markersize=min(4.5, size * cell), **dot)
        handles.append(Line2D([], [], markersize=4, label="link", **dot))
    for name, style in (("gold", "-"), ("gold, possible", (0, (2, 1.2)))):
        box: dict[str, Any] = {"fill": False, "edgecolor": _GOLD, "linewidth": 1.2, "linestyle": style}
        for i, j in sorted(marks[name]):
            ax.add_patch(Rectangle((i - 0.42, j - 0.42), 0.84, 0.84, **box))
        if marks[name]:
            handles.append(Rectangle((0, 0), 1, 1, label=name, **box))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=3,
        frameon=False,
        fontsize=POINTS,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.2,
        borderpad=0.2,
    )
