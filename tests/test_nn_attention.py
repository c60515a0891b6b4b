"""MultiHeadAttention and LatentAttention, part by part: against formulas written out, and by relations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate import masks, normalizers, positions, scores
from foveate.nn import Cache, Encoder, LatentAttention, MultiHeadAttention, TransformerEncoderDecoder

B, Q, K, H, G, D = 2, 5, 7, 6, 3, 11
M, N, P = 13, 17, 19  # model width, and those of what keys and values are made from


def sequence(length: int = Q, width: int = M, batch: int = B) -> Tensor:
    return torch.randn(batch, length, width, dtype=torch.float64)


def heads(x: Tensor, layer: nn.Linear, count: int) -> Tensor:
    """(B, L, M) -> (B, H, L, D), written out."""
    y = x @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    return y.reshape(*y.shape[:2], count, -1).permute(0, 2, 1, 3)


def by_hand(module: MultiHeadAttention, x: Tensor, memory: Tensor, values: Tensor, **options: Any) -> Any:
    q, k = heads(x, module.query, H), heads(memory, module.key, module.groups)
    w = oracle.weights(q, k, **options)
    out = oracle.output(w, heads(values, module.value, module.groups))
    return out.transpose(1, 2).flatten(2) @ module.output.weight.T + module.output.bias, w


@pytest.mark.parametrize("groups", [None, G, 1])
def test_self_cross_and_three_sequences(groups: int | None) -> None:
    plain = MultiHeadAttention(M, H, groups=groups, head_width=D).double()
    x, memory = sequence(), sequence(K)
    for given in ((x,), (x, memory)):
        out, weights = plain(*given, return_weights=True)
        wanted, w = by_hand(plain, x, given[-1], given[-1])
        oracle.close(out, wanted)
        oracle.close(weights.dense(), w)
        assert torch.equal(plain(*given), out)
    wide = MultiHeadAttention(M, H, groups=groups, head_width=D, key_width=N, value_width=P).double()
    memory, values = sequence(K, N), sequence(K, P)
    oracle.close(wide(x, memory, values), by_hand(wide, x, memory, values)[0])


def test_groups_equal_repeated_heads() -> None:
    few, many = (MultiHeadAttention(M, H, groups=g, head_width=D).double() for g in (G, H))
    state = few.state_dict()
    for name in ("key", "value"):
        for kind in ("weight", "bias"):
            t = state[f"{name}.{kind}"]
            repeated = t.reshape(G, 1, D, *t.shape[1:]).expand(G, H // G, D, *t.shape[1:])
            state[f"{name}.{kind}"] = repeated.reshape(H * D, *t.shape[1:])
    many.load_state_dict(state)
    x = sequence()
    oracle.close(few(x), many(x))


def test_without_bias_and_with_one_for_the_scores() -> None:
    module = MultiHeadAttention(M, H, groups=G, head_width=D, bias=False).double()
    assert all(name.endswith("weight") for name in module.state_dict())
    x, bias = sequence(), torch.randn(B, H, Q, Q, dtype=torch.float64)
    _, weights = module(x, bias=bias, return_weights=True)
    oracle.close(weights.dense(), oracle.weights(heads(x, module.query, H), heads(x, module.key, G), bias=bias))


def test_score_normaliser_and_mask_are_parts() -> None:
    sinks = nn.Parameter(torch.randn(H, dtype=torch.float64))
    module = MultiHeadAttention(
        M,
        H,
        head_width=D,
        score=scores.scaled_dot(softcap=2.0),
        normalizer=normalizers.softmax(sinks),
        mask=masks.causal(),
    ).double()
    x = sequence()
    causal = torch.ones(Q, Q, dtype=torch.bool).tril()
    out, weights = module(x, return_weights=True)
    options: dict[str, Any] = {"softcap": 2.0, "sinks": sinks.detach()}
    wanted, w = by_hand(module, x, x, x, allowed=causal, **options)
    oracle.close(out, wanted)
    oracle.close(weights.dense(), w)
    hidden = torch.rand(B, 1, Q, Q) < 0.5
    for mask in (hidden, masks.tensor(hidden)):  # a call's own mask is joined to it
        _, w = by_hand(module, x, x, x, allowed=causal & hidden, **options)
        oracle.close(module(x, mask=mask, return_weights=True)[1].dense(), w)


def test_parameters_inside_a_part_are_those_of_the_module() -> None:
    sinks, slopes = (nn.Parameter(torch.randn(H)) for _ in range(2))
    module = MultiHeadAttention(
        M, H, head_width=D, normalizer=normalizers.softmax(sinks), positions=positions.alibi(slopes)
    )
    assert {"normalizer_sinks", "positions_slopes"} <= set(module.state_dict())
    module.double()(sequence()).sum().backward()
    assert sinks.grad is not None
    assert slopes.grad is not None
    others = {name: torch.zeros_like(t) for name, t in module.state_dict().items()}
    module.load_state_dict(others, assign=True)  # puts other tensors in their place
    weights = module(sequence(), return_weights=True)[1]
    oracle.close(weights.dense(), torch.full((B, H, Q, Q), 1 / (Q + 1), dtype=torch.float64))
    warm = normalizers.softmax(nn.Parameter(torch.zeros(H)), temperature=2.0)
    inner = MultiHeadAttention(M, H, head_width=D, normalizer=warm)
    assert len(list(inner.parameters())) == 9  # also from inside a part of a part
    inner(torch.randn(B, Q, M)).sum().backward()
    assert all(t.grad is not None for t in inner.parameters())
    shared = positions.RelativeBuckets(H)
    assert "positions.weight" in MultiHeadAttention(M, H, head_width=D, positions=shared).state_dict()


def test_positions_that_are_a_bias() -> None:
    x, call_bias = sequence(), torch.randn(Q, Q, dtype=torch.float64)
    distance = torch.arange(Q) - torch.arange(Q)[:, None]
    alibi = -positions.alibi_slopes(H)[:, None, None] * distance.abs()
    buckets = positions.RelativeBuckets(H, 4, max_distance=3).double()
    for place, numbers in ((positions.alibi(H), alibi), (buckets, table_of(buckets).detach())):
        module = MultiHeadAttention(M, H, head_width=D, positions=place).double()
        for extra in (None, call_bias):
            _, weights = module(x, bias=extra, return_weights=True)
            total = numbers if extra is None else numbers + extra
            oracle.close(weights.dense(), by_hand(module, x, x, x, bias=total)[1])


def table_of(buckets: positions.RelativeBuckets) -> Tensor:
    """(H, Q, Q), where buckets are four: the token itself, all before it, none (distance 0 after), all after it."""
    place = torch.empty(Q, Q, dtype=torch.int64)
    for i in range(Q):
        for j in range(Q):
            place[i, j] = (2 if j > i else 0) + (0 if abs(j - i) < 1 else 1)
    return buckets.weight[place].permute(2, 0, 1)


@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
def test_positions_that_rotate(pairing: Any) -> None:
    module = MultiHeadAttention(M, H, groups=G, head_width=8, positions=positions.Rotary(100.0, 6, pairing)).double()
    x, memory = sequence(), sequence(K)

    def turned(t: Tensor, first: int) -> Tensor:
        """Each pair as a complex number, times exp(i angle)."""
        angle = torch.arange(first, first + t.shape[-2])[:, None] * 100.0 ** (-torch.arange(0, 6, 2).double() / 6)
        a, b = (t[..., :3], t[..., 3:6]) if pairing == "halves" else (t[..., 0:6:2], t[..., 1:6:2])
        z = torch.complex(a, b) * torch.exp(1j * angle)
        pairs = (
            torch.cat([z.real, z.imag], -1) if pairing == "halves" else torch.stack([z.real, z.imag], -1).flatten(-2)
        )
        return torch.cat([pairs, t[..., 6:]], -1)

    for given in ((x,), (x, memory)):
        q, k = heads(x, module.query, H), heads(given[-1], module.key, G)
        wanted = oracle.weights(turned(q, k.shape[2] - Q), turned(k, 0))
        oracle.close(module(*given, return_weights=True)[1].dense(), wanted)


def test_your_own_positions_need_one_method() -> None:
    class Scaled:
        def rotate(self, x: Tensor, positions: int = 0, *, length: int | None = None) -> Tensor:
            return x * (1 + positions + torch.arange(x.shape[-2], dtype=x.dtype))[:, None]

    module = MultiHeadAttention(M, H, head_width=D, positions=Scaled()).double()
    x = sequence()
    factor = torch.arange(1, Q + 1, dtype=torch.float64)[:, None]
    wanted = oracle.weights(heads(x, module.query, H) * factor, heads(x, module.key, H) * factor)
    oracle.close(module(x, return_weights=True)[1].dense(), wanted)


def test_dropout_is_for_training() -> None:
    module = MultiHeadAttention(M, H, head_width=D, dropout=0.5).double()
    x = sequence()
    assert not torch.allclose(module(x), module(x))
    module.eval()
    oracle.close(module(x), by_hand(module, x, x, x)[0])


def test_whole_heads_are_dropped_of_a_sequence_in_training() -> None:
    torch.manual_seed(3)
    module = MultiHeadAttention(8, 4, head_dropout=0.5)
    module.output.weight.data, module.output.bias.data = torch.eye(8), torch.zeros(8)  # what is read, head beside head
    x = torch.randn(64, 3, 8)
    whole = module.eval()(x)
    dropped = module.train()(x)
    factor = (dropped / whole).unflatten(-1, (4, 2)).permute(0, 2, 1, 3).flatten(2)  # of each sequence and head
    assert (factor.round() == factor[..., :1].round()).all(), "a head is dropped whole"
    torch.testing.assert_close(factor, factor.round())
    assert set(factor.round().unique().tolist()) == {0.0, 2.0}, "what stays counts for what went"
    assert 0.3 < float((factor[..., 0] == 0).float().mean()) < 0.7
    with pytest.raises(ValueError, match="head_dropout must be at least 0 and less than 1; got 1"):
        MultiHeadAttention(8, 4, head_dropout=1)


def test_every_attention_of_a_stack_drops_heads() -> None:
    model = TransformerEncoderDecoder(20, width=8, heads=2, layers=2, inner=8, dropout=0.0, head_dropout=0.25)
    found = [m.head_dropout for m in model.modules() if isinstance(m, MultiHeadAttention)]
    assert found == [0.25] * 6


def test_gradients() -> None:
    module = MultiHeadAttention(4, 2, groups=1, positions=positions.Rotary(), mask=masks.causal()).double()
    latent = LatentAttention(4, 2, latent_width=3, query_latent_width=5, rotary_width=2).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    assert torch.autograd.gradcheck(latent, (x,))


def test_each_is_watched() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = MultiHeadAttention(M, H, groups=G, head_width=D, mask=masks.causal())
            self.cross_attention = MultiHeadAttention(M, H, head_width=D, key_width=N)
            self.latent = LatentAttention(M, H, latent_width=4, head_width=D, rotary_width=6)

        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            return self.latent(self.cross_attention(self.own(x), memory))

    model = Model().double()
    x, memory = sequence(), sequence(K, N)
    plain = model(x, memory)
    with fv.watch(model) as seen:
        assert torch.equal(model(x, memory), plain)
    assert [(name, seen.info(name).kind) for name in seen] == [
        ("own", "decoder"), ("cross_attention", "cross"), ("latent", "encoder"),
    ]  # fmt: skip
    first, own = by_hand(model.own, x, x, x, allowed=torch.ones(Q, Q, dtype=torch.bool).tril())
    second, cross = by_hand(model.cross_attention, first, memory, memory)
    for name, wanted in (("own", own), ("cross_attention", cross), ("latent", latent_by_hand(model.latent, second)[1])):
        oracle.close(seen[name].dense(), wanted.detach())


# latent attention


def latent_by_hand(module: LatentAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """DeepSeek-V2, eq. 9 to 19 and 37 to 47, head by head."""

    def normed(y: Tensor, norm: Any) -> Tensor:
        eps = torch.finfo(y.dtype).eps
        return y / (y.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight

    def turned(t: Tensor) -> Tensor:
        r = t.shape[-1]
        angle = torch.arange(t.shape[-2])[:, None] * 10000.0 ** (-torch.arange(0, r, 2).double() / r)
        z = torch.complex(t[..., : r // 2], t[..., r // 2 :]) * torch.exp(1j * angle)
        return torch.cat([z.real, z.imag], -1)

    d, r, count = module.head_width, module.rotary_width, module.heads
    c_query = x
    if isinstance(module.query_latent, nn.Sequential):
        c_query = normed(x @ module.query_latent[0].weight.T, module.query_latent[1])
    c = normed(x @ module.latent.weight.T, module.latent_norm)
    q = (c_query @ module.query.weight.T).unflatten(-1, (count, d + r))
    k_rotary = turned(x @ module.rotary_key.weight.T) if module.rotary_key is not None else None
    outs, ws = [], []
    for h in range(count):
        k = c @ module.key.weight[h * d : (h + 1) * d].T
        s = q[..., h, :d] @ k.mT
        if k_rotary is not None:
            s = s + turned(q[..., h, d:]) @ k_rotary.mT
        w = torch.softmax(s / (d + r) ** 0.5, -1)
        outs.append(w @ (c @ module.value.weight[h * d : (h + 1) * d].T))
        ws.append(w)
    return torch.cat(outs, -1) @ module.output.weight.T, torch.stack(ws, 1)


@pytest.mark.parametrize("options", [{}, {"rotary_width": 6}, {"rotary_width": 2, "query_latent_width": 5}], ids=str)
def test_latent_attention_equals_its_formula(options: dict[str, Any]) -> None:
    module = LatentAttention(M, H, latent_width=4, head_width=D, **options).double()
    nn.init.normal_(module.latent_norm.weight)
    x = sequence()
    out, weights = module(x, return_weights=True)
    wanted, w = latent_by_hand(module, x)
    oracle.close(out, wanted)
    oracle.close(weights.dense(), w)


def test_latent_attention_caches_its_latent_vectors_only() -> None:
    module = LatentAttention(M, H, latent_width=4, head_width=D, rotary_width=6).double().eval()
    x, cache = sequence(), Cache()
    with torch.no_grad():
        whole, rows = module(x, mask=masks.causal(), return_weights=True)
        parts = [
            module(x[:, a:b], mask=masks.causal(), cache=cache, return_weights=True)
            for a, b in ((0, 2), (2, 3), (3, 5))
        ]
    oracle.close(torch.cat([out for out, _ in parts], 1), whole)
    oracle.close(parts[-1][1].dense(), rows[:, :, 3:])
    assert parts[-1][1].key.shape == (B, 1, Q, 4 + 6)  # one for all heads: nothing was expanded


# what cannot be


def test_errors() -> None:
    with pytest.raises(ValueError, match="heads must be a multiple of groups; got heads 6, groups 4"):
        MultiHeadAttention(12, 6, groups=4)
    with pytest.raises(ValueError, match="heads must be a multiple of groups; got heads 6, groups 0"):
        MultiHeadAttention(12, 6, groups=0)
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and less than 1; got 1\.0"):
        MultiHeadAttention(12, 6, dropout=1.0)
    with pytest.raises(
        TypeError, match=r"positions must rotate queries and keys, as fv\.positions\.Rotary does.*; got str"
    ):
        MultiHeadAttention(12, 6, positions="rotary")
    with pytest.raises(TypeError, match=r"a module's mask must be one of fv\.masks; got Tensor"):
        MultiHeadAttention(12, 6, mask=torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="width must be a multiple of heads; got width 10, heads 3"):
        LatentAttention(10, 3, latent_width=4)
    with pytest.raises(ValueError, match="the rotary width must be even; got 3"):
        LatentAttention(12, 3, latent_width=4, rotary_width=3)
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and less than 1; got -0\.5"):
        LatentAttention(12, 3, latent_width=4, dropout=-0.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'normaliser'"):
        MultiHeadAttention(12, 6, normaliser="softmax")


def test_a_stack_takes_any_attention() -> None:
    encoder = Encoder(2, 12, 6, 17, attention=lambda: LatentAttention(12, 6, latent_width=5, rotary_width=2))
    assert isinstance(encoder.layers[1].attention, LatentAttention)
    assert encoder(torch.randn(B, Q, 12), mask=masks.padding([5, 3])).shape == (B, Q, 12)


def test_it_compiles_into_one_graph() -> None:
    torch._dynamo.reset()
    module = MultiHeadAttention(12, 6, groups=3, positions=positions.Rotary(), mask=masks.causal())
    x = torch.randn(B, Q, 12)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))
    torch._dynamo.reset()


def test_autocast() -> None:
    module = MultiHeadAttention(12, 6, groups=3, positions=positions.Rotary())
    x = torch.randn(B, Q, 12)
    with torch.autocast("cpu", torch.bfloat16):
        out, weights = module(x, return_weights=True)
    assert out.dtype == weights.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), module(x), rtol=0.05, atol=0.02)
