"""foveate: attention you can run and see. Attention weights are a view, not data."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from . import linear, masks, normalizers, positions, scores, stats
from .attend import attention
from .linear import linear_attention
from .map import AttentionMap
from .native import config
from .recording import Recording, load
from .retrieval import lookup
from .watch import watch  # from here on `foveate.watch` is the function; the package is still imported by its path

if TYPE_CHECKING:
    from . import faithful, heads, hf, nn, plot, tasks, vision
    from .apps.head_view import head_view
    from .apps.viewing import export_html, view
    from .change import block, knockout, replace, scale
    from .views.pictures import Picture

__all__ = [
    "AttentionMap",
    "Picture",
    "Recording",
    "attention",
    "block",
    "config",
    "export_html",
    "faithful",
    "head_view",
    "heads",
    "hf",
    "knockout",
    "linear",
    "linear_attention",
    "load",
    "lookup",
    "masks",
    "nn",
    "normalizers",
    "plot",
    "positions",
    "replace",
    "scale",
    "scores",
    "stats",
    "tasks",
    "view",
    "vision",
    "watch",
]

# Names that open windows, or that most users of the operator never need, are loaded when first used.
_LATER = {
    "Picture": "views.pictures",
    "view": "apps.viewing",
    "export_html": "apps.viewing",
    "head_view": "apps.head_view",
    "block": "change",
    "knockout": "change",
    "replace": "change",
    "scale": "change",
    "plot": "",
    "heads": "",
    "faithful": "",
    "nn": "",
    "hf": "",
    "tasks": "",
    "vision": "",
}

try:
    __version__ = version("foveate")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    from importlib import import_module

    home = _LATER[name]
    thing = getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
