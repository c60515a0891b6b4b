"""The modules of foveate.nn: against torch's own, and by relations between their outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate import masks
from foveate.nn import Encoder, EncoderLayer, MultiHeadAttention
from foveate.operator import observe

B, L, K, H, D = 2, 5, 7, 3, 4
M = H * D


def test_multi_head_attention_equals_torch() -> None:
    ours = MultiHeadAttention(M, H).double()
    theirs = nn.MultiheadAttention(M, H, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    x, memory = torch.randn(B, L, M, dtype=torch.float64), torch.randn(B, K, M, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])
    torch.testing.assert_close(ours(x, memory), theirs(x, memory, memory)[0])


def test_encoder_layer_equals_torch() -> None:
    ours = EncoderLayer(M, H, 17).double().eval()
    theirs = nn.TransformerEncoderLayer(M, H, 17, 0.0, "gelu", batch_first=True, norm_first=True).double().eval()
    with torch.no_grad():
        attention = ours.attention
        projections = (attention.query, attention.key, attention.value)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        theirs.linear1.load_state_dict(ours.feed_forward.widen.state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward.narrow.state_dict())
        for norm in (ours.attention_norm, ours.feed_forward_norm):
            nn.init.normal_(norm.weight)
        theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
        theirs.norm2.load_state_dict(ours.feed_forward_norm.state_dict())
    x = torch.randn(B, L, M, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_padding_changes_nothing() -> None:
    encoder = Encoder(2, M, H, 17).eval()
    x = torch.randn(B, L, M)
    lengths = torch.tensor([L, 3])
    padded = encoder(x, mask=masks.padding(lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length])[0]
        torch.testing.assert_close(padded[row, :length], alone)
    changed = x.clone()
    changed[1, 3:] = 100.0
    assert torch.equal(encoder(changed, mask=masks.padding(lengths))[1, :3], padded[1, :3])


def test_every_layer_can_be_watched() -> None:
    seen: list = []
    encoder = Encoder(2, M, H, 17)
    with observe(seen.append):
        encoder(torch.randn(B, L, M))
    assert [tuple(weights.shape) for weights in seen] == [(B, H, L, L)] * 2


def test_shapes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads; got width 10, heads 3"):
        MultiHeadAttention(10, 3)
