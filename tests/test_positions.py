"""Positions: against formulas written out here, against transformers' own, and by what they promise of distances."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate import positions
from foveate.biases import Distances
from foveate.positions import DynamicNTK, Interpolation, Llama3, LongRoPE, YaRN
from oracle import H, K, Q

L, W = 5, 14


def gaps(queries: int = Q, keys: int = K) -> Tensor:
    """(Q, K): key position less query position; the last query sits at the last key."""
    return torch.tensor([[j - (i + keys - queries) for j in range(keys)] for i in range(queries)])


# added to the input


def test_sinusoids_fall_in_frequency() -> None:
    table = positions.sinusoidal(L, 6)
    assert table.shape == (L, 6)
    place = torch.arange(L, dtype=torch.float32)
    torch.testing.assert_close(table[:, 0], place.sin())
    torch.testing.assert_close(table[:, 3], (place * 10000 ** (-2 / 6)).cos())


def test_learned_positions_are_rows_of_a_table() -> None:
    learned = positions.Learned(L, 3)
    assert torch.equal(learned(4), learned.table[:4])
    places = torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(learned(places), learned.table[places])
    assert learned(0).shape == (0, 3) and learned(places[:0]).shape == (0, 2, 3)
    learned(places).sum().backward()
    assert learned.table.grad is not None and learned.table.grad[:, 0].tolist() == [1, 2, 0, 0, 1]
    assert str(learned) == "Learned(length=5, width=3)"


# rotary


def turned(x: Tensor, places: list[int], width: int, pairs: list[tuple[int, int]], base: float = 10000.0) -> Tensor:
    """Su et al. 2021, equation 15, number by number: (L, D)."""
    out = x.clone()
    for row, m in enumerate(places):
        for n, (i, j) in enumerate(pairs):
            angle = m * base ** (-2 * n / width)
            c, s = math.cos(angle), math.sin(angle)
            out[row, i] = x[row, i] * c - x[row, j] * s
            out[row, j] = x[row, i] * s + x[row, j] * c
    return out


@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
@pytest.mark.parametrize("width", [W, 6])
def test_rotary_turns_pairs_by_position(pairing: Any, width: int) -> None:
    x = torch.randn(2, 3, L, W, dtype=torch.float64)
    half = width // 2
    pairs = [(n, n + half) if pairing == "halves" else (2 * n, 2 * n + 1) for n in range(half)]
    places = torch.tensor([[0, 3, 1, 40, 2], [7, 0, 0, 5, 6]])
    rows = [[turned(h, places[b].tolist(), width, pairs) for h in x[b]] for b in range(2)]
    exact = torch.stack([torch.stack(r) for r in rows])
    oracle.close(positions.rotary(x, places, width=width, pairing=pairing), exact)
    exact = torch.stack([turned(h, [9, 10, 11, 12, 13], width, pairs, 500.0) for h in x[1]])
    oracle.close(positions.rotary(x[1], 9, width=width, pairing=pairing, base=500.0), exact)
    oracle.close(positions.rotary(x[1, 2], torch.arange(9, 14), width=width, pairing=pairing, base=500.0), exact[2])
    lengths = positions.rotary(x, places, width=width, pairing=pairing).square().sum(-1)
    oracle.close(lengths, x.square().sum(-1))


@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
@pytest.mark.parametrize("scaling", [None, Interpolation(3.0), YaRN(4.0, 16), Llama3(original=32)], ids=str)
def test_rotary_scores_depend_on_distances_only(pairing: Any, scaling: Any) -> None:
    q, k, v = oracle.inputs(width=W)
    options = {"pairing": pairing, "scaling": scaling}

    def run(shift: int) -> Tensor:
        turned_q = positions.rotary(q, K - Q + shift, **options)
        found: Tensor = fv.attention(turned_q, positions.rotary(k, shift, **options), v)[1].dense()
        return found

    torch.testing.assert_close(run(0), run(1000), rtol=1e-9, atol=1e-12)
    assert (run(0) - fv.attention(q, k, v)[1].dense()).abs().max() > 0.01


def test_a_cached_query_is_that_of_the_whole_text() -> None:
    x = torch.randn(1, 3, K, W)
    whole = positions.rotary(x)
    torch.testing.assert_close(positions.rotary(x[:, :, -2:], K - 2), whole[:, :, -2:], rtol=0, atol=0)
    torch.testing.assert_close(positions.rotary(x[:, :, :0], 3), whole[:, :, :0])


def test_half_precision_is_turned_in_float32_and_far_positions_in_float64() -> None:
    x = torch.randn(3, L, W, dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16):
        low = x.to(dtype)
        found = positions.rotary(low, 100_000)
        assert found.dtype == dtype
        exact = positions.rotary(low.double(), 100_000)
        assert torch.equal(found, exact.float().to(dtype))
    single = positions.rotary(x.float(), 100_000).double()
    assert (single - positions.rotary(x.float().double(), 100_000)).abs().max() < 1e-6


def llama_tables(rope: dict[str, Any], places: Tensor, **config: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines by transformers' own module, (1, L, D), halves alike."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    made = LlamaConfig(hidden_size=W * 3, num_attention_heads=3, head_dim=W, rope_parameters=rope, **config)
    found: tuple[Tensor, Tensor] = LlamaRotaryEmbedding(made)(torch.zeros(1, dtype=torch.float32), places[None])
    return found


SCALINGS = [
    ("default", None, {}),
    ("linear", Interpolation(2.5), {"factor": 2.5}),
    ("dynamic", DynamicNTK(2.0, 32), {"factor": 2.0}),
    ("yarn", YaRN(4.0, 64), {"factor": 4.0, "original_max_position_embeddings": 64}),
    ("yarn", YaRN(2.0, 1 << 20), {"factor": 2.0, "original_max_position_embeddings": 1 << 20}),
    (
        "yarn",
        YaRN(8.0, 4096, fast=16.0, slow=2.0, magnitude=1.25, truncate=False),
        {
            "factor": 8.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 16,
            "beta_slow": 2,
            "attention_factor": 1.25,
            "truncate": False,
        },
    ),
    (
        "llama3",
        Llama3(8.0, 1.0, 4.0, 64),
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    ),
    (
        "longrope",
        LongRoPE(tuple(1 + n / 10 for n in range(7)), tuple(2.0 + n for n in range(7)), 4.0, 40),
        {
            "factor": 4.0,
            "short_factor": [1 + n / 10 for n in range(7)],
            "long_factor": [2 + n for n in range(7)],
            "original_max_position_embeddings": 40,
        },
    ),
]


@pytest.mark.parametrize(("kind", "scaling", "given"), SCALINGS, ids=[f"{s[0]}{n}" for n, s in enumerate(SCALINGS)])
@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("length", [29, 97])
def test_frequencies_are_those_of_transformers(kind: str, scaling: Any, given: dict, base: float, length: int) -> None:
    places = torch.arange(length)
    rope = {"rope_type": kind, "rope_theta": base, **given}
    theirs = llama_tables(rope, places, max_position_embeddings=32)
    for ours, their in zip(positions.rotary_tables(places, W, base=base, scaling=scaling), theirs, strict=True):
        torch.testing.assert_close(torch.cat([ours, ours], -1), their[0].double(), rtol=0, atol=3e-5)


def test_rotation_is_that_of_transformers() -> None:
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama

    q, k = torch.randn(2, 3, L, W, dtype=torch.float64), torch.randn(2, 1, L, W, dtype=torch.float64)
    places = torch.randint(0, 50, (2, L))
    cos, sin = positions.rotary_tables(places, W)
    theirs = llama(q, k, torch.cat([cos, cos], -1), torch.cat([sin, sin], -1))
    for ours, their in zip((positions.rotary(q, places), positions.rotary(k, places)), theirs, strict=True):
        oracle.close(ours, their)
    theirs_j = gptj(q.transpose(1, 2), sin, cos).transpose(1, 2)  # (B, L, H, D) there
    oracle.close(positions.rotary(q, places, pairing="interleaved"), theirs_j)


def test_rotary_passes_gradients() -> None:
    x = torch.randn(1, 2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: positions.rotary(x, 5, width=4), x)
    assert torch.autograd.gradcheck(lambda x: positions.rotary(x, 5, pairing="interleaved", scaling=YaRN(2.0, 8)), x)


# added to the scores


def test_slopes_of_alibi_are_the_papers() -> None:
    assert positions.alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    assert positions.alibi_slopes(1).tolist() == [2.0**-8]
    twelve = [2.0**-n for n in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    assert positions.alibi_slopes(12).tolist() == pytest.approx(twelve, abs=1e-15)


def test_alibi_is_that_of_bloom_up_to_a_number_per_row() -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, K), 6, torch.float32)  # (H, 1, K)
    q, k, v = oracle.inputs(heads=6, groups=6, queries=K)
    exact = oracle.weights(q, k, bias=theirs, allowed=gaps(K, K) <= 0)
    for both in (True, False):
        found = fv.attention(q, k, v, mask=fv.masks.causal(), bias=positions.alibi(6, bidirectional=both))[1]
        torch.testing.assert_close(found.dense(), exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("backend", ["auto", "blocks", "reference", "sdpa"])
def test_alibi_is_its_formula(both: bool, backend: str) -> None:
    q, k, v = oracle.inputs()
    slopes = torch.rand(H, dtype=torch.float64)
    bias = slopes[:, None, None] * (-gaps().abs() if both else gaps())
    exact = oracle.weights(q, k, bias=bias)
    out, found = fv.attention(q, k, v, bias=positions.alibi(slopes, bidirectional=both), backend=backend)
    oracle.close(found.dense(), exact)
    oracle.close(out, oracle.output(exact, v))


def test_nothing_of_length_squared_is_kept() -> None:
    n = 3000
    q = torch.randn(1, 4, n, 8)
    for bias in (positions.alibi(4), positions.RelativeBuckets(4)()):
        weights = fv.AttentionMap(q, q, bias=bias)
        assert isinstance(weights.bias, Distances) and weights.bias.table.shape == (4, 2 * n - 1)
    weights = fv.AttentionMap(q, q, bias=positions.RelativeKeys(8, 5))
    assert weights.nbytes < 1e6
    assert weights[0, 3, n - 1, :3].isfinite().all()


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (6, 20)])
def test_buckets_are_those_of_t5(both: bool, buckets: int, most: int) -> None:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=12,
        num_heads=3,
        d_kv=4,
        is_decoder=not both,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=most,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = positions.RelativeBuckets(3, buckets, max_distance=most, bidirectional=both)
    assert ours.weight.shape == theirs.relative_attention_bias.weight.shape
    nn.init.normal_(ours.weight)
    theirs.relative_attention_bias.load_state_dict(ours.state_dict())
    for queries, keys in ((31, 31), (1, 301), (5, 7)):
        exact = theirs.compute_bias(queries, keys, past_seen_tokens=keys - queries)
        q, k = torch.zeros(1, 3, queries, 4), torch.zeros(1, 3, keys, 4)
        problem = fv.AttentionMap(q, k, bias=ours).problem
        everywhere = [slice(0, n) for n in problem.geometry.shape]
        assert torch.equal(problem.scores(*everywhere), exact)


def shaw(q: Tensor, table: Tensor, reach: int, scale: float) -> Tensor:
    """Shaw et al. 2018, equation 4, entry by entry: (B, H, Q, K)."""
    b, h, queries, _ = q.shape
    out = torch.zeros(b, h, queries, K, dtype=torch.float64)
    for head in range(h):
        for i in range(queries):
            for j in range(K):
                gap = max(-reach, min(reach, j - (i + K - queries)))
                out[:, head, i, j] = scale * (q[:, head, i] @ table[min(head, len(table) - 1), gap + reach])
    return out


@pytest.mark.parametrize("heads", [1, H])
@pytest.mark.parametrize("backend", ["auto", "blocks", "reference", "sdpa"])
def test_relative_keys_are_their_formula(heads: int, backend: str) -> None:
    q, k, v = oracle.inputs()
    keys = positions.RelativeKeys(q.shape[-1], 2, heads=heads).double()
    nn.init.normal_(keys.table)
    exact = oracle.weights(q, k, bias=shaw(q, keys.table.detach(), 2, q.shape[-1] ** -0.5))
    out, found = fv.attention(q, k, v, bias=keys, backend=backend)
    oracle.close(found.dense().detach(), exact)
    oracle.close(out.detach(), oracle.output(exact, v))
    with torch.no_grad():
        oracle.close(found[1, H - 1, 2:4, 3:], exact[1, H - 1, 2:4, 3:])
        places = (
            torch.tensor([0, 1, 1]),
            torch.tensor([0, H - 1, 1]),
            torch.tensor([Q - 1, 0, 2]),
            torch.tensor([0, 1, 4]),
        )
        oracle.close(found[places], exact[places])
        assert found.explain(1, 4, 2, 3)["weight"] == pytest.approx(float(exact[1, 4, 2, 3]), rel=1e-11)
    again = positions.RelativeKeys(q.shape[-1], 2, heads=heads, scale=0.5).double()
    again.load_state_dict(keys.state_dict())
    exact = oracle.weights(q, k, bias=shaw(q, keys.table.detach(), 2, 0.5))
    oracle.close(fv.AttentionMap(q, k, bias=again).dense().detach(), exact)


@pytest.mark.parametrize("backend", ["blocks", "sdpa"])
def test_learned_positions_learn(backend: str) -> None:
    q, k, v = oracle.inputs((1,), heads=2, groups=2, queries=3, keys=4, width=2, depth=2)
    q.requires_grad_()
    rules = {
        "alibi": (torch.rand(2, dtype=torch.float64), positions.alibi),
        "buckets": (torch.randn(4, 2, dtype=torch.float64), _buckets),
        "keys": (torch.randn(1, 3, 2, dtype=torch.float64), _keys),
    }
    for table, make in rules.values():
        table.requires_grad_()
        run = lambda q, t, make=make: fv.attention(q, k, v, bias=make(t), backend=backend)[0]  # noqa: E731
        assert torch.autograd.gradcheck(run, (q, table))


def _buckets(weight: Tensor) -> Any:
    module = positions.RelativeBuckets(2, 4, max_distance=3)
    return torch.func.functional_call(module, {"weight": weight}, ())


def _keys(table: Tensor) -> Any:
    return torch.func.functional_call(positions.RelativeKeys(2, 1), {"table": table}, ())


def test_rules_add_up() -> None:
    q, k, v = oracle.inputs()
    keys, buckets = positions.RelativeKeys(q.shape[-1], 2).double(), positions.RelativeBuckets(H).double()
    own = torch.randn(Q, K, dtype=torch.float64)
    found = fv.attention(q, k, v, bias=positions.alibi(H) + keys + buckets + own)[1].dense()
    one_by_one = sum(
        fv.AttentionMap(q, k, score="dot", scale=0.0, bias=b).problem.scores(*(slice(0, n) for n in (2, H, Q, K)))
        for b in (positions.alibi(H), keys, buckets, own)
    )
    oracle.close(found.detach(), oracle.weights(q, k, bias=one_by_one.detach()))  # type: ignore[union-attr]


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys, self.buckets = positions.RelativeKeys(11, 2), positions.RelativeBuckets(H)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (positions.rotary(t, width=10) for t in (q, k))
        out: Tensor = fv.attention(q, k, v, bias=positions.alibi(H) + self.keys + self.buckets)[0]
        return out


@pytest.mark.parametrize("form", [Tensor.clone, Tensor.numpy])
def test_numbers_may_stand_before_a_rule(form: Any) -> None:
    q, k, _ = oracle.inputs()
    numbers, rule = torch.randn(Q, K, dtype=torch.float64), positions.alibi(H)
    before, after = (fv.AttentionMap(q, k, bias=b) for b in (form(numbers) + rule, rule + numbers))
    oracle.close(before.dense(), after.dense())


def test_a_recording_keeps_positions(tmp_path: Path) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    layer = Layer()
    with fv.watch(layer) as seen:
        layer(q, k, v)
    before = seen["Layer"].dense()
    seen.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")["Layer"]
    assert str(again.problem.bias) == "by distance + relative keys + by distance"
    assert torch.equal(again.dense(), before)
    torch.testing.assert_close(again.to(torch.float64).dense(), before.double(), rtol=1e-4, atol=1e-6)
    assert not before.requires_grad
    with torch.no_grad():
        layer.keys.table.add_(1.0)
    assert torch.equal(seen["Layer"].dense(), before), "training on changes what was recorded"


def test_modules_show_what_they_are() -> None:
    assert str(positions.RelativeBuckets(3, 8, max_distance=9)) == (
        "RelativeBuckets(heads=3, buckets=8, max_distance=9, bidirectional=True)"
    )
    assert str(positions.RelativeKeys(5, 2)) == "RelativeKeys(width=5, reach=2, heads=1)"
    assert [str(b) for b in (positions.alibi(2), positions.RelativeBuckets(2)(), positions.RelativeKeys(2, 2)())] == [
        "alibi",
        "relative buckets",
        "relative keys",
    ]


X = torch.zeros(2, 3, L, W)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: positions.sinusoidal(3, 5), "width must be even; got 5"),
        (lambda: positions.Learned(0, 5), "length and width must be at least 1; got 0 and 5"),
        (lambda: positions.Learned(5, 3)(6), "learned positions go from 0 to 4; got 5. Make the table longer"),
        (lambda: positions.Learned(5, 3)(-1), "learned positions go from 0 to 4; got -1"),
        (lambda: positions.Learned(5, 3)(torch.tensor([0, 7])), "learned positions go from 0 to 4; got 7"),
        (lambda: positions.Learned(5, 3)(torch.tensor([-2, 7])), "learned positions go from 0 to 4; got -2"),
        (lambda: positions.rotary(X[0, 0, 0]), r"rotary takes \(..., L, D\); got shape \(14,\)"),
        (lambda: positions.rotary(X, width=5), "the rotary width must be even; got 5"),
        (lambda: positions.rotary(X, width=16), "rotary width must lie between 2 and the head width, 14; got 16"),
        (lambda: positions.rotary(X, pairing="odd"), "pairing must be 'halves' or 'interleaved'; got 'odd'"),  # type: ignore[arg-type]
        (
            lambda: positions.rotary(X, torch.zeros(3, L)),
            r"positions must have shape \(5,\) or \(2, 5\) for \(2, 3, 5, 14\); got \(3, 5\)",
        ),
        (lambda: positions.rotary(X[0], torch.zeros(3, L)), r"shape \(5,\) for \(3, 5, 14\); got \(3, 5\)"),
        (lambda: positions.rotate(X, torch.zeros(L, 8), torch.zeros(L, 8)), "tables of 8 pairs turn 16 numbers"),
        (lambda: Interpolation(0.5), "a scaling's factor must be at least 1; got 0.5"),
        (lambda: YaRN(math.nan, 5), "a scaling's factor must be at least 1; got nan"),
        (lambda: DynamicNTK(0.0, 5), "a scaling's factor must be at least 1; got 0.0"),
        (lambda: LongRoPE((), (), -1.0, 5), "a scaling's factor must be at least 1; got -1.0"),
        (lambda: Llama3(0.9), "a scaling's factor must be at least 1; got 0.9"),
        (lambda: Llama3(low=4.0), "high must be greater than low; got 4.0 and 4.0"),
        (
            lambda: positions.rotary(X, width=2, scaling=DynamicNTK(2.0, 8)),
            "needs a rotary width of more than 2; got 2",
        ),
        (lambda: positions.rotary(X, scaling=LongRoPE((1.0,), (1.0,), 2.0, 8)), "each of the 7 pairs; got 1"),
        (lambda: positions.alibi(0), "alibi needs at least one head; got 0"),
        (lambda: positions.alibi(torch.ones(2, 2)), r"a number of heads or slopes \(heads,\); got shape \(2, 2\)"),
        (lambda: fv.AttentionMap(X, X, bias=positions.alibi(4)), "one slope for each of the 3 heads; got 4"),
        (lambda: positions.RelativeBuckets(3, 7), "buckets an even number of at least 4; got 3 and 7"),
        (lambda: positions.RelativeBuckets(3, 1, bidirectional=False), "buckets at least 2; got 3 and 1"),
        (lambda: positions.RelativeBuckets(3, 8, max_distance=2), "must exceed the 2 distances with buckets of their"),
        (
            lambda: fv.AttentionMap(X, X, bias=positions.RelativeBuckets(4)),
            r"a bias by distance must have shape \(heads, queries \+ keys - 1\) = \(3, 9\); got \(4, 9\)",
        ),
        (lambda: positions.RelativeKeys(3, -1), "reach at least 0; got 3, 1 and -1"),
        (
            lambda: fv.AttentionMap(X, X, bias=positions.RelativeKeys(13, 2)),
            r"relative keys must have shape .* here \(3 or 1, odd, 14\); got \(1, 5, 13\)",
        ),
        (
            lambda: fv.AttentionMap(X, X, bias=positions.RelativeKeys(W, 2).to("meta")),
            "the bias must be on the device of the query, cpu; got meta",
        ),
        (
            lambda: fv.AttentionMap(X, X, bias=positions.RelativeBuckets(3).to("meta")),
            "the bias must be on the device of the query, cpu; got meta",
        ),
    ],
)
def test_positions_that_cannot_be(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_whole_numbers_are_not_turned() -> None:
    with pytest.raises(TypeError, match=r"turn floating-point numbers; got torch\.int32"):
        positions.rotary(torch.ones(3, 8, dtype=torch.int32))
