"""All plots alike: files keep text as text, matplotlib is left as it was, errors say the rule."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import foveate as fv
from foveate.extras import MissingExtraError
from foveate.plot import figures, tokens
from plotted import B, H, K, Q, check_layout, names, some_map, svg, translation, written

DRAWN = {
    "heatmap": lambda **o: fv.plot.heatmap(torch.linspace(0, 1, Q * K).view(Q, K), names(Q), names(K), **o),
    "alignment": lambda **o: fv.plot.alignment(translation(), links=True, **o),
    "head_grid": lambda **o: fv.plot.head_grid([torch.linspace(0, 1, H * Q * K).view(H, Q, K)] * 2, **o),
    "lines": lambda **o: fv.plot.lines(torch.linspace(0, 1, H * Q * K).view(H, Q, K), names(Q), names(K), **o),
}


@pytest.mark.parametrize("name", DRAWN)
def test_files_keep_text_and_hold_no_date(name: str, tmp_path: Path) -> None:
    bytes_of = {}
    for kind, count in itertools.product(("svg", "pdf", "png"), range(2)):
        path = tmp_path / f"{count}.{kind}"
        DRAWN[name]().savefig(path)
        bytes_of[kind, count] = path.read_bytes()
    for kind in ("svg", "pdf", "png"):
        assert bytes_of[kind, 0] == bytes_of[kind, 1]
    assert b"<dc:date>" not in bytes_of["svg", 0]
    assert b"/CIDFontType2" in bytes_of["pdf", 0]  # TrueType, whose text can be searched and edited
    assert b"/Type3" not in bytes_of["pdf", 0]
    assert DRAWN[name]()._repr_svg_().encode() == bytes_of["svg", 0]
    texts = written(DRAWN[name]())
    for word in {"heatmap": names(Q), "alignment": ["black", "noirs"], "head_grid": "012", "lines": names(Q)}[name]:
        assert tokens.shortened(word) in texts
    sizes = re.findall(r"font-size: ([\d.]+)px", bytes_of["svg", 0].decode())
    assert sizes and all(6 <= float(size) <= 8 for size in sizes)
    assert Figure.savefig(DRAWN[name](), io.BytesIO()) is None  # matplotlib's own way works, too


@pytest.mark.parametrize("name", DRAWN)
def test_axes_of_the_callers_are_drawn_on_and_given_back(name: str) -> None:
    figure = Figure(figsize=(7, 5), layout="constrained")
    ax = figure.add_subplot(1, 2, 2)
    assert DRAWN[name](ax=ax, title="A title") is ax
    assert ax.get_title() == "A title"
    check_layout(figure)


@pytest.mark.parametrize("name", DRAWN)
def test_widths(name: str) -> None:
    assert DRAWN[name](width=5).get_figwidth() == pytest.approx(5)
    with pytest.raises(ValueError, match=r"width must leave half an inch .*: \d\.\d or more here"):
        DRAWN[name](width=0.5)


@pytest.mark.parametrize("name", DRAWN)
def test_the_users_settings_stay_and_do_not_spoil_a_picture(name: str) -> None:
    plain = svg(DRAWN[name]())
    odd = {"figure.autolayout": True, "axes.grid": True, "font.size": 20, "svg.fonttype": "path", "image.cmap": "jet"}
    with matplotlib.rc_context(odd):
        before = matplotlib.rcParams.copy()
        assert svg(DRAWN[name]()) == plain
        assert matplotlib.rcParams.copy() == before


def test_no_window_and_no_global_state() -> None:
    code = (
        "import sys, foveate as fv\n"
        "assert 'matplotlib' not in sys.modules and 'foveate.plot' not in sys.modules\n"
        "fv.plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        "w = [[.2, .8], [.5, .5]]\n"
        "lines = fv.plot.lines(w, ['a', 'b'], ['x', 'y'])\n"
        "for figure in (fv.plot.heatmap(w), fv.plot.alignment(w), fv.plot.head_grid([[w]]), lines):\n"
        "    figure.savefig('/dev/null', format='svg')\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", DRAWN)
def test_without_matplotlib_it_is_said_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"^matplotlib is not installed; run: pip install 'foveate\[plot\]'$"):
        DRAWN[name]()


WRONG: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: fv.plot.heatmap(some_map(B, H)),
        ValueError,
        r"\(queries, keys\); got shape \(2, 3, 5, 7\): choose",
    ),
    (lambda: fv.plot.heatmap(torch.rand(H, Q, K)), ValueError, r"got shape \(3, 5, 7\).* as in weights\[0\]"),
    (lambda: fv.plot.heatmap(torch.rand(K)), ValueError, r"axes \(queries, keys\); got shape \(7,\)"),
    (lambda: fv.plot.heatmap(some_map(B, H), index=(1,)), ValueError, r"one int for each axis .*, \(2, 3\); got 1"),
    (lambda: fv.plot.heatmap(some_map(B, H), index=(2, 0)), IndexError, r"within the axes .*, \(2, 3\); got \(2, 0\)"),
    (lambda: fv.plot.heatmap(torch.rand(0, K)), ValueError, "at least one query and one key; got 0 x 7"),
    (lambda: fv.plot.heatmap([[1, 2], [3]]), TypeError, "nested lists of numbers with rows of one length; got list"),
    (lambda: fv.plot.heatmap("abc"), TypeError, "weights must be an AttentionMap, .*; got str"),
    (lambda: fv.plot.heatmap([[0.5, -0.5]]), ValueError, "must be 0 or more and finite"),
    (lambda: fv.plot.heatmap([[0.5, np.inf]]), ValueError, "must be 0 or more and finite"),
    (lambda: fv.plot.heatmap(torch.rand(Q, K), names(K)), ValueError, "rows must name each of the 5 rows .*; got 7"),
    (
        lambda: fv.plot.heatmap(torch.rand(Q, K), None, names(Q)),
        ValueError,
        "columns must name each of the 7 ",
    ),
    (lambda: fv.plot.heatmap(torch.rand(Q, K), "abcde"), ValueError, "rows must be a list of 5 names; got one string"),
    (lambda: fv.plot.heatmap(torch.rand(Q, K), vmax=0), ValueError, "vmax must be above 0; got 0"),
    (lambda: fv.plot.heatmap(torch.rand(Q, K), cells=0), ValueError, "cells must be at least 1; got 0"),
    (lambda: fv.plot.alignment(torch.rand(H, Q, K)), ValueError, r"\(target words, source words\).*\(3, 5, 7\)"),
    (lambda: fv.plot.alignment(torch.rand(Q, K), names(Q)), ValueError, "source must name each of the 7 .*; got 5"),
    (lambda: fv.plot.alignment(torch.rand(Q, K), None, ["x"]), ValueError, "target must name each of the 5 .*; got 1"),
    (lambda: fv.plot.alignment([translation()]), ValueError, r"one translation; got a list .*translations\[0\]"),
    (lambda: fv.plot.alignment(SimpleNamespace(word_weights=None)), ValueError, "this translation has no weights"),
    (lambda: fv.plot.alignment(torch.rand(2, 3), links=[(2, 2)]), ValueError, "3 source words and 2 target words"),
    (lambda: fv.plot.alignment(torch.rand(2, 3), gold="0-0"), TypeError, "links must be pairs of word numbers"),
    (lambda: fv.plot.head_grid([]), ValueError, "the list of layers is empty"),
    (lambda: fv.plot.head_grid([torch.rand(Q, K)]), ValueError, r"axes \(heads, queries, keys\).*shape \(5, 7\)"),
    (lambda: fv.plot.head_grid(some_map(B, H), sequence=2), IndexError, "sequence must be numbers from 0 to 1; got 2"),
    (lambda: fv.plot.head_grid(some_map(B, H), heads=[3]), IndexError, "heads must be numbers from 0 to 2; got 3"),
    (lambda: fv.plot.head_grid(some_map(B, H), heads=[]), ValueError, "at least one head"),
    (lambda: fv.plot.head_grid(some_map(B, H), layers=[1]), IndexError, "layers must be numbers from 0 to 0; got 1"),
    (lambda: fv.plot.head_grid(some_map(B, H), layers=[]), ValueError, "at least one layer"),
    (lambda: fv.plot.lines(some_map(B, H), names(Q), names(K)), ValueError, r"got shape \(2, 3, 5, 7\): choose a seq"),
    (lambda: fv.plot.lines(torch.rand(Q, K), names(K), names(K)), ValueError, "rows must name each of the 5 .*; got 7"),
    (lambda: fv.plot.lines(torch.rand(Q, K), names(Q), "abcdefg"), ValueError, "columns must be a list of 7 names"),
    (lambda: fv.plot.lines(torch.rand(H, Q, K), names(Q), names(K), head=3), IndexError, "head must be from 0 to 2"),
    (lambda: fv.plot.lines(torch.rand(25, 1, 1), ["a"], ["b"]), ValueError, "1 to 24 heads apart; got 25"),
    (lambda: fv.plot.lines(torch.rand(Q, K), names(Q), names(K), row=5), IndexError, "row must be from 0 to 4; got 5"),
    (lambda: fv.plot.lines(torch.rand(Q, K), names(Q), names(K), top=0), ValueError, "top must be at least 1; got 0"),
    (lambda: fv.plot.lines(torch.rand(401, 1), names(401), ["b"]), ValueError, "at most 400 tokens in a column"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_say_the_rule(number: int) -> None:
    call, kind, words = WRONG[number]
    with pytest.raises(kind, match=words):
        call()


def test_ticks_are_thinned_from_both_ends() -> None:
    figure = Figure(figsize=(4, 4))
    ax = figure.add_axes((0, 0, 1, 1))
    locator = figures.TokenLocator(10, apart=0.5)
    ax.xaxis.set_major_locator(locator)
    ax.set_xlim(-0.5, 9.5)
    assert list(locator()) == [0, 2, 4, 6, 9]
    locator.apart = 5
    assert list(locator()) == [0]
    locator.apart = 0.1
    assert list(locator()) == list(range(10))


def test_the_page_runs_and_its_pictures_are_those_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Path(__file__).parent.parent / "docs"
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (docs / "plot.md").read_text(), re.DOTALL):
        exec(compile(block, "docs/plot.md", "exec"), scope)
    for name in DRAWN:
        made, kept = (folder / f"{name}.svg" for folder in (tmp_path, docs / "plot"))
        assert 0 < kept.stat().st_size < 60_000
        texts = [re.findall(r">([^<>]+)</text>", path.read_text()) for path in (made, kept)]
        assert texts[0] == texts[1], f"{name}.svg is no longer what the page makes"
