"""What translation is measured against: the same models in plain PyTorch, and Hugging Face's Marian of any shape.

Each can be given the weights of ours, and then computes the same, which is checked before anything is timed.

Axes: B batch, S source length, T target length, M width of embeddings, H hidden width.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import foveate as fv
from foveate.tasks.subwords import BEGIN, END, PAD
from foveate.tasks.translation import Shape

__all__ = ["NEVER", "PlainRNN", "PlainTransformer", "give", "give_marian", "marian", "marian_like", "marian_parameters"]

NEVER = -1e9  # a logit


class PlainRNN(nn.Module):
    """`fv.nn.RNNEncoderDecoder` with additive attention, as one would write it with `nn.GRU`, packed sequences and
    `softmax`; logits (B, T, V) over the whole vocabulary."""

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.hidden
        self.embedding = nn.Embedding(vocabulary, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout, self.state_dropout = nn.Dropout(shape.dropout), nn.Dropout(shape.state_dropout)
        self.encoder = nn.GRU(width, hidden // 2, batch_first=True, bidirectional=True)
        self.start = nn.Linear(hidden, 2 * hidden)
        self.asking = nn.GRU(width, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.v = nn.Parameter(torch.randn(hidden) * hidden**-0.5)
        self.writing = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.readout = nn.Linear(2 * hidden + width, width)

    def hidden(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        """(B, T, M), what stands before the output."""
        x_BSM = self.dropout(self.embedding(source_BS))
        packed = pack_padded_sequence(x_BSM, lengths_B, batch_first=True, enforce_sorted=False)
        states, last_2BH = self.encoder(packed)
        states_BSH, _ = pad_packed_sequence(states, batch_first=True)
        states_BSH = self.state_dropout(states_BSH)
        asking, writing = torch.tanh(self.start(torch.cat([*last_2BH], -1))).chunk(2, -1)
        x_BTM = self.dropout(self.embedding(target_BT))
        query_BTH, _ = self.asking(x_BTM, asking[None].contiguous())
        mixed_BTSH = torch.tanh(self.query(query_BTH)[:, :, None] + self.key(states_BSH)[:, None])
        score_BTS = mixed_BTSH @ self.v.to(mixed_BTSH.dtype)
        padding_BS = torch.arange(source_BS.shape[1]) >= lengths_B[:, None]
        weight_BTS = score_BTS.masked_fill(padding_BS[:, None], -math.inf).softmax(-1)
        context_BTH = weight_BTS @ states_BSH
        state_BTH, _ = self.writing(torch.cat([query_BTH, context_BTH], -1), writing[None].contiguous())
        return self.state_dropout(torch.tanh(self.readout(torch.cat([state_BTH, context_BTH, x_BTM], -1))))

    def forward(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        return F.linear(self.hidden(source_BS, lengths_B, target_BT), self.embedding.weight, self.bias)


class PlainTransformer(nn.Module):
    """`fv.nn.TransformerEncoderDecoder` of `nn.TransformerEncoder` and `nn.TransformerDecoder`; logits (B, T, V) over
    the whole vocabulary. Their dropout of attention weights and inside feed-forward layers is off, as ours has none."""

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__()
        width, options = shape.width, {"batch_first": True, "norm_first": True}
        sizes = (width, shape.heads, shape.inner, shape.dropout, "relu")
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(shape.dropout)
        encoder, decoder = nn.TransformerEncoderLayer(*sizes, **options), nn.TransformerDecoderLayer(*sizes, **options)
        self.encoder = nn.TransformerEncoder(encoder, shape.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, shape.layers, nn.LayerNorm(width))
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout = nn.Identity()

    def _embed(self, ids_BL: Tensor) -> Tensor:
        x_BLM = self.embedding(ids_BL)
        width = x_BLM.shape[-1]
        return self.dropout(x_BLM * width**0.5 + fv.positions.sinusoidal(x_BLM.shape[1], width))

    def hidden(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        """(B, T, M), what stands before the output."""
        padding_BS = torch.arange(source_BS.shape[1]) >= lengths_B[:, None]
        memory_BSM = self.encoder(self._embed(source_BS), src_key_padding_mask=padding_BS)
        later_TT = nn.Transformer.generate_square_subsequent_mask(target_BT.shape[1], dtype=torch.bool)
        out: Tensor = self.decoder(
            self._embed(target_BT),
            memory_BSM,
            tgt_mask=later_TT,
            tgt_is_causal=True,
            memory_key_padding_mask=padding_BS,
        )
        return out

    def forward(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        return F.linear(self.hidden(source_BS, lengths_B, target_BT), self.embedding.weight, self.bias)


@torch.no_grad()
def give(ours: nn.Module, plain: PlainRNN | PlainTransformer) -> None:
    """Copy the weights of our model into the plain one. Ours may have fewer outputs; the biases of the others stay."""
    table = cast(Any, ours).embedding
    plain.embedding.weight.copy_(table.table)
    plain.bias[table.outputs] = table.bias
    if isinstance(plain, PlainRNN):
        _give_rnn(cast(fv.nn.RNNEncoderDecoder, ours), plain)
    else:
        _give_transformer(cast(fv.nn.TransformerEncoderDecoder, ours), plain)


def _give_rnn(ours: fv.nn.RNNEncoderDecoder, plain: PlainRNN) -> None:
    for own, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
        for name, weight in own.named_parameters():
            getattr(plain.encoder, name + suffix).copy_(weight)
    for name in ("start", "asking", "writing", "readout"):
        getattr(plain, name).load_state_dict(getattr(ours, name).state_dict())
    score = cast(fv.nn.AdditiveAttention, ours.attention).score
    for other, weight in ((plain.query.weight, score.query_weight), (plain.key.weight, score.key_weight)):
        other.copy_(weight)
    plain.v.copy_(score.v)


def _give_transformer(ours: fv.nn.TransformerEncoderDecoder, plain: PlainTransformer) -> None:
    for stack, theirs in ((ours.encoder, plain.encoder), (ours.decoder, plain.decoder)):
        theirs.norm.load_state_dict(stack.norm.state_dict())
        for own, other in zip(stack.layers, theirs.layers, strict=True):
            attentions = [(own.attention, other.self_attn)]
            norms = [own.attention_norm, own.feed_forward_norm]
            if stack is ours.decoder:
                attentions.append((own.cross_attention, other.multihead_attn))
                norms.insert(1, own.cross_attention_norm)
            for mine, packed in attentions:
                parts = (mine.query, mine.key, mine.value)
                packed.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
                packed.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
                packed.out_proj.load_state_dict(mine.output.state_dict())
            for number, norm in enumerate(norms, 1):
                getattr(other, f"norm{number}").load_state_dict(norm.state_dict())
            other.linear1.load_state_dict(own.feed_forward.widen.state_dict())
            other.linear2.load_state_dict(own.feed_forward.narrow.state_dict())


def marian(vocabulary: int, shape: Shape, *, longest: int = 1024) -> Any:
    """A `MarianMTModel` with fresh weights: post-norm, ReLU, embeddings tied and scaled, our special tokens."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=vocabulary,
        decoder_vocab_size=vocabulary,
        max_position_embeddings=longest,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.inner,
        decoder_ffn_dim=shape.inner,
        dropout=shape.dropout,
        activation_function="relu",
        init_std=shape.width**-0.5,
        scale_embedding=True,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
        decoder_start_token_id=BEGIN,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config)


