"""Turn our frozen dataclasses into (JSON, tensors) and back, so that a recording never needs pickle.

A class takes part by the decorator `describable`. Its fields may be None, bool, int, float, str, tuples of
these, tensors, or further describable objects. Nothing outside the register can be restored.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["describable", "describe", "restore"]

_KINDS: dict[str, type] = {}
_DEPTH = 32
_Class = TypeVar("_Class", bound=type)


def describable(cls: _Class) -> _Class:
    """Register a dataclass under its own name."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"describable takes a dataclass; got {cls.__name__}")
    if cls.__name__ in _KINDS:
        raise TypeError(f"two describable classes are named {cls.__name__}")
    _KINDS[cls.__name__] = cls
    return cls


def describe(thing: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give `(description, tensors)`: plain JSON, in which each tensor is `{"tensor": name}`.

    Raises:
        TypeError: `thing` holds something that has no description, such as a Python function.
        ValueError: it is nested beyond 32 levels, so that it could not be restored.
    """
    tensors: dict[str, Tensor] = {}
    description = _pack(thing, tensors, _DEPTH)
    if not isinstance(description, dict):
        raise TypeError(f"only describable objects have a description; got {type(thing).__name__}")
    return description, tensors


def restore(description: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `describe`.

    Raises:
        ValueError: an unknown kind, unknown or missing fields, a field of the wrong type or with a value its class
            refuses, a missing tensor, or nesting beyond 32 levels.
    """
    if not isinstance(description, dict):
        raise ValueError(f"a description is a JSON object with a kind; got {type(description).__name__}")
    if "kind" not in description:
        raise ValueError(f"unknown kind None in a description; known: {', '.join(sorted(_KINDS))}")
    return _unpack(description, tensors, _DEPTH)


def _pack(thing: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth == 0:
        raise ValueError(f"a description may be nested {_DEPTH} levels deep at most")
    if isinstance(thing, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = thing
        return {"tensor": name}
    cls: Any = type(thing)
    if cls in _KINDS.values():
        fields = {f.name: _pack(getattr(thing, f.name), tensors, depth - 1) for f in dataclasses.fields(cls)}
        return {"kind": cls.__name__, **fields}
    if isinstance(thing, float) and not math.isfinite(thing):
        return {"float": repr(thing)}
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, tuple):
        return [_pack(item, tensors, depth - 1) for item in thing]
    raise TypeError(f"{type(thing).__name__} has no description and cannot be stored")


def _unpack(item: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth == 0:
        raise ValueError(f"a description may be nested {_DEPTH} levels deep at most")
    if isinstance(item, list):
        return tuple(_unpack(part, tensors, depth - 1) for part in item)
    if not isinstance(item, dict):
        return item
    if set(item) == {"tensor"}:
        if not isinstance(item["tensor"], str) or item["tensor"] not in tensors:
            raise ValueError(f"the description names a tensor {item['tensor']!r} that is not there")
        return tensors[item["tensor"]]
    if set(item) == {"float"}:
        if item["float"] not in ("nan", "inf", "-inf"):
            raise ValueError("a float in a description must be 'nan', 'inf' or '-inf'")
        return float(item["float"])
    kind = item.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"unknown kind {kind!r} in a description; known: {', '.join(sorted(_KINDS))}")
    cls = _KINDS[kind]
    names = {f.name for f in dataclasses.fields(cls)}
    if set(item) - {"kind"} != names:
        raise ValueError(f"a {kind} has the fields {sorted(names)}; got {sorted(set(item) - {'kind'})}")
    found = {name: _unpack(item[name], tensors, depth - 1) for name in names}
    hints = typing.get_type_hints(cls)
    for name, value in found.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"the field {name} of a {kind} has the wrong type, {type(value).__name__}")
    try:
        return cls(**found)
    except (TypeError, ValueError) as e:
        raise ValueError(f"a {kind} in a description cannot be: {e}") from None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; inside tuples only the outer type is looked at."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    plain = typing.get_origin(hint) or hint
    if plain is Any or not isinstance(plain, type):
        return True
    if isinstance(value, bool):
        return plain is bool
    return isinstance(value, (int, float) if plain is float else plain)
