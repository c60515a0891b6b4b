"""A trained translator as a folder: `model.safetensors`, `model.json`, `subwords.json`; of a pruned one also
`removed.safetensors`."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ...heads.pruning.prune import record_of
from ...heads.pruning.store import REMOVED
from ..subwords import Subwords
from ..training.checkpoint import load_model, save_model
from .goal import GOALS, TRANSLATION
from .pruned import facts_of, save_removed, shrink
from .shape import Shape, Trained, build
from .translator import Translator

__all__ = ["builtin", "builtins", "load", "restore", "save"]

BUILTIN = Path(__file__).parent / "weights"


def save(
    folder: Path, model: Trained, subwords: Subwords, shape: Shape, facts: dict[str, Any], *, half: bool = False
) -> None:
    """Write a model; `half` in float16 and int32, half the size."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = model.state_dict()
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t.int() for name, t in tensors.items()}
    subwords.save(folder / "subwords.json")
    save_removed(folder, model)
    told = facts_of(model, {name: value for name, value in facts.items() if name not in ("task", "shape")})
    save_model(folder, tensors, {"task": facts.get("task", TRANSLATION.task), "shape": asdict(shape), **told})


def load(folder: str | Path) -> Translator:
    """The translator or summariser that `foveate train translate -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return _load(Path(folder), Path(folder) / "subwords.json")


def _load(folder: Path, pieces: Path) -> Translator:
    tensors, facts = load_model(folder)
    if facts.get("task") not in GOALS:
        known = " or ".join(GOALS)
        raise ValueError(f"{folder.name} holds a model for {facts.get('task', 'something else')!r}, not for {known}")
    subwords = Subwords.load(pieces)
    try:
        shape = Shape(**facts["shape"])
        model = build(shape, len(subwords), tensors["embedding.outputs"].long())
        shrink(model, facts, folder)
        model.load_state_dict(tensors)  # of half the size too: parameters are float32
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"the files in {folder.name} do not belong together: {told}") from None
    translator = Translator(model, subwords, shape, facts)
    _ = translator.reading  # raises if it is none
    return translator


def restore(folder: str | Path, output: str | Path) -> Translator:
    """Write the whole model of a folder whose heads were pruned, all of them in their places; returns it.

    Raises:
        ValueError: nothing was pruned, or what was removed is not there.
    """
    translator = load(folder)
    record = record_of(translator.model)
    if record is None or not record.removed:
        raise ValueError(f"no heads were removed from the model in {Path(folder).name}")
    if not (Path(folder) / REMOVED).is_file():
        raise ValueError(f"there is no {REMOVED} in {Path(folder).name}, and nothing to put back")
    record.restore()
    facts = facts_of(translator.model, translator.facts)
    half = bool(facts.get("settings", {}).get("half"))
    save(Path(output), translator.model, translator.subwords, translator.shape, facts, half=half)
    return Translator(translator.model, translator.subwords, translator.shape, facts)


def builtins() -> list[str]:
    """Names of the translators that came with this installation."""
    return sorted(path.parent.name for path in BUILTIN.glob("*/model.safetensors"))


@cache
def builtin(name: str = "en-fr") -> Translator:
    """A translator that comes with the package, English to French: "en-fr", or "en-fr-fixed" without attention.

    Both have the same sub-words.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in builtins():
        raise ValueError(f"there is no built-in translator {name!r}; there is {', '.join(builtins()) or 'none'}")
    with torch.random.fork_rng(devices=[]):  # parameters are drawn, and then replaced
        return _load(BUILTIN / name, BUILTIN / "en-fr" / "subwords.json")
