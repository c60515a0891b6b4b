"""Optional packages: imported when needed, with the install command in one line when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import UserError

__all__ = ["MissingExtraError", "need"]


class MissingExtraError(UserError, ModuleNotFoundError):
    """An optional package is not installed."""


def need(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra of foveate brings it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(f"{package} is not installed; run: pip install 'foveate[{extra}]'") from None
