"""Attention modules of transformers, by the names of their projections.

A module is known if its projections are, everything else in it that has parameters is the same for all heads, and its
`forward` gives attention to transformers' interface and takes the number of heads from the projections or the module:
the configuration cannot say that layers differ. Whatever is not known is not pruned, with the reason.
"""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass
from typing import Any

from torch import nn

from . import headless

__all__ = ["Known", "describe", "settle", "sizes_of"]

Sections = tuple[tuple[str, int], ...]

SEPARATE = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))
WIDTHS = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size")
COUNTS = (
    ("num_heads", "heads"),
    ("n_heads", "heads"),
    ("num_attention_heads", "heads"),
    ("num_key_value_heads", "groups"),
    ("num_key_value_groups", "ratio"),
    ("all_head_size", "wide"),
    ("inner_dim", "wide"),
    ("split_size", "wide"),
)
SHARED_BIAS = ("T5Attention", "MT5Attention")  # whose position bias the first layer makes for all of a stack


@dataclass(frozen=True)
class Known:
    """An attention module as `sites.Site` describes it; slabs are (path of the owner, name, axis, sections)."""

    heads: int
    groups: int
    width: int
    output: str
    slabs: tuple[tuple[str, str, int, Sections], ...]
    counts: tuple[tuple[str, str], ...]


def describe(model: nn.Module, path: str, module: nn.Module) -> Known | str | None:
    """What is known of a module; why it cannot be pruned, if it is attention; None if it is something else."""
    if not _is_attention(module):
        return None
    kind: Any = type(module)
    if told := _unfit(kind):
        return told
    width = next((getattr(module, name) for name in WIDTHS if isinstance(getattr(module, name, None), int)), None)
    if width is None:
        return "it does not say how wide a head is"
    found = _joint(module, width) or _separate(module, width)
    output = _output(model, path, module)
    if found is None or output is None:
        return "its projections have names that are not known"
    names, inputs = found
    place, projection = output
    heads, groups = _counts(module, names, width)
    if heads % max(1, groups) or _columns(projection) != heads * width:
        return f"its output reads {_columns(projection)} numbers, which {heads} heads of width {width} do not make"
    if told := _others(module, {*names, place.rpartition(".")[2]}, width, heads):
        return told
    own = [(f"{path}.{name}".lstrip("."), "weight", _out_axis(child), inputs[name]) for name, child in names.items()]
    own += [(owner, "bias", 0, sections) for owner, _, _, sections in own]
    slabs = [slab for slab in own if model.get_submodule(slab[0])._parameters.get(slab[1]) is not None]
    slabs += [(place, "weight", 1 - _out_axis(projection), (("head", width),))]
    if "sinks" in module._parameters:
        slabs.append((path, "sinks", 0, (("head", 1),)))
    if "relative_attention_bias" in module._modules and type(module).__name__ not in SHARED_BIAS:
        slabs.append((f"{path}.relative_attention_bias", "weight", 1, (("head", 1),)))
    counts = tuple((name, meaning) for name, meaning in COUNTS if hasattr(module, name))
    return Known(heads, groups, width, place, tuple(slabs), counts)


def settle(module: nn.Module, kept: tuple[int, ...], total: int) -> None:
    """After its parameters changed: the module runs with these of its original heads, or without any."""
    shares = headless.plain(type(module)).__name__ in SHARED_BIAS
    headless.become(module, kept, total, shares_bias=shares)


def sizes_of(owner: nn.Module, name: str, axis: int) -> tuple[str, ...]:
    """Attributes of a projection that say how long an axis of its weight is."""
    if name != "weight":
        return ()
    if isinstance(owner, nn.Linear):
        return ("in_features",) if axis == 1 else ("out_features",)
    if isinstance(owner, nn.Embedding):
        return ("embedding_dim",)
    return (("nx",) if axis == 0 else ("nf",)) if hasattr(owner, "nf") else ()


def _is_attention(module: nn.Module) -> bool:
    if not type(module).__module__.startswith("transformers.") and not headless.is_changed(type(module)):
        return False
    names = module._modules.keys()
    return any(set(three) <= names for three in SEPARATE) or bool({"c_attn", "query_key_value", "qkv_proj"} & names)


