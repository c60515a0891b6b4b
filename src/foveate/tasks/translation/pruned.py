"""Translators of which some heads were taken out: what `model.json` says of them, and how they come back.

`"pruned": {"modules": {path: {"heads", "groups", "kept"}}, "before": {...}}`: which heads of the shape are left, and
facts of the whole model that changed. What was removed is in `removed.safetensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...heads.pruning.prune import Pruned, prune, record_of
from ...heads.pruning.store import REMOVED, modules_of, read_modules, read_parts, save_parts
from ...recording.calls import layer_of
from ..alignment import Reading

__all__ = ["facts_of", "reading_of", "save_removed", "shrink", "surviving"]

_CHANGED = ("parameters", "reading")  # facts that pruning changes


def shrink(model: nn.Module, facts: Mapping[str, Any], folder: Path) -> None:
    """Cut a freshly built model to the heads that its folder says it has.

    Raises:
        ValueError, KeyError, TypeError: the description does not fit.
    """
    if "pruned" not in facts:
        return
    modules = read_modules(facts["pruned"]["modules"])
    gone = {path: [h for h in range(told["heads"]) if h not in told["kept"]] for path, told in modules.items()}
    record = prune(model, {path: heads for path, heads in gone.items() if heads})
    wrong = [p for p, told in modules.items() if p not in record.sites or told["heads"] != record.sites[p].total]
    if wrong:
        raise ValueError(f"the heads of {', '.join(wrong)} are not those of the shape")
    if (folder / REMOVED).is_file():
        record.parts.update(read_parts(folder, record))


def facts_of(model: nn.Module, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they are to be written of a model as it is: with what was pruned, or those of the whole model."""
    before = _before(facts)
    plain = {name: value for name, value in facts.items() if name != "pruned"}
    record = record_of(model)
    if record is None or not record.removed:
        return {**plain, **before}
    changed = {"parameters": record.parameters[1], "pruned": {"modules": modules_of(record), "before": before}}
    if "reading" in before:
        changed["reading"] = reading_of(facts, Reading.from_json(before["reading"]), record).as_json()
    return {**plain, **changed}


def reading_of(facts: Mapping[str, Any], default: Reading, record: Pruned | None) -> Reading:
    """Which attention to read: what facts say, or the default of the whole model, by the heads' numbers as they are."""
    told = facts.get("reading")
    if record is None or not record.removed:
        return default if told is None else Reading.from_json(told)
    if told is not None and facts.get("pruned", {}).get("modules") == modules_of(record):
        return Reading.from_json(told)
    first = _before(facts).get("reading")
    return surviving(default if first is None else Reading.from_json(first), record)


def _before(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of the whole model, those facts that pruning changes."""
    if "pruned" in facts:
        return dict(facts["pruned"]["before"])
    return {name: facts[name] for name in _CHANGED if name in facts}


def save_removed(folder: Path, model: nn.Module) -> None:
    """Write what was removed, and delete what an earlier model left behind."""
    record = record_of(model)
    if record is None or not record.removed:
        (folder / REMOVED).unlink(missing_ok=True)
    else:
        save_parts(folder, record)


def surviving(reading: Reading, record: Pruned) -> Reading:
    """The same reading by the heads' new numbers; if its head is gone, the mean of those that are left.

    A module without heads is not read; if none is left, the cross-attention with heads that is nearest below or above.
    """
    left = {path: kept for path, kept in record.kept.items() if kept}
    modules = tuple(path for path in reading.modules if path in left)
    if not modules:
        cross = [path for path in left if "cross_attention" in path]
        modules = tuple(sorted(cross, key=lambda path: abs(_layer(path) - _layer(reading.modules[-1])))[:1])
        return Reading(modules, "mean", reading.shift) if modules else reading
    places = {left[path].index(reading.head) if reading.head in left[path] else None for path in modules}
    (place, *others) = places
    if reading.head == "mean" or place is None or others:
        return Reading(modules, "mean", reading.shift)
    return Reading(modules, place, reading.shift)


def _layer(path: str) -> int:
    found = layer_of(path)
    return 0 if found is None else found
