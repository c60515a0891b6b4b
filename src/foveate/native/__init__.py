"""The compiled core: output and statistics of attention in one pass, on the CPU, where a C++ compiler was at hand."""

from .call import DTYPES, MOST_WIDTH, NAN_ROWS, ODD_VALUES, Found, Lists, Wanted, run
from .library import Core, find
from .report import Config, config

__all__ = [
    "DTYPES",
    "MOST_WIDTH",
    "NAN_ROWS",
    "ODD_VALUES",
    "Config",
    "Core",
    "Found",
    "Lists",
    "Wanted",
    "config",
    "find",
    "run",
]