def marian_parameters(vocabulary: int, shape: Shape) -> int:
    """How many numbers a Marian of this shape learns."""
    width, inner = shape.width, shape.inner
    attention, feed_forward, norm = 4 * width * (width + 1), 2 * width * inner + width + inner, 2 * width
    return vocabulary * width + shape.layers * (3 * attention + 2 * feed_forward + 5 * norm)


def marian_like(parameters: int, vocabulary: int, *, layers: int = 4, dropout: float = 0.1) -> Shape:
    """The shape of a Marian with about so many parameters: 4 heads, an inner width 4 times the width."""

    def shaped(width: int) -> Shape:
        return Shape("transformer", width=width, heads=4, layers=layers, inner=4 * width, dropout=dropout)

    return min(map(shaped, range(32, 1025, 16)), key=lambda s: abs(marian_parameters(vocabulary, s) - parameters))


@torch.no_grad()
def give_marian(ours: fv.nn.TransformerEncoderDecoder, theirs: Any) -> None:
    """Copy the weights of our Transformer, with norms last, into a Marian, which then computes the same.

    Positions too: ours interleave sines and cosines, Marian's do not. What ours has no output for is ruled out.
    """
    inner = theirs.model
    inner.shared.weight.copy_(ours.embedding.table)
    theirs.final_logits_bias.fill_(NEVER)[0, ours.embedding.outputs] = ours.embedding.bias
    for stack, other in ((ours.encoder, inner.encoder), (ours.decoder, inner.decoder)):
        other.embed_positions.weight.copy_(fv.positions.sinusoidal(*other.embed_positions.weight.shape))
        for own, layer in zip(stack.layers, other.layers, strict=True):
            named = [("attention", "self_attn")] + [("cross_attention", "encoder_attn")] * (stack is ours.decoder)
            for mine, name in named:
                for part, projection in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
                    state = getattr(getattr(own, mine), part).state_dict()
                    getattr(getattr(layer, name), f"{projection}_proj").load_state_dict(state)
                getattr(layer, f"{name}_layer_norm").load_state_dict(getattr(own, f"{mine}_norm").state_dict())
            layer.final_layer_norm.load_state_dict(own.feed_forward_norm.state_dict())
            layer.fc1.load_state_dict(own.feed_forward.widen.state_dict())
            layer.fc2.load_state_dict(own.feed_forward.narrow.state_dict())
