"""One `with` that changes attention: the modules it stands around, and what it says at the end."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..watch.events import Call
from ..watch.standing import Standing, some
from . import combining, eager
from .errors import ChangeError
from .naming import Chosen, Pair, check_head
from .reading import Reading

__all__ = ["Intervention"]


class Intervention(Standing):
    """A context manager that changes attention inside it. One object may be entered again once it has been left.

    Subclasses say what becomes of a call by `factors`, or, if it `reweighs`, by `reweigh`.
    """

    changes = True
    error, doing = ChangeError, "change"
    reweighs = False  # whether it changes weights

    def __init__(self, model: nn.Module, pairs: list[Pair]) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"an intervention takes an nn.Module; got {type(model).__name__}")
        super().__init__(model)
        self.pairs = pairs
        self.chosen = Chosen(model, pairs)
        self.ran: set[str] = set()  # modules in which attention was seen
        self.standing = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to change, so that the model is left as it is."""
        return not self.chosen

    def __enter__(self) -> None:
        if self.standing:
            raise ChangeError("this intervention is in force already; make another one to change attention twice")
        self.chosen, self.ran = Chosen(self.model, self.pairs), set()
        if self.empty:
            return
        self.paths, self.modules = {}, []
        self.find()
        eager.stand(self)
        self.standing = True

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not self.standing:
            return
        self.standing = False
        eager.let_go(self)
        if kind is None:
            self.ended()

    def ended(self) -> None:
        """What was to be changed must have run.

        Raises:
            ChangeError: some of it did not.
        """
        missing = self.chosen.missing()
        if not missing:
            return
        told = f"nothing was changed in {some(map(str, missing))}: no attention that can be changed ran there"
        if self.ran:
            raise ChangeError(f"{told}; it ran in {some(self.ran)}")
        raise ChangeError(
            f"{told}, or anywhere, inside the `with`. Was the model called? Attention that is written by hand or "
            "scripted cannot be changed: see docs/change.md"
        )

    # --- what interceptors ask

    def changes_inside(self, module: nn.Module) -> bool:
        inside = (self.paths.get(id(one)) for one in module.modules() if isinstance(one, nn.MultiheadAttention))
        return any(path is not None and self.chosen.may_be(self.shown(path)) for path in inside)

    def wants(self, name: str) -> bool:
        """Whether the calls of this module are to be changed."""
        self.ran.add(name)
        return bool(self.chosen.of(name))

    def change(self, call: Call, wanted: list[tuple[Intervention, nn.Module]]) -> Call:
        """The call as all of `wanted` would have it; this is the first of them."""
        return combining.change(call, wanted)

    # --- what subclasses say

    def heads_of(self, name: str, total: int) -> dict[Pair, int]:
        """The pairs that mean heads of this module, and the heads' numbers.

        Raises:
            NoSuchHeadError: it has no such head.
        """
        found = self.chosen.of(name)
        for pair in found:
            check_head(pair, name, total)
        return found

    def factors(self, name: str, batch: int, total: int) -> dict[int, float | Tensor]:
        """Head -> what its output is multiplied with: a number, or a tensor () or (batch,)."""
        return {}

    def reweigh(self, reading: Reading) -> None:
        """Change the weights of a call."""
