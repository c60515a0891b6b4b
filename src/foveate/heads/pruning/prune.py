"""`fv.heads.prune`: take heads out of a model, so that it has fewer parameters and computes less.

What was taken out is kept, so that it can be put back. Axes: H heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...change.naming import check_head, pairs_of, resolve
from ...watch.standing import shown
from .moments import Moments
from .sites import Site, Slab, find, why_not

__all__ = ["Heads", "Pruned", "head_count", "named", "prunable", "prune", "record_of"]

Heads = Iterable[tuple[str | int, int]] | Mapping[str, Iterable[int]]
_RECORD = "_foveate_pruned"


@dataclass
class _Kept:
    """Of one module: how many heads and groups it was made with, and the numbers of those that are left."""

    total: int
    total_groups: int
    heads: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def removed(self) -> tuple[int, ...]:
        return tuple(head for head in range(self.total) if head not in self.heads)


@dataclass
class Pruned:
    """What was taken out of a model, by original numbers; it grows when the model is pruned again.

    `parts` are the removed parts of parameters, on the CPU: "path of the parameter/section/number" -> tensor.
    """

    model: nn.Module = field(repr=False)
    parameters: tuple[int, int] = (0, 0)  # before and now
    sites: dict[str, _Kept] = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """Heads that are left, by the module's path, of every module that heads can be taken out of."""
        return {path: site.heads for path, site in self.sites.items()}

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Heads that are gone, of the modules that lost some."""
        return {path: site.removed for path, site in self.sites.items() if site.removed}

    @property
    def heads(self) -> tuple[int, int]:
        """How many heads there were in all, and are."""
        sites = self.sites.values()
        return sum(site.total for site in sites), sum(len(site.heads) for site in sites)

    def _take_back(self) -> None:
        """Outputs lose what was added to them where heads went."""
        for site in find(self.model).values():
            owner = self.model.get_submodule(site.output)
            for name, parameter in owner._parameters.items():
                path = f"{site.output}.{name}"
                if parameter is not None and f"{path}/was" in self.parts:
                    with torch.no_grad():
                        parameter.copy_(_first(self, path, parameter))

    def restore(self) -> None:
        """Put everything back in place: bitwise what it was, where nothing was trained in between.

        Parameters are new objects, so an optimiser of the pruned model is not one of the restored model.
        """
        self._take_back()
        self.expand(self.parts)
        for site in self.sites.values():
            site.heads, site.groups = tuple(range(site.total)), tuple(range(site.total_groups))
        self.parts.clear()
        self.parameters = self.parameters[0], _count(self.model)

    def expand(self, parts: Mapping[str, Tensor]) -> None:
        """Give the model its whole size again, with these removed parts, and zeros where there are none."""
        for path, site in find(self.model).items():
            kept = self.sites[path]
            if not kept.removed:
                continue
            for slab in site.slabs:
                slab.put(_whole(slab, kept, parts))
            site.resize(tuple(range(kept.total)), kept.total_groups, kept.total)

    def shrink(self) -> dict[str, Tensor]:
        """The opposite of `expand`: a model of whole size to the heads that are left; returns what was taken out."""
        return {
            name: part
            for path, site in find(self.model).items()
            if self.sites[path].removed
            for name, part in _cut(site, self.sites[path], self.sites[path].heads).items()
        }


def prunable(model: nn.Module) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The heads that can be taken out of a model, by the paths of its attention modules, as `fv.watch` names them.

    Each entry lists units: heads that schedules remove together. A unit is one head; or, where query heads share keys
    and values in several groups, the heads of a group.

    Raises:
        ValueError: there are none, with what is known of its attention.
    """
    return {path: site.units for path, site in _sites(model).items()}


def head_count(model: nn.Module) -> int:
    """How many heads there are now that can be taken out."""
    return sum(len(unit) for units in prunable(model).values() for unit in units)


