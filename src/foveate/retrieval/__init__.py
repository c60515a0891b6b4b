"""Looking up in a memory that does not fit into attention: `fv.lookup`."""

from .soft import Lookup, Report, lookup

__all__ = ["Lookup", "Report", "lookup"]
