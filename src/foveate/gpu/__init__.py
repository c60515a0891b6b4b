"""Output and statistics of attention on a GPU, by kernels of our own. Triton is imported only when one is launched."""

from .find import obstacle
from .launch import DTYPES, MOST_BEST, MOST_WIDTH, Band, Tiles, run, tiles

__all__ = ["DTYPES", "MOST_BEST", "MOST_WIDTH", "Band", "Tiles", "obstacle", "run", "tiles"]