def prune(model: nn.Module, heads: Heads, *, stand_ins: Mapping[str, Moments] | None = None) -> Pruned:
    """Take heads out of a model, in place: it computes what it computed with these heads knocked out, and less.

    Of each head go its rows of the projections to queries, keys and values, and its columns of the output's; a key and
    value head goes when all its query heads do. A module without heads adds the bias of its output alone.

    Args:
        heads: pairs as in `fv.knockout`, or heads by the module's path; counted as the module counts them now.
        stand_ins: moments by module (`fv.heads.moments`), as the module is now: what the heads that stay can say of the
            others goes into their columns of the output's projection, and its bias. Modules not named are left alone.

    Raises:
        ValueError: no such module or head; query heads that share keys would be left in unequal numbers; or the model
            has no attention that is known well enough.
    """
    sites = _sites(model)
    chosen = named(model, heads)
    left = {path: tuple(h for h in range(sites[path].heads) if h not in gone) for path, gone in chosen.items()}
    groups = {path: sites[path].kept_groups(kept) for path, kept in left.items()}  # raises before anything is cut
    record = record_of(model) or _begin(model, sites)
    for path, kept in left.items():
        before = record.sites[path]
        after = tuple(before.heads[h] for h in kept)
        refits = stand_ins is not None and path in stand_ins
        if refits or f"{sites[path].output}.weight/was" in record.parts:
            _refit(model, sites[path], chosen[path], stand_ins[path] if stand_ins and refits else None, record)
        record.parts = _cut(sites[path], before, after) | record.parts
        before.heads, before.groups = after, tuple(before.groups[g] for g in groups[path])
    record.parameters = record.parameters[0], _count(model)
    return record


def record_of(model: nn.Module) -> Pruned | None:
    """What was taken out of a model; None of one that is whole."""
    found: Pruned | None = model.__dict__.get(_RECORD)
    return found


def named(model: nn.Module, heads: Heads) -> dict[str, tuple[int, ...]]:
    """The heads asked for, as in `prune`, by the module's path.

    Raises:
        ValueError: no such module or head, a name that fits several modules, or nothing that can be pruned.
    """
    sites = _sites(model)
    given = pairs_of([(path, h) for path, some in heads.items() for h in some] if isinstance(heads, Mapping) else heads)
    names = {shown(path, model): path for path in sites}
    pairs = [(shown(str(where), model) if where in sites else where, head) for where, head in given]
    found = {}
    for name, some in resolve(pairs, names, "attention modules that can be pruned").items():
        path = names[name]
        for head in some:
            check_head((name, head), name, sites[path].heads)
        found[path] = tuple(sorted(some))
    return found


def _sites(model: nn.Module) -> dict[str, Site]:
    found = find(model)
    if not found:
        others = [f"{path or 'the model'} ({why})" for path, why in why_not(model).items()]
        told = f" What looks like attention: {'; '.join(others[:3])}." if others else ""
        raise ValueError(f"{type(model).__name__} has no attention that can be pruned.{told} See docs/prune.md")
    return found


