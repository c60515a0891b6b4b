"""Whether what a head writes raises the logit of the token that it read: the copying score of its OV circuit.

A head that reads token s adds W_O W_V e_s to the stream, and U W_O W_V e_s to the logits (E: embeddings e, U:
unembeddings, both (vocabulary, width)). If it copies, this raises the logit of s itself, for most s: then most
eigenvalues of the vocabulary x vocabulary matrix U W_O W_V E^T are positive (Elhage et al. 2021, "Copying heads"). So

    copy = sum Re(l) / sum abs(l)

over its eigenvalues l: 1 for a head that copies, -1 for one that lowers what it reads, near 0 for chance. They are
those of the small matrix W_V E^T U W_O. U is taken less its mean row, which no softmax sees. Norms and biases are
left out, and what other layers add to the embedding.

It is NaN where there is no unembedding, where queries and keys are of different texts, in an encoder whose output a
decoder reads, and for modules whose projections are not known by name.

Axes: V vocabulary, M model width, H heads, G value heads, D head width, N all heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .state import Layer
from .subject import Subject

__all__ = ["copy_scores", "ov_circuits"]

_VALUES = ("v_proj", "value", "v", "v_lin", "to_v")
_OUTPUTS = ("o_proj", "out_proj", "output", "o", "out_lin", "c_proj", "dense", "to_out")
_TOGETHER = ("c_attn", "in_proj", "Wqkv", "qkv")  # queries, keys and values of all heads, one after another


@torch.no_grad()
def copy_scores(subject: Subject, layers: Sequence[Layer]) -> Float[Tensor, " N"]:
    """The copying score of every head, NaN where it is not defined."""
    scores = [torch.full((layer.heads,), torch.nan, dtype=torch.float64) for layer in layers]
    tables = _tables(subject.whole)
    if tables is None:
        return torch.cat(scores)
    embedding, unembedding = tables
    through_MM = (embedding.mT @ unembedding) - embedding.sum(0)[:, None] * unembedding.mean(0)
    for layer, score in zip(layers, scores, strict=True):
        circuits = None
        if layer.kind == "decoder" or (layer.kind == "encoder" and not subject.two_sided):
            circuits = ov_circuits(subject.model, layer.module, layer.heads)
        if circuits is None or any(t.shape[axis] != len(through_MM) for t, axis in zip(circuits, (2, 1), strict=True)):
            continue
        values_HDM, outputs_HMD = circuits
        small_HDD = values_HDM @ through_MM.to(values_HDM) @ outputs_HMD
        found = torch.linalg.eigvals(small_HDD.double())
        size = found.abs().sum(-1)
        score.copy_(torch.where(size > 0, found.real.sum(-1) / size, torch.nan).cpu())
    return torch.cat(scores)


def _tables(model: nn.Module) -> tuple[Float[Tensor, "V M"], Float[Tensor, "V M"]] | None:
    """Embeddings and unembeddings of one vocabulary: what transformers calls so, or the only ones of their size."""
    if hasattr(model, "get_output_embeddings"):
        found: list[Any] = [_called(model, f"get_{side}_embeddings") for side in ("input", "output")]
    else:
        embeddings = [one for one in model.modules() if isinstance(one, nn.Embedding)]
        words = max(embeddings, key=lambda one: one.num_embeddings, default=None)
        sized = (None, None) if words is None else (words.num_embeddings, words.embedding_dim)
        out = [one for one in model.modules() if isinstance(one, nn.Linear) and tuple(one.weight.shape) == sized]
        found = [words, out[0] if len(out) == 1 else None]
    embedding, unembedding = (getattr(one, "weight", None) for one in found)
    if embedding is None or unembedding is None or embedding.shape != unembedding.shape:
        return None
    return embedding.float(), unembedding.float()


def _called(model: Any, name: str) -> Any:
    return getattr(model, name)()


def ov_circuits(
    model: nn.Module, path: str, heads: int
) -> tuple[Float[Tensor, "H D M"], Float[Tensor, "H M D"]] | None:
    """What each head's values are made with, and what it writes with; None where the projections are not known."""
    module = model.get_submodule(path) if path in dict(model.named_modules()) else model
    out = _projection(module, _OUTPUTS)
    if out is None and "." in path:  # BERT: self-attention and its output stand side by side
        beside = getattr(model.get_submodule(path.rpartition(".")[0]), "output", None)
        out = None if beside is None else _projection(beside, ("dense",))
    value = _values(module)
    if value is None or out is None or out.shape[1] % heads:
        return None
    width = out.shape[1] // heads
    if len(value) % width or heads % (len(value) // width):
        return None
    values_GDM = value.unflatten(0, (-1, width))
    values_HDM = values_GDM.repeat_interleave(heads // len(values_GDM), 0)
    return values_HDM.float(), out.unflatten(1, (heads, width)).transpose(0, 1).float()


def _values(module: nn.Module) -> Float[Tensor, "G*D M"] | None:
    """What values are made with, by itself or together with queries and keys."""
    if isinstance(module, nn.MultiheadAttention):
        together: Tensor | None = module.in_proj_weight
        return module.v_proj_weight if together is None else together.chunk(3)[2]
    value = _projection(module, _VALUES)
    if value is not None:
        return value
    together = _projection(module, _TOGETHER)
    return None if together is None or len(together) % 3 else together.chunk(3)[2]


def _projection(module: nn.Module, names: Sequence[str]) -> Tensor | None:
    """The weight (out, in) of the first of these parts."""
    for name in names:
        part = getattr(module, name, None)
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            return weight.mT if type(part).__name__ == "Conv1D" else weight
    return None
