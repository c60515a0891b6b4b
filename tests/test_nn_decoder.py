"""Caches, encoders and decoders: token by token equals the whole, and the layers equal PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate import masks, positions
from foveate.lengths import longest
from foveate.nn import (
    Cache,
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    LatentAttention,
    MultiHeadAttention,
)

B, L, K, H, M, F = 2, 7, 5, 3, 12, 17
STEPS = ((0, 3), (3, 4), (4, 5), (5, 7))  # a prompt, tokens one by one, several at once


def sequence(length: int = L, batch: int = B, width: int = M) -> Tensor:
    return torch.randn(batch, length, width, dtype=torch.float64)


def stepwise(model: nn.Module, x: Tensor, *memory: Tensor, cache: Cache, **options: Any) -> Tensor:
    return torch.cat([model(x[:, a:b], *memory, cache=cache, **options) for a, b in STEPS], dim=1)


PLACES: list[Any] = [None, positions.Rotary(), positions.alibi(H), positions.RelativeBuckets(H, 8, max_distance=9)]


@pytest.mark.parametrize("place", PLACES, ids=["none", "rotary", "alibi", "buckets"])
@pytest.mark.parametrize("size", [None, 11], ids=["growing", "static"])
@torch.no_grad()
def test_a_module_reads_its_cache_as_the_whole_sequence(place: Any, size: int | None) -> None:
    module = MultiHeadAttention(M, H, groups=1, positions=place, mask=masks.causal() & masks.window(3)).double()
    x, cache = sequence(), Cache(size)
    oracle.close(stepwise(module, x, cache=cache), module(x))
    assert (cache.length, cache.length_of(module)) == (L, L)


@pytest.mark.parametrize("size", [None, 7], ids=["growing", "static"])
@torch.no_grad()
def test_a_decoder_generates_as_it_reads(size: int | None) -> None:
    decoder = Decoder(2, M, H, F, memory_width=11).double().eval()
    x, memory, cache = sequence(), sequence(K, width=11), Cache(size)
    lengths = masks.padding([K, 3])
    whole = decoder(x, memory, memory_mask=lengths)
    oracle.close(stepwise(decoder, x, memory, memory_mask=lengths, cache=cache), whole)
    changed = memory.clone()
    changed[1, 3:] = 100.0
    oracle.close(decoder(x, changed, memory_mask=lengths), whole)


@torch.no_grad()
def test_a_language_model_with_unequal_prompts() -> None:
    """Padding on the left, as a mask over all keys so far: each text gives what it gives alone."""
    attention = {"attention": lambda: MultiHeadAttention(M, H, positions=positions.Rotary())}
    decoder = Decoder(2, M, H, F, cross=False, **attention).double().eval()
    x, cache = sequence(), Cache()
    short = x[1:, 2:]  # its first two tokens are padding
    found = []
    for a, b in STEPS:
        seen = masks.padding([b, b - 2], side="left")
        found.append(decoder(x[:, a:b], mask=seen, cache=cache))
    together = torch.cat(found, dim=1)
    oracle.close(together[:1], decoder(x[:1]))
    oracle.close(together[1:, 2:], decoder(short))


@torch.no_grad()
def test_latent_attention_in_a_decoder() -> None:
    def make() -> LatentAttention:
        return LatentAttention(M, H, latent_width=5, rotary_width=2)

    decoder = Decoder(2, M, H, F, cross=False, attention=make).double().eval()
    x = sequence()
    oracle.close(stepwise(decoder, x, cache=Cache(L)), decoder(x))


@torch.no_grad()
def test_frequencies_that_depend_on_the_length_turn_kept_keys_anew() -> None:
    place = positions.Rotary(scaling=positions.DynamicNTK(2.0, 4))
    for module in (
        MultiHeadAttention(M, H, positions=place).double(),
        LatentAttention(M, H, latent_width=5, rotary_width=4, positions=place).double(),
    ):
        x, cache = sequence(), Cache()
        for i in range(L):
            out = module(x[:, i : i + 1], cache=cache)
            oracle.close(out[:, 0], module(x[:, : i + 1])[:, -1])


def test_gradients_go_through_a_growing_cache() -> None:
    decoder = Decoder(2, M, H, F).double()
    x, memory = sequence().requires_grad_(), sequence(K).requires_grad_()
    found = []
    for out in (decoder(x, memory), stepwise(decoder, x, memory, cache=Cache())):
        found.append(torch.autograd.grad(out.square().sum(), [x, memory, *decoder.parameters()]))
    for whole, parts in zip(*found, strict=True):
        oracle.close(parts, whole)
    with pytest.raises(ValueError, match=r"no gradient survives; use Cache\(\)"):
        decoder(x, memory, cache=Cache(L))


@torch.no_grad()
def test_beams_and_going_back() -> None:
    decoder = Decoder(2, M, H, F).double().eval()
    x, memory = sequence(), sequence(K)
    rows = torch.tensor([1, 1, 0])
    cache = Cache()
    decoder(x[:, :4], memory, cache=cache)
    cache.select(rows)
    oracle.close(decoder(x[rows, 4:], memory[rows], cache=cache), decoder(x[rows], memory[rows])[:, 4:])
    listed = Cache()
    decoder(x[:, :4], memory, cache=listed)
    listed.select(rows.tolist())
    oracle.close(decoder(x[rows, 4:], memory[rows], cache=listed), decoder(x[rows], memory[rows])[:, 4:])
    for odd in (torch.tensor([True, False]), [0.5], 1):
        with pytest.raises(ValueError, match=r"rows must be whole numbers \(B',\), the sequences .*keep.nonzero"):
            cache.select(odd)  # type: ignore[arg-type]
    cache.crop(2)
    assert cache.length == 2
    oracle.close(decoder(x[rows, 2:], memory[rows], cache=cache), decoder(x[rows], memory[rows])[:, 2:])


@torch.no_grad()
def test_a_memory_is_projected_once_and_never_mistaken_for_another() -> None:
    module = MultiHeadAttention(M, H).double()
    called: list[int] = []
    module.key.register_forward_hook(lambda *_: called.append(1))
    x, memory, other, cache = sequence(), sequence(K), sequence(K), Cache()
    for _ in range(3):
        module(x, memory, cache=cache)
    assert called == [1]
    oracle.close(module(x, other, cache=cache), module(x, other))
    memory_then = module(x, memory, cache=cache)
    memory.mul_(2.0)  # the same tensor, written into
    assert not torch.allclose(module(x, memory, cache=cache), memory_then)
    oracle.close(module(x, memory, cache=cache), module(x, memory))


@pytest.mark.parametrize("size", [None, L])
@torch.no_grad()
def test_maps_of_earlier_calls_stay_what_they_were(size: int | None) -> None:
    module = MultiHeadAttention(M, H, mask=masks.causal()).double()
    x, cache = sequence(), Cache(size)
    _, first = module(x[:, :4], cache=cache, return_weights=True)
    before = first.dense()
    module(x[:, 4:6], cache=cache)
    cache.crop(3)
    module(x[:, :2], cache=cache)
    assert first.shape == (B, H, 4, 4)
    assert torch.equal(first.dense(), before)


@pytest.mark.parametrize(("query", "key"), [(1.0, torch.nan), (1e30, -1e30)])
def test_odd_numbers_in_a_cache_are_not_hidden(query: float, key: float) -> None:
    """The fused kernel would give zeros: every score is NaN, or overflows. The keys are a part of a larger tensor."""
    cache, owner = Cache(11), nn.Identity()
    (k,) = cache.append(owner, torch.full((B, H, L, 4), key))
    q, v = torch.full((B, H, 1, 4), query), torch.ones(B, H, L, 4)
    assert not k.is_contiguous()
    assert not torch.nn.functional.scaled_dot_product_attention(q, k, v).any()
    assert fv.attention(q, k, v)[0].isnan().all()


@torch.no_grad()
def test_generation_is_watched() -> None:
    decoder = Decoder(1, M, H, F).double().eval()
    x, memory = sequence(), sequence(K)
    with fv.watch(decoder) as whole:
        decoder(x, memory)
    cache = Cache()
    with fv.watch(decoder) as seen:
        stepwise(decoder, x, memory, cache=cache)
    for name, kind in (("layers.0.attention", "decoder"), ("layers.0.cross_attention", "cross")):
        assert seen.info(name).kind == kind
        rows = whole[name].dense()
        for (a, b), step in zip(STEPS, seen[name], strict=True):
            oracle.close(step.dense(), rows[:, :, a:b, : b if kind == "decoder" else K])


@torch.no_grad()
def test_what_a_cache_refuses() -> None:
    module = MultiHeadAttention(M, H).double()
    with pytest.raises(ValueError, match="a cache must have room for at least 1 position; got size 0"):
        Cache(0)
    cache = Cache(4)
    module(sequence(3), cache=cache)
    with pytest.raises(ValueError, match="the cache has room for 4 positions; 3 are taken and 2 came"):
        module(sequence(2), cache=cache)
    with pytest.raises(ValueError, match=r"the cache holds shape \(2, 3, 3, 4\); \(1, 3, 1, 4\) cannot follow it"):
        module(sequence(1, batch=1), cache=cache)
    with pytest.raises(ValueError, match="a cache cannot be cropped to -1 positions"):
        cache.crop(-1)
    assert repr(cache) == "Cache(3 of 4 positions, 1 modules)"


# layers


def copied(ours: EncoderLayer | DecoderLayer, theirs: nn.Module) -> None:
    """Random weights in PyTorch's layer, and the same in ours."""
    for t in theirs.parameters():
        nn.init.normal_(t, std=0.4)
    names = {"self_attn": ours.attention, "multihead_attn": getattr(ours, "cross_attention", None)}
    with torch.no_grad():
        for name, own in names.items():
            if own is None:
                continue
            other = getattr(theirs, name)
            for layer, w, b in zip(
                (own.query, own.key, own.value), other.in_proj_weight.chunk(3), other.in_proj_bias.chunk(3), strict=True
            ):
                layer.weight.copy_(w)
                layer.bias.copy_(b)
            own.output.load_state_dict(other.out_proj.state_dict())
    norms = [ours.attention_norm, getattr(ours, "cross_attention_norm", None), ours.feed_forward_norm]
    for i, norm in enumerate(n for n in norms if n is not None):
        norm.load_state_dict(getattr(theirs, f"norm{i + 1}").state_dict())
    ours.feed_forward.widen.load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward.narrow.load_state_dict(theirs.linear2.state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh], ids=["relu", "gelu", "tanh"])