def _begin(model: nn.Module, sites: Mapping[str, Site]) -> Pruned:
    record = Pruned(model, (_count(model), _count(model)))
    for path, site in sites.items():
        record.sites[path] = _Kept(site.heads, site.groups, tuple(range(site.heads)), tuple(range(site.groups)))
    model.__dict__[_RECORD] = record
    return record


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _cut(site: Site, before: _Kept, heads: tuple[int, ...]) -> dict[str, Tensor]:
    """Leave these original heads of a module that has those of `before` or all; returns what was taken out."""
    each = before.total // before.total_groups
    whole = site.heads == before.total
    had = {
        "head": tuple(range(before.total)) if whole else before.heads,
        "group": tuple(range(before.total_groups)) if whole else before.groups,
    }
    stay = {"head": set(heads), "group": {head // each for head in heads}}
    parts: dict[str, Tensor] = {}
    for slab in site.slabs:
        old, rows = slab.parameter.detach(), []
        for section, per, place, span in slab.parts(site.counted):
            number = had[per][place]
            if number in stay[per]:
                rows.append(torch.arange(span.start, span.stop))
            else:
                part = old.narrow(slab.axis, span.start, span.stop - span.start)
                parts[f"{slab.path}/{section}/{number}"] = part.cpu().contiguous().clone()
        index = torch.cat(rows) if rows else torch.arange(0)
        slab.put(old.index_select(slab.axis, index.to(old.device)))
    site.resize(heads, len(stay["group"]), before.total)
    return parts


def _refit(model: nn.Module, site: Site, gone: tuple[int, ...], found: Moments | None, record: Pruned) -> None:
    """Have the heads that stay stand in for those that go, if there are moments; remember the output as it was.

    What the output's parameters would be without it is kept in `parts`, "path/was", beside what they are, "path/now".
    """
    slab = site.output_weight
    bias = model.get_submodule(site.output)._parameters.get("bias")
    was = {slab.path: _first(record, slab.path, slab.parameter)}
    if bias is not None:
        was[f"{site.output}.bias"] = _first(record, f"{site.output}.bias", bias)
    if found is not None:
        if len(found.mean_C) != site.heads * site.width:
            raise ValueError(
                f"{site.path} has {site.heads} heads; the moments are of {len(found.mean_C) // site.width}"
            )
        put = found.without(gone)
        with torch.no_grad():
            weight_MC = slab.parameter if slab.axis == 1 else slab.parameter.T  # a view: written in place
            of_gone_MR = weight_MC[:, put.removed_R].double().cpu()
            weight_MC[:, put.kept_K] += (of_gone_MR @ put.map_KR.T).to(weight_MC)
            if bias is not None:
                bias += (of_gone_MR @ put.constant_R).to(bias)
    stay = torch.tensor([c for c in range(site.heads * site.width) if c // site.width not in gone], dtype=torch.long)
    for place, head in enumerate(record.sites[site.path].heads):
        if place in gone:  # it goes as it was, not as the refits of others left it
            part = was[slab.path].narrow(slab.axis, place * site.width, site.width).contiguous().clone()
            record.parts[f"{slab.path}/0/{head}"] = part
    was[slab.path] = was[slab.path].index_select(slab.axis, stay)
    now = {slab.path: slab.parameter.detach().cpu().index_select(slab.axis, stay)}
    if bias is not None:
        now[f"{site.output}.bias"] = bias.detach().cpu().clone()
    record.parts |= {f"{path}/was": t for path, t in was.items()} | {f"{path}/now": t for path, t in now.items()}


def _first(record: Pruned, path: str, parameter: Tensor) -> Tensor:
    """A parameter without any refit: what it was, if nothing trained it since; else less what refits added."""
    is_now, was, now = parameter.detach().cpu(), record.parts.get(f"{path}/was"), record.parts.get(f"{path}/now")
    if was is None or now is None:
        return is_now.clone()
    return was if torch.equal(is_now, now) else is_now - (now - was)


def _whole(slab: Slab, kept: _Kept, parts: Mapping[str, Tensor]) -> Tensor:
    """A parameter of its whole size: what is there, and removed parts, or zeros."""
    old = slab.parameter.detach()
    there = {"head": kept.heads, "group": kept.groups}
    spans: dict[tuple[Any, ...], slice] = {}
    for section, per, place, span in slab.parts({"head": len(kept.heads), "group": len(kept.groups)}):
        spans[section, there[per][place]] = span
    pieces = []
    for section, _, number, span in slab.parts({"head": kept.total, "group": kept.total_groups}):
        have, length = spans.get((section, number)), span.stop - span.start
        if have is not None:
            pieces.append(old.narrow(slab.axis, have.start, length))
            continue
        shape = [length if axis == slab.axis else size for axis, size in enumerate(old.shape)]
        part = parts.get(f"{slab.path}/{section}/{number}")
        if part is not None and list(part.shape) != shape:
            raise ValueError(f"what was removed of {slab.path} has shape {tuple(part.shape)}; {tuple(shape)} fits")
        pieces.append(old.new_zeros(shape) if part is None else part.to(old))
    return torch.cat(pieces, slab.axis)
