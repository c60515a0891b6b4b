"""While attention is changed, what `torch.compile` made runs uncompiled: compiled code calls no module that we could
stand around, and compiling it again for each change would cost more than running it."""

from __future__ import annotations

import threading
from typing import Any

import torch

from ..watch.standing import Standing

__all__ = ["let_go", "stand"]

_lock = threading.Lock()
_state: dict[str, Any] = {"count": 0}


def _forced() -> None:
    """From here on compiled code runs uncompiled, in all threads, until `_released` as often."""
    with _lock:
        if _state["count"] == 0:
            _state["stance"] = torch.compiler.set_stance("force_eager")
            _state["stance"].__enter__()
        _state["count"] += 1


def _released() -> None:
    """Undo one `_forced`."""
    with _lock:
        _state["count"] -= 1
        if _state["count"] == 0:
            _state.pop("stance").__exit__(None, None, None)


def stand(standing: Standing) -> None:
    """Let it stand around its modules, compiled code uncompiled meanwhile. All is undone if that fails."""
    _forced()
    try:
        standing.stand()
    except BaseException:
        _released()
        raise


def let_go(standing: Standing) -> None:
    """Undo `stand`."""
    standing.let_go()
    _released()