def test_layers_equal_torch(norm: Any, activation: Any) -> None:
    options = {"activation": activation, "batch_first": True, "norm_first": norm == "pre"}
    x, memory = sequence(), sequence(K)
    encoder = EncoderLayer(M, H, F, norm=norm, activation=activation).double()
    theirs: nn.Module = nn.TransformerEncoderLayer(M, H, F, 0.0, **options).double()
    copied(encoder, theirs)
    oracle.close(encoder(x), theirs(x))
    decoder = DecoderLayer(M, H, F, norm=norm, activation=activation).double()
    theirs = nn.TransformerDecoderLayer(M, H, F, 0.0, **options).double()
    copied(decoder, theirs)
    hides = torch.ones(L, L, dtype=torch.bool).triu(1)
    oracle.close(decoder(x, memory), theirs(x, memory, tgt_mask=hides))


def test_the_last_norm_is_there_where_layers_norm_first() -> None:
    for stack in (Encoder, Decoder):
        assert isinstance(stack(1, M, H, F).norm, nn.LayerNorm)
        assert not any(name.startswith("norm.") for name in stack(1, M, H, F, norm="post").state_dict())


def test_names_of_weights_are_those_of_the_first_release() -> None:
    """Shipped weights load by them."""
    attention = [f"attention.{n}.{kind}" for n in ("query", "key", "value", "output") for kind in ("weight", "bias")]
    inside = [f"attention_norm.{k}" for k in ("weight", "bias")] + attention
    inside += [f"feed_forward_norm.{k}" for k in ("weight", "bias")]
    inside += [f"feed_forward.{n}.{k}" for n in ("widen", "narrow") for k in ("weight", "bias")]
    encoder = Encoder(1, M, H, F, dropout=0.1)
    assert list(encoder.state_dict()) == [f"layers.0.{name}" for name in inside] + ["norm.weight", "norm.bias"]


