"""Miniature models of every kind whose attention can be changed, and how a head's output is scaled in their weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveate as fv
from hf_models import FAMILIES, make_inputs

B, L, S, E, H = 3, 7, 5, 24, 6
PADDING = torch.arange(L)[None] >= torch.tensor([7, 4, 5])[:, None]  # True = ignore
CAUSAL = nn.Transformer.generate_square_subsequent_mask(L)


@dataclass(frozen=True)
class Kind:
    """A model, one call of it, and the weight that follows each attention module: module path -> parameter."""

    build: Callable[[], nn.Module]
    run: Callable[[nn.Module], Any]
    projections: dict[str, str]
    rows: bool = False  # whether the weight is (in, out)
    heads: int = H

    def scaled(self, model: nn.Module, factors: dict[tuple[str, int], float]) -> nn.Module:
        """A copy in which what follows attention reads the heads' outputs times their factors."""
        model = copy.deepcopy(model)
        for (path, head), factor in factors.items():
            weight = model.get_parameter(self.projections[path]).data
            columns = (weight.T if self.rows else weight).unflatten(1, (self.heads, -1))
            columns[:, head] *= factor
        return model


class Own(nn.Module):
    """A module of one's own on F.scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.out(read.transpose(1, 2).flatten(2))


def first(output: Any) -> Tensor:
    """The tensor that a call of any of these models is about."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple):
        return output[0]
    return output.logits if "logits" in output else output[0]


def _hf(name: str, projections: dict[str, str], how: str = "sdpa", rows: bool = False) -> Kind:
    family = FAMILIES[name]
    inputs = make_inputs(family.inputs)
    return Kind(lambda: family.build(how), lambda model: first(model(**inputs)), projections, rows)


def _wide(model: nn.Module) -> nn.Module:
    """Projections scaled up, so that attention is not flat."""
    for p in model.parameters():
        if p.ndim == 2:
            p.data.mul_(0.25 / float(p.data.std()))
    return model.eval()


def _transformer() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _wide(nn.Transformer(E, H, 2, 1, 32, batch_first=True))


def _inputs(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def _encoder(**options: Any) -> nn.Module:
    return _wide(nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, 32, batch_first=True, **options), 2))


def _ours(model: nn.Module) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    source, target = (torch.randint(0, 30, (B, n), generator=draw) for n in (S, L))
    return model.logits(model(source, torch.tensor([5, 3, 4]), target))


def _seq2seq() -> nn.Module:
    return _wide(fv.nn.TransformerEncoderDecoder(30, width=E, heads=H, layers=2, inner=20))


X = _inputs(B, L, E)
KINDS: dict[str, Kind] = {
    "bert": _hf("bert", {"encoder.layer.1.attention.self": "encoder.layer.1.attention.output.dense.weight"}),
    "bert eager": _hf(
        "bert", {"encoder.layer.1.attention.self": "encoder.layer.1.attention.output.dense.weight"}, "eager"
    ),
    "gpt2": _hf("gpt2", {"transformer.h.0.attn": "transformer.h.0.attn.c_proj.weight"}, rows=True),
    "llama": _hf("llama", {f"model.layers.{n}.self_attn": f"model.layers.{n}.self_attn.o_proj.weight" for n in (0, 1)}),
    "gemma2": _hf("gemma2", {"model.layers.0.self_attn": "model.layers.0.self_attn.o_proj.weight"}, "eager"),
    "gpt-oss": _hf("gpt-oss", {"model.layers.1.self_attn": "model.layers.1.self_attn.o_proj.weight"}, "eager"),
    "t5": _hf(
        "t5",
        {
            name: f"{name}.o.weight"
            for name in ("encoder.block.1.layer.0.SelfAttention", "decoder.block.0.layer.1.EncDecAttention")
        },
    ),
    "bart": _hf(
        "bart",
        {
            name: f"{name}.out_proj.weight"
            for name in ("model.decoder.layers.1.self_attn", "model.decoder.layers.0.encoder_attn")
        },
    ),
    "vit": _hf("vit", {"layers.0.attention": "layers.0.attention.o_proj.weight"}),
    "whisper": _hf(
        "whisper",
        {name: f"{name}.out_proj.weight" for name in ("model.decoder.layers.0.encoder_attn",)},
    ),
    "own": Kind(lambda: _wide(nn.Sequential(Own(), Own())), lambda model: model(X), {"1": "1.out.weight"}),
    "multihead": Kind(
        lambda: _wide(nn.MultiheadAttention(E, H, batch_first=True)),
        lambda model: model(X, X, X, key_padding_mask=PADDING)[0],
        {"MultiheadAttention": "out_proj.weight"},
    ),
    "multihead, length first": Kind(
        lambda: _wide(nn.MultiheadAttention(E, H)),
        lambda model: model(X, X, X, attn_mask=torch.zeros(B, B), need_weights=False)[0],
        {"MultiheadAttention": "out_proj.weight"},
    ),
    "encoder layer": Kind(
        lambda: _wide(nn.TransformerEncoderLayer(E, H, 32, batch_first=True)),
        lambda model: model(X),
        {"self_attn": "self_attn.out_proj.weight"},
    ),
    "encoder, padded": Kind(
        _encoder,
        lambda model: model(X, src_key_padding_mask=PADDING).masked_fill(PADDING[..., None], 0.0),
        {"layers.1.self_attn": "layers.1.self_attn.out_proj.weight"},
    ),
    "nn.Transformer": Kind(
        _transformer,
        lambda model: model(X[:, :S], X, tgt_mask=CAUSAL, tgt_is_causal=True),
        {
            "encoder.layers.1.self_attn": "encoder.layers.1.self_attn.out_proj.weight",
            "decoder.layers.0.multihead_attn": "decoder.layers.0.multihead_attn.out_proj.weight",
        },
    ),
    "ours": Kind(
        _seq2seq,
        _ours,
        {
            "encoder.layers.0.attention": "encoder.layers.0.attention.output.weight",
            "decoder.layers.1.attention": "decoder.layers.1.attention.output.weight",
            "decoder.layers.1.cross_attention": "decoder.layers.1.cross_attention.output.weight",
        },
    ),
}  # fmt: skip


def fresh(name: str) -> tuple[Kind, nn.Module]:
    torch.manual_seed(3)
    return KINDS[name], KINDS[name].build()


def rnn(attention: str = "additive") -> nn.Module:
    torch.manual_seed(3)
    return fv.nn.RNNEncoderDecoder(30, width=12, hidden=14, attention=attention).eval()  # type: ignore[arg-type]


def run_rnn(model: nn.Module) -> Tensor:
    return _ours(model)
