"""Word alignment: reading it from attention, merging two directions, measuring it; independent of any model."""

from .choose import Alone, Best, candidates, choose, choose_alone, same_words
from .eflomal import eflomal_links
from .error_rate import ErrorRate, by_phenomenon, diagonal, error_rate
from .links import (
    Gold,
    Link,
    Links,
    format_gold,
    format_links,
    format_soft,
    parse_gold,
    parse_links,
    parse_soft,
    read_gold,
    read_links,
    read_naacl,
    read_soft,
    swap,
)
from .readings import Reading, hard, soft, without_closing, word_weights
from .symmetrize import METHODS, merged, symmetrize

__all__ = [
    "METHODS",
    "Alone",
    "Best",
    "ErrorRate",
    "Gold",
    "Link",
    "Links",
    "Reading",
    "by_phenomenon",
    "candidates",
    "choose",
    "choose_alone",
    "diagonal",
    "eflomal_links",
    "error_rate",
    "format_gold",
    "format_links",
    "format_soft",
    "hard",
    "merged",
    "parse_gold",
    "parse_links",
    "parse_soft",
    "read_gold",
    "read_links",
    "read_naacl",
    "read_soft",
    "same_words",
    "soft",
    "swap",
    "symmetrize",
    "without_closing",
    "word_weights",
]