@torch.no_grad()
def test_a_gated_feed_forward_is_a_product_of_two_maps() -> None:
    """With nothing but linear maps, twice the input (and no biases) is four times the output."""
    gated = FeedForward(M, F, activation="linear", gated=True).double()
    x = sequence()
    product = nn.functional.linear(x, gated.widen.weight, gated.widen.bias)
    assert gated.gate is not None
    product = product * nn.functional.linear(x, gated.gate.weight, gated.gate.bias)
    torch.testing.assert_close(gated(x), nn.functional.linear(product, gated.narrow.weight, gated.narrow.bias))
    for part in (gated.widen, gated.gate, gated.narrow):
        part.bias.zero_()
    torch.testing.assert_close(gated(2 * x), 4 * gated(x))
    assert "gate.weight" not in FeedForward(M, F).state_dict()


def test_dropout_of_sublayers() -> None:
    x, memory = sequence(), sequence(K)
    for layer, given in ((EncoderLayer(M, H, F, dropout=0.5), (x,)), (DecoderLayer(M, H, F, dropout=0.5), (x, memory))):
        layer.double()
        assert not torch.allclose(layer(*given), layer(*given))
        layer.eval()
        assert torch.equal(layer(*given), layer(*given))


def test_what_layers_refuse() -> None:
    with pytest.raises(ValueError, match="norm must be 'pre' or 'post'; got 'first'"):
        EncoderLayer(M, H, F, norm="first")  # type: ignore[arg-type]
    known = "'gelu', 'relu', 'silu', 'tanh', 'linear'"
    with pytest.raises(ValueError, match=f"unknown activation 'swish'; expected {known}"):
        DecoderLayer(M, H, F, activation="swish")
    with pytest.raises(ValueError, match="this decoder needs a memory: it was made with cross=True"):
        Decoder(1, M, H, F)(torch.randn(B, L, M))
    with pytest.raises(ValueError, match="this decoder reads no memory: it was made with cross=False"):
        Decoder(1, M, H, F, cross=False)(torch.randn(B, L, M), torch.randn(B, K, M))


