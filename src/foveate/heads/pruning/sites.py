"""Where heads can be cut out: attention modules whose parameters are known to be made of heads, one after another.

Axes: H query heads, G key/value heads (groups; G divides H), D head width, M model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...nn import LatentAttention, MultiHeadAttention
from . import hub

__all__ = ["Site", "Slab", "find", "why_not"]

Per = Literal["head", "group"]


@dataclass(frozen=True)
class Slab:
    """A parameter of which every head, or every group, has a part.

    Along `axis` it is one or several sections; a section is a run of parts, one for each head or group, each `width`
    long: (("head", D), ("group", D), ("group", D)) for a fused projection to queries, keys and values.
    """

    owner: nn.Module
    path: str  # of the parameter, inside the model
    axis: int
    sections: tuple[tuple[Per, int], ...]

    @property
    def parameter(self) -> nn.Parameter:
        found: nn.Parameter = self.owner._parameters[self.name]  # type: ignore[assignment]
        return found

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def parts(self, counts: dict[Per, int]) -> Iterator[tuple[int, Per, int, slice]]:
        """Section, kind, number and place of every part, where there are so many heads and groups."""
        start = 0
        for section, (per, width) in enumerate(self.sections):
            for number in range(counts[per]):
                yield section, per, number, slice(start, start + width)
                start += width

    def put(self, new: Tensor) -> None:
        """Another tensor in the place of the parameter. One without numbers takes part in no training."""
        wants = self.parameter.requires_grad or not self.parameter.numel()
        self.owner._parameters[self.name] = nn.Parameter(new, requires_grad=wants and bool(new.numel()))
        size = new.shape[self.axis]
        for attribute in hub.sizes_of(self.owner, self.name, self.axis):
            setattr(self.owner, attribute, size)


@dataclass(frozen=True)
class Site:
    """An attention module, its heads as they are now, and the parameters that they are made of.

    `output` is the path of the projection that reads all heads, `width` numbers of each: what a head adds is a product
    with its own columns. `counts` are attributes of the module that say how many heads or groups, or how wide all of
    them are.
    """

    path: str
    module: nn.Module
    heads: int
    groups: int
    width: int
    output: str
    slabs: tuple[Slab, ...]
    counts: tuple[tuple[str, str], ...]

    @property
    def output_weight(self) -> Slab:
        (found,) = (slab for slab in self.slabs if slab.path == f"{self.output}.weight")
        return found

    @property
    def counted(self) -> dict[Per, int]:
        return {"head": self.heads, "group": self.groups}

    @property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """Heads that schedules remove together: each alone, or, where several groups are shared, those of a group."""
        size = self.heads // self.groups if 1 < self.groups < self.heads else 1
        return tuple(tuple(range(first, first + size)) for first in range(0, self.heads, size))

    def kept_groups(self, heads: tuple[int, ...]) -> tuple[int, ...]:
        """The groups that these heads read.

        Raises:
            ValueError: they would be shared unequally.
        """
        if not heads:
            return ()
        each = self.heads // self.groups
        readers = [head // each for head in heads]
        left = {group: readers.count(group) for group in dict.fromkeys(readers)}
        if len(set(left.values())) > 1:
            told = ", ".join(f"{count} of group {group}" for group, count in left.items())
            raise ValueError(
                f"{self.path}: {each} query heads share each key and value head, and of every group that stays equally "
                f"many must stay; these heads would leave {told}. Remove whole groups of {each}, or as many of each"
            )
        return tuple(left)

    def resize(self, kept: tuple[int, ...], groups: int, total: int) -> None:
        """Have the module know which of its `total` original heads it has now."""
        heads = len(kept)
        values = {
            "heads": heads,
            "groups": groups,
            "ratio": heads // groups if groups else 1,
            "wide": heads * self.width,
        }
        for attribute, meaning in self.counts:
            setattr(self.module, attribute, values[meaning])
        if not isinstance(self.module, MultiHeadAttention):
            hub.settle(self.module, kept, total)


def find(model: nn.Module) -> dict[str, Site]:
    """Every attention module of a model that heads can be cut out of, by its path."""
    found: dict[str, Site] = {}
    for path, module in model.named_modules():
        site = _own(path, module) if isinstance(module, MultiHeadAttention) else _of_hub(model, path, module)
        if site is not None:
            found[path] = site
    return found


def why_not(model: nn.Module) -> dict[str, str]:
    """Modules that look like attention but are not known well enough, and why."""
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            found[path] = "torch.nn.MultiheadAttention cannot have fewer heads at the same head width"
        elif isinstance(module, LatentAttention):
            found[path] = "its keys and values are made of one compressed part that all heads share"
        elif isinstance(module, MultiHeadAttention):
            if told := _parts_with_heads(module):
                found[path] = told
        elif isinstance(described := hub.describe(model, path, module), str):
            found[path] = described
    return found


def _own(path: str, module: MultiHeadAttention) -> Site | None:
    if _parts_with_heads(module):
        return None
    d = module.head_width
    layout = {"query": ("head", 0), "key": ("group", 0), "value": ("group", 0), "output": ("head", 1)}
    slabs = [
        Slab(getattr(module, name), f"{path}.{name}.{kind}".lstrip("."), axis, ((per, d),))  # type: ignore[arg-type]
        for name, (per, axis) in layout.items()
        for kind in ("weight", "bias")
        if getattr(module, name)._parameters[kind] is not None and not (name == "output" and kind == "bias")
    ]
    counts = (("heads", "heads"), ("groups", "groups"))
    output = f"{path}.output".lstrip(".")
    return Site(path, module, module.heads, module.groups, d, output, tuple(slabs), counts)


def _parts_with_heads(module: MultiHeadAttention) -> str:
    """Which part of a module of ours has numbers for each head; nothing where all heads are alike."""
    for name in ("score", "normalizer", "mask", "positions"):
        part = getattr(module, name)
        if name == "positions" and module.rotates:
            continue
        tensors = [*part.parameters(), *part.buffers()] if isinstance(part, nn.Module) else _inside(part)
        if any(t.ndim and module.heads in t.shape for t in tensors):
            return f"its {name} has numbers for each head"
    return ""


def _inside(part: object) -> list[Tensor]:
    values = vars(part).values() if hasattr(part, "__dict__") else ()
    return [found for value in values for found in ([value] if isinstance(value, torch.Tensor) else _inside(value))]


def _of_hub(model: nn.Module, path: str, module: nn.Module) -> Site | None:
    known = hub.describe(model, path, module)
    if known is None or isinstance(known, str):
        return None
    slabs = tuple(
        Slab(model.get_submodule(owner), f"{owner}.{name}".lstrip("."), axis, sections)  # type: ignore[arg-type]
        for owner, name, axis, sections in known.slabs
    )
    return Site(path, module, known.heads, known.groups, known.width, known.output, slabs, known.counts)
