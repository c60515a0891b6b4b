"""Plots for papers, with matplotlib: `pip install 'foveate[plot]'`.

Each function takes weights (an `AttentionMap`, a tensor, an array, or nested lists) and gives a figure as wide as a
column of a paper; with `ax=` it draws on those axes and gives them back. Text stays text in SVG and PDF. No window is
opened, `pyplot` is not imported, and matplotlib's settings stay as they were.
"""

from .columns import lines
from .matrix import heatmap
from .multiples import head_grid
from .patches import patches
from .removals import removals
from .words import alignment

__all__ = ["alignment", "head_grid", "heatmap", "lines", "patches", "removals"]