@torch.no_grad()
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, 1e30])
def test_what_a_cache_notes_of_its_rows_follows_what_it_holds(odd: float) -> None:
    """Odd numbers that came early, were chosen by a search, are of a memory, or were written in place: all are seen."""
    start, later, owner = torch.ones(2, H, 3, 4), torch.ones(2, H, 1, 4), nn.Identity()
    start[0, 0, 0] = odd
    cache = Cache()
    cache.append(owner, start)
    (k,) = cache.append(owner, later)
    assert float(longest(k)) == float(torch.linalg.vector_norm(start)) or odd != 1e30
    assert not float(longest(k)) < 1e30
    cache.select([1, 0])
    (k,) = cache.append(owner, later)
    assert not float(longest(k)) < 1e30
    memory = torch.ones(2, 5, 4)
    (made,) = cache.once(owner, memory, lambda: (torch.ones(2, H, 5, 4),))
    assert float(longest(made)) == pytest.approx((2 * H * 5 * 4) ** 0.5)
    made[0, 0, 0] = odd
    assert not float(longest(made)) < 1e30
    cache.select([1, 1], memory)
    (made,) = cache.once(owner, memory, lambda: (start,))
    assert not float(longest(made)) < 1e30


def test_nothing_is_noted_where_gradients_flow_or_changes_are_not_told() -> None:
    owner, x = nn.Identity(), torch.ones(1, H, 2, 4, requires_grad=True)
    cache = Cache()
    for _ in range(2):
        (k,) = cache.append(owner, x)
        assert not [name for name in vars(k) if name.startswith("_foveate")]
    with torch.inference_mode():
        (k,) = Cache().append(owner, torch.ones(1, H, 2, 4))
        k[0, 0, 0, 0] = torch.nan
        assert torch.isnan(longest(k))
