"""Pruned models of transformers as folders, and back.

    config.json, model.safetensors, ...   the model of its whole size, all parts of removed heads zeros
    foveate_pruned.json                   which heads are left
    removed.safetensors                   what was removed, to be put back

A configuration of transformers cannot say that layers have different numbers of heads. So the folder holds a model
that plain transformers loads, and that computes the same; and that goes on doing so if it is trained there, as zeros on
both sides of a head get no gradients. `load` makes it small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ...extras import need
from .prune import Pruned, prune, record_of
from .sites import find

__all__ = [
    "DESCRIPTION",
    "REMOVED",
    "describe",
    "is_pruned",
    "load",
    "modules_of",
    "read_modules",
    "read_parts",
    "restore",
    "save",
    "save_parts",
    "shrink",
]

DESCRIPTION, REMOVED = "foveate_pruned.json", "removed.safetensors"
FORMAT = 1


def is_pruned(folder: str | Path) -> bool:
    """Whether a folder holds a pruned model of transformers."""
    return (Path(folder) / DESCRIPTION).is_file()


def save(model: Any, folder: str | Path) -> None:
    """Write a pruned model of transformers; its tokenizer is saved by its own `save_pretrained`.

    Raises:
        ValueError: nothing was pruned, or the model is none of transformers.
    """
    record = record_of(model)
    if record is None:
        raise ValueError("nothing was removed from this model; save it by its own save_pretrained")
    if not hasattr(model, "save_pretrained"):
        raise ValueError(f"{type(model).__name__} is no model of transformers, and has no folder format")
    folder = Path(folder)
    record.expand({})
    try:
        model.save_pretrained(folder)
    finally:
        record.shrink()
    save_parts(folder, record)
    before, now = record.parameters
    told = {"format": FORMAT, "parameters": {"before": before, "now": now}, "modules": modules_of(record)}
    (folder / DESCRIPTION).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def save_parts(folder: Path, record: Pruned) -> None:
    """Write what was removed."""
    save_file(record.parts, folder / REMOVED)


def modules_of(record: Pruned) -> dict[str, dict[str, Any]]:
    """How many heads and groups each module was made with, and which heads are left, as JSON."""
    return {p: {"heads": k.total, "groups": k.total_groups, "kept": list(k.heads)} for p, k in record.sites.items()}


def load(folder: str | Path, kind: Any = None, **options: Any) -> nn.Module:
    """The small model of a folder that `save` wrote, in evaluation mode.

    Args:
        kind: the class of transformers to load it by, such as `AutoModel`; default: the one that was saved.
        options: of its `from_pretrained`.

    Raises:
        ValueError: the folder is none, or its files do not belong together.
        ImportError: transformers is not installed.
    """
    describe(folder)  # raises before a model is read
    if kind is None:
        transformers = need("transformers", "hf")
        names = transformers.AutoConfig.from_pretrained(folder).architectures or ["AutoModel"]
        kind = getattr(transformers, names[0])
    model: nn.Module = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options).eval()
    return shrink(model, folder)


def shrink(model: nn.Module, folder: str | Path) -> nn.Module:
    """Cut a model that transformers loaded from such a folder to the heads that are left; returns the model.

    Raises:
        ValueError: the folder's description does not fit the model.
    """
    sites, wanted = find(model), describe(folder)
    gone: dict[str, tuple[int, ...]] = {}
    for path, module in wanted.items():
        there = _path(model, sites, path)
        if there is None:
            continue  # a class of transformers that leaves out a part of what was saved
        site = sites[there]
        if (site.heads, site.groups) != (module["heads"], module["groups"]):
            raise ValueError(
                f"{DESCRIPTION} says that {path} has {module['heads']} heads and {module['groups']} groups; the model "
                f"has {site.heads} and {site.groups}"
            )
        gone[there] = tuple(h for h in range(site.heads) if h not in module["kept"])
    if not gone:
        raise ValueError(f"{DESCRIPTION} names no module of {type(model).__name__}")
    record = prune(model, {path: heads for path, heads in gone.items() if heads})
    if (Path(folder) / REMOVED).is_file():
        record.parts.update(read_parts(Path(folder), record))
    return model


def restore(folder: str | Path, output: str | Path) -> nn.Module:
    """Write the whole model of a folder that `save` wrote into `output`, all heads in their places; returns it.

    Raises:
        ValueError: what was removed is not there, or does not fit.
    """
    if not (Path(folder) / REMOVED).is_file():
        raise ValueError(f"there is no {REMOVED} in {Path(folder).name}, and nothing to put back")
    model: Any = load(folder)
    record = record_of(model)
    assert record is not None
    record.restore()
    model.save_pretrained(output)
    return model


def describe(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What `foveate_pruned.json` says of each module: heads and groups before, and the numbers of heads that are left.

    Raises:
        ValueError: there is none, or it says something else.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"there is no {DESCRIPTION} in {Path(folder).name}: no pruned model")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']}; this version reads {FORMAT}")
        return read_modules(told["modules"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{DESCRIPTION} in {Path(folder).name} cannot be used: {error}") from None


def read_modules(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What `modules_of` gave, checked.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    return {str(name): _module(name, module) for name, module in told.items()}


def _module(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    heads, groups, kept = told["heads"], told["groups"], told["kept"]
    if not all(isinstance(n, int) and n > 0 for n in (heads, groups)) or heads % groups:
        raise ValueError(f"{name} must have whole numbers of heads and groups; got {heads!r} and {groups!r}")
    if not isinstance(kept, list) or sorted(set(kept)) != kept or not all(0 <= h < heads for h in kept):
        raise ValueError(f"the heads kept of {name} must be numbers from 0 to {heads - 1} in order; got {kept!r}")
    return {"heads": heads, "groups": groups, "kept": kept}


def _path(model: Any, sites: Mapping[str, Any], path: str) -> str | None:
    """Where a module of the class that was saved lies in this class: with a head for a task, a level deeper."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return next((p for p in (path, prefix + path, path.removeprefix(prefix)) if p in sites), None)


def read_parts(folder: Path, record: Pruned) -> dict[str, torch.Tensor]:
    """What was removed, by the paths of this model.

    Raises:
        ValueError: the file cannot be read, or is of another model.
    """
    try:
        stored = load_file(folder / REMOVED)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{REMOVED} in {folder.name} cannot be read: {error}") from None
    prefix = f"{getattr(record.model, 'base_model_prefix', '')}."
    found = {}
    for name, zeros in record.parts.items():
        part = next((stored[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in stored), None)
        if part is None or part.shape != zeros.shape:
            raise ValueError(f"{REMOVED} in {folder.name} is of another model: nothing in it fits {name}")
        found[name] = part
    for site in find(record.model).values():
        for kind, parameter in record.model.get_submodule(site.output)._parameters.items():
            for which in ("was", "now"):
                name = f"{site.output}.{kind}/{which}"
                part = next((stored[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in stored), None)
                if parameter is None or part is None:
                    continue
                if part.shape != parameter.shape:
                    raise ValueError(f"{REMOVED} in {folder.name} is of another model: {name} does not fit")
                found[name] = part
    return found
