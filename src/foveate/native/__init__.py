"""The compiled core: output and statistics of attention in one pass, on the CPU, where a C++ compiler was at hand."""

from .call import DTYPES, MOST_WIDTH, NAN_ROWS, ODD_VALUES, Found, Lists, Wanted, run
from .library import Core, find

__all__ = ["DTYPES", "MOST_WIDTH", "NAN_ROWS", "ODD_VALUES", "Core", "Found", "Lists", "Wanted", "find", "run"]
