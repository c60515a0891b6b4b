"""How heads are named: pairs (where, head). `where` is the number of a layer, or the path of a module as `fv.watch`
names it, or a path under which one attention module lies."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from ..recording.calls import layer_of
from ..shapes import whole
from ..watch.standing import shown
from .errors import NoSuchHeadError

__all__ = ["Chosen", "Pair", "attention_modules", "check_head", "pairs_of", "paths_of", "resolve"]

Where = int | str
Pair = tuple[Where, int]


def pairs_of(heads: Any) -> list[Pair]:
    """Pairs (where, head), checked, in the order given and each once. One pair alone will do.

    Raises:
        ValueError: something that is no pair of a layer's number or a module's path, and a head's number from 0.
    """
    rule = "heads are pairs (layer number or module path, head number), such as {(3, 5)}"
    if isinstance(heads, str | bytes) or not isinstance(heads, Iterable):
        raise ValueError(f"{rule}; got {heads!r}")
    given = list(heads)
    if len(given) == 2 and isinstance(given[0], int | str) and not isinstance(given[1], tuple):
        given = [tuple(given)]
    found: dict[Pair, None] = {}
    for pair in given:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"{rule}; got {pair!r}")
        where, head = pair
        head = whole(head, "a head's number")
        where = where if isinstance(where, str) else whole(where, "a layer's number")
        if head < 0 or (isinstance(where, int) and where < 0):
            raise ValueError(f"{rule}, counted from 0; got {pair!r}")
        found[where, head] = None
    return list(found)


def paths_of(model: nn.Module) -> list[str]:
    """The paths of all modules, as they are shown."""
    return list(_modules(model))


def attention_modules(model: nn.Module) -> list[str]:
    """The paths of modules that look like attention: by their class, and none of that kind inside them.

    A look at the model tells no more; `fv.watch` sees where attention runs.
    """
    looks = [path for path, module in _modules(model).items() if "attention" in type(module).__name__.lower()]
    return [path for path in looks if not any(other.startswith(f"{path}.") for other in looks)]


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    return {shown(path, model): module for path, module in model.named_modules()}


def fits(where: Where, path: str) -> bool:
    """Whether a module is, or lies in, what `where` names."""
    return layer_of(path) == where if isinstance(where, int) else f"{path}.".startswith(f"{where}.")


def resolve(heads: Any, modules: Collection[str], what: str = "attention modules") -> dict[str, set[int]]:
    """Module path -> numbers of its heads, `modules` being the paths of the attention modules that there are.

    Raises:
        ValueError: a pair that is none.
        NoSuchHeadError: a number or path that fits no module, or several; `what` says what the modules are.
    """
    found: dict[str, set[int]] = {}
    for where, head in pairs_of(heads):
        fitting = [path for path in modules if path == where] or [path for path in modules if fits(where, path)]
        if not fitting:
            raise NoSuchHeadError(f"{_named(where)} fits none of the {what}: {_listed(modules)}")
        if len(fitting) > 1:
            raise NoSuchHeadError(_several(where, fitting))
        found.setdefault(fitting[0], set()).add(head)
    return found


def check_head(pair: Pair, name: str, total: int) -> None:
    """Whether a module has the head of a pair.

    Raises:
        NoSuchHeadError: it has not.
    """
    if pair[1] >= total:
        raise NoSuchHeadError(f"{pair}: {name} has {f'heads 0 to {total - 1}' if total else 'no heads'}")


class Chosen:
    """The heads that an intervention is for. Which modules they belong to shows when attention runs in them."""

    def __init__(self, model: nn.Module, pairs: Iterable[Pair]) -> None:
        self.heads: dict[Where, list[int]] = {}
        for where, head in pairs:
            self.heads.setdefault(where, []).append(head)
        self.bound: dict[Where, str] = {}
        paths, looks = paths_of(model), attention_modules(model)
        for where in self.heads:
            if not any(fits(where, path) for path in paths):
                close = difflib.get_close_matches(str(where), paths, n=3)
                hint = f"; there is {', '.join(close)}" if close else f"; attention seems to be in {_listed(looks)}"
                raise NoSuchHeadError(f"{_named(where)} fits no module of {type(model).__name__}{hint}")
            fitting = [] if where in looks else [path for path in looks if fits(where, path)]
            if len(fitting) > 1:
                raise NoSuchHeadError(_several(where, fitting))

    def __bool__(self) -> bool:
        return bool(self.heads)

    def may_be(self, name: str) -> bool:
        """Whether a module of this path may be among those meant."""
        return any(fits(where, name) for where in self.heads)

    def of(self, name: str) -> dict[Pair, int]:
        """The pairs that mean heads of this module, in which attention runs, and the heads' numbers.

        Raises:
            NoSuchHeadError: a number or path fits another module, in which attention ran, too.
        """
        found: dict[Pair, int] = {}
        for where, heads in self.heads.items():
            if not fits(where, name):
                continue
            bound = self.bound.setdefault(where, name)
            if name != bound and where != bound:
                raise NoSuchHeadError(_several(where, [bound, name]))
            if name == bound:
                found.update({(where, head): head for head in heads})
        return found

    def missing(self) -> list[Pair]:
        """The pairs whose module has not run."""
        return [(where, head) for where, heads in self.heads.items() if where not in self.bound for head in heads]


def _named(where: Where) -> str:
    return f"layer {where}" if isinstance(where, int) else f"the path {where!r}"


def _several(where: Where, paths: Collection[str]) -> str:
    return f"{_named(where)} fits several attention modules, {_listed(paths)}; name one by its path"


def _listed(paths: Collection[str], most: int = 8) -> str:
    shown = ", ".join(list(paths)[:most])
    return shown if len(paths) <= most else f"{shown}, ... ({len(paths)} in all)"
