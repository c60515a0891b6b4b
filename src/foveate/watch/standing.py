"""What stands around the modules of a model: to record their attention, or to change it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import nn

from . import hf, intercept
from .events import Event
from .frames import Frame, attach, detach, is_compiled

__all__ = ["Standing", "kind_of", "plain", "shown", "some"]

_CROSS = re.compile(r"cross|encoder_attn|enc_?dec|multihead_attn$", re.IGNORECASE)


class Standing:
    """Stands around every module of one model, between `stand` and `let_go`. Base of what records and what changes.

    `error` is what is raised where a model cannot be stood around; `doing` names, in its text, what it was for.
    """

    changes: ClassVar[bool] = False
    error: ClassVar[type[Exception]]
    doing: ClassVar[str]
    _count: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.paths: dict[int, str] = {}
        self.modules: list[nn.Module] = []
        self.compiled: list[str] = []
        self.began = 0

    def find(self) -> None:
        """The modules to stand around: all but those inside compiled code, unless that is run uncompiled."""
        inside: tuple[str, ...] = ()
        for path, module in self.model.named_modules():
            if inside and path.startswith(inside):
                continue
            if isinstance(module, nn.DataParallel):
                raise self.error(
                    f"nn.DataParallel runs copies of the model in threads; {self.doing} `model.module` instead"
                )
            if isinstance(module, torch.jit.ScriptModule):
                inside = (*inside, path + ".") if path else ("",)
                continue
            if is_compiled(module) and not self.changes:
                inside = (*inside, path + ".")
                self.compiled.append(path)
            self.paths[id(module)] = plain(path)
            self.modules.append(module)

    def stand(self) -> None:
        """From here on calls are seen. All is undone if that fails."""
        self.began = next(self._count)
        hf.install(intercept.answer)
        try:
            for module in self.modules:
                attach(module, self, intercept.around)
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Undo `stand`."""
        hf.uninstall()
        for module in self.modules:
            detach(module, self)

    def name_of(self, module: nn.Module) -> str:
        """The path of a module that this one stands around."""
        return self.shown(self.paths[id(module)])

    def shown(self, path: str) -> str:
        """How a path of these is shown."""
        return shown(path, self.model)

    def entered(self, frame: Frame, outermost: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module that it stands around begins to run."""

    def changes_inside(self, module: nn.Module) -> bool:
        """Whether attention in one of PyTorch's own modules, or below it, is to be changed."""
        return False


def plain(path: str) -> str:
    """A module's path without what `torch.compile` puts into it."""
    return path.replace("_orig_mod.", "").removesuffix("_orig_mod").removesuffix(".")


def shown(path: str, model: nn.Module) -> str:
    """How people read the path of a module: what was compiled as before, the model itself by its class."""
    return plain(path) or type(model).__name__


def kind_of(name: str, module: nn.Module, event: Event) -> str:
    """ "encoder", "decoder" or "cross", by what the module is called, what it says of itself, and its mask."""
    tail = ".".join(name.split(".")[-2:])
    crosses = _CROSS.search(tail) or "Cross" in type(module).__name__
    if crosses or getattr(module, "is_cross_attention", False) is True:
        return "cross"
    return event.kind or "encoder"


def some(names: Iterable[str], most: int = 6) -> str:
    """A few names; of more, how many there are."""
    listed = sorted(set(names))
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown}, ... ({len(listed)} in all)"