@functools.cache
def _unfit(kind: type) -> str:
    """Why what `forward` does does not fit, whatever the parameters."""
    kind = headless.plain(kind)
    try:
        forward: Any = inspect.unwrap(kind.forward)  # type: ignore[attr-defined]
        source, taken = inspect.getsource(forward), inspect.signature(forward).parameters
    except (OSError, TypeError):
        return "its code is not at hand"
    if "get_interface" not in source:
        return "it computes attention by itself"
    if "config.num" in source:
        return "it takes its number of heads from the configuration"
    if "position_bias" in taken and kind.__name__ not in SHARED_BIAS:
        return "how its position bias is shared is not known"
    return ""


def _separate(module: nn.Module, width: int) -> tuple[dict[str, nn.Module], dict[str, Sections]] | None:
    for q, k, v in SEPARATE:
        if {q, k, v} <= module._modules.keys():
            names = {name: getattr(module, name) for name in (q, k, v)}
            return names, {q: (("head", width),), k: (("group", width),), v: (("group", width),)}
    return None


def _joint(module: nn.Module, width: int) -> tuple[dict[str, nn.Module], dict[str, Sections]] | None:
    """GPT-2's queries, keys and values in one matrix (keys and values, where it reads others); GPT-NeoX's by heads."""
    head = ("head", width)
    kind = headless.plain(type(module)).__name__
    if kind.endswith("GPT2Attention") and "c_attn" in module._modules:
        if "q_attn" in module._modules:
            names = {"q_attn": module.q_attn, "c_attn": module.c_attn}
            return names, {"q_attn": (head,), "c_attn": (head, head)}  # type: ignore[return-value]
        return {"c_attn": module.c_attn}, {"c_attn": (head, head, head)}  # type: ignore[dict-item]
    if kind == "GPTNeoXAttention":
        return {"query_key_value": module.query_key_value}, {"query_key_value": (("head", 3 * width),)}  # type: ignore[dict-item]
    return None


def _counts(module: nn.Module, names: dict[str, nn.Module], width: int) -> tuple[int, int]:
    """H and G."""
    wide = [_wide(module, name) for name in names]
    if len(names) == 3:
        return wide[0] // width, wide[1] // width
    heads = wide[0] // width if len(names) == 2 else wide[0] // (3 * width)
    return heads, heads


def _wide(module: nn.Module, name: str) -> int:
    child = getattr(module, name)
    return int(child.weight.shape[_out_axis(child)])


def _columns(projection: nn.Module) -> int:
    return int(projection.weight.shape[1 - _out_axis(projection)])  # type: ignore[index]


def _out_axis(child: nn.Module) -> int:
    """The axis of a weight along which its outputs lie: 0, but of GPT-2's Conv1D 1."""
    return 0 if isinstance(child, nn.Linear) else 1


def _output(model: nn.Module, path: str, module: nn.Module) -> tuple[str, nn.Module] | None:
    """The projection of what heads read, and its path: in the module, or beside it as in BERT."""
    for name in headless.OUTPUTS:
        if isinstance(child := module._modules.get(name), nn.Module) and _is_projection(child):
            return f"{path}.{name}".lstrip("."), child
    parent = path.rpartition(".")[0]
    beside = getattr(getattr(model.get_submodule(parent), "output", None), "dense", None)
    return (f"{parent}.output.dense".lstrip("."), beside) if beside is not None and _is_projection(beside) else None


def _is_projection(child: nn.Module) -> bool:
    conv = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return isinstance(child, nn.Linear) or (conv is not None and isinstance(child, conv))


def _others(module: nn.Module, known: set[str], width: int, heads: int) -> str:
    """What else has parameters and may have some for each head; nothing where all is well."""
    for name, child in module._modules.items():
        shapes = [] if child is None or name in known else [tuple(p.shape) for p in child.parameters()]
        if name == "relative_attention_bias":
            continue
        if any(shape != (width,) for shape in shapes):
            return f"what its {name} does is not known"
    for name, parameter in module._parameters.items():
        if parameter is not None and not (name == "sinks" and tuple(parameter.shape) == (heads,)):
            return f"what its {name} does is not known"
    return ""
