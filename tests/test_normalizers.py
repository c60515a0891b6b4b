"""Every normaliser against a plain formula of its own, written here; and the entmax package where it has one.

What holds for all: rows that see nothing, NaN rows, tiles, statistics, derivatives, files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import entmax
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import foveate as fv
import oracle
from foveate import AttentionMap, masks, normalizers
from foveate.describe import describe, restore
from foveate.normalizers.soft import Tempered
from foveate.recording import CallInfo, MemoryCall, Recording
from oracle import B, G, H, K, Q, V

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
BACKENDS = ["auto", "reference", "blocks"]
SHARPER = 3.0  # so that sparse normalisers have zeros, and no row is nearly even
SINKS = torch.linspace(-1, 1, H, dtype=torch.float64)


def bisected(x: Tensor, power: Callable[[Tensor], Tensor]) -> Tensor:
    """Weights power(x - t) of one row, t found by halving an interval until they sum to 1."""
    low, high = x.max() - 1, x.max()
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if power((x - middle).clamp(min=0)).sum() > 1 else (low, middle)
    return power((x - low).clamp(min=0))


def softmax(x: Tensor, more: float = 0.0) -> Tensor:
    return x.exp() / (x.exp().sum() + more)


def best(x: Tensor, k: int) -> Tensor:
    kept = sorted(range(len(x)), key=lambda j: (-x[j].item(), j))[:k]
    return torch.tensor([j in kept for j in range(len(x))])


def of_best(x: Tensor, k: int) -> Tensor:
    e = torch.where(best(x, k), x.exp(), 0.0)
    return e / e.sum()


# name -> (the normaliser, weights of a row (K',) of the scores that may be seen, in head h)
PLAIN: dict[str, tuple[Callable[[], Any], Callable[[Tensor, int], Tensor]]] = {
    "softmax": (lambda: "softmax", lambda x, h: softmax(x)),
    "temperature": (lambda: normalizers.softmax(temperature=2.5), lambda x, h: softmax(x / 2.5)),
    "off by one": (lambda: normalizers.softmax(off_by_one=True), lambda x, h: softmax(x, 1.0)),
    "sinks": (
        lambda: normalizers.softmax(SINKS, temperature=0.5),
        lambda x, h: softmax(x / 0.5, math.exp(SINKS[h])),
    ),
    "sparsemax": (lambda: "sparsemax", lambda x, h: bisected(x, lambda a: a)),
    "entmax15": (lambda: "entmax15", lambda x, h: bisected(x / 2, lambda a: a**2)),
    "hard": (lambda: "hard", lambda x, h: best(x, 1).to(x.dtype)),
    "straight through": (lambda: normalizers.hard(straight_through=True), lambda x, h: best(x, 1).to(x.dtype)),
    "top 3": (lambda: normalizers.top_k(3), lambda x, h: of_best(x, 3)),
    "tempered top 3": (lambda: Tempered(normalizers.top_k(3), 2.0), lambda x, h: of_best(x / 2, 3)),
    "top 100": (lambda: normalizers.top_k(100), lambda x, h: softmax(x)),
    "sigmoid": (lambda: "sigmoid", lambda x, h: 1 / (1 + (-x).exp())),
    "sigmoid -log n": (lambda: normalizers.sigmoid("-log n"), lambda x, h: 1 / (1 + K * (-x).exp())),
    "sigmoid bias": (lambda: normalizers.sigmoid(SINKS), lambda x, h: 1 / (1 + (-x - SINKS[h]).exp())),
    "proportional": (lambda: "proportional", lambda x, h: x / x.sum()),
}
MASKS: dict[str, Callable[[], Any]] = {
    "none": masks.everything,
    "causal": masks.causal,
    "empty row": lambda: masks.where(lambda b, h, q, k: (q != 1) & (k != 2) & (k != h)),
}


def made(name: str) -> dict[str, Any]:
    """The arguments of a normaliser; scores of `proportional` are squares, as they must not be negative."""
    score = (lambda q, k: (q @ k.mT).square()) if name == "proportional" else "dot"
    return {"normalizer": PLAIN[name][0](), "score": score}


_known: dict[tuple[Any, ...], Tensor] = {}


def exact(name: str, q: Tensor, k: Tensor, allowed: Tensor) -> Tensor:
    """(B, H, Q, K) weights by the formula, row by row, once for the same numbers; 0 where a row sees nothing."""
    key = (name, *(t.double().numpy().tobytes() for t in (q, k, allowed)))
    if key not in _known:
        _known[key] = _exact(name, q, k, allowed)
    return _known[key]


def _exact(name: str, q: Tensor, k: Tensor, allowed: Tensor) -> Tensor:
    s = torch.einsum("bhqd,bhkd->bhqk", q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1))
    s = s.square() if name == "proportional" else s
    found = torch.zeros_like(s)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in s.shape[:3])).tolist():
        seen = allowed[b, h, i]
        if seen.any():
            found[b, h, i, seen] = PLAIN[name][1](s[b, h, i, seen], h)
    return found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"BLOCK_NUMBERS": 4, "GOOD_NUMBERS": 4, "MOST_ROWS": 2, "FEWEST_ROWS": 1, "MASK_STEP": 3}.items():
        monkeypatch.setattr(f"foveate.operator.problem.{name}", size)


def sharp(**sizes: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = oracle.inputs(**sizes)
    return q * SHARPER / q.shape[-1] ** 0.5, k, v


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", PLAIN)
def test_weights_and_output(name: str, mask: str) -> None:
    q, k, v = sharp()
    allowed = oracle.table(MASKS[mask]())
    expected = exact(name, q, k, allowed)
    for backend in BACKENDS:
        out, weights = fv.attention(q, k, v, mask=MASKS[mask](), backend=backend, **made(name))
        oracle.close(out, oracle.output(expected, v))
        oracle.close(weights.dense(), expected)
    if name != "softmax":
        with pytest.raises(ValueError, match=r"cannot compute this attention: its (normalizer|score)"):
            fv.attention(q, k, v, mask=MASKS[mask](), backend="sdpa", **made(name))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_tiles_are_slices_of_the_whole(name: str, kept: bool) -> None:
    q, k, v = sharp()
    expected = exact(name, q, k, oracle.table(masks.causal()))[:1]
    q, k, v = q[:1], k[:1], v[:1]
    weights = AttentionMap(q, k, mask=masks.causal(), **made(name))
    if kept:
        weights.statistic()
    oracle.close(weights[0, 2:4, 1:4, 2:6], expected[0, 2:4, 1:4, 2:6])
    oracle.close(weights[0, 3, 4, 5], expected[0, 3, 4, 5])
    oracle.close(weights[0, 5, :, 3], expected[0, 5, :, 3])
    pairs = [0, 0, 0], [5, 5, 0], [4, 2, 3], [1, 6, 4]
    oracle.close(weights[pairs], expected[pairs])
    oracle.close(weights[..., [3, 1], [6, 0]], expected[..., [3, 1], [6, 0]])
    oracle.close(weights[0, :, :, [5, 0]], expected[0, :, :, [5, 0]])
    out, _ = fv.attention(q, k, v, mask=masks.causal(), backend="blocks", **made(name))
    oracle.close(out, oracle.output(expected, v))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", PLAIN)
def test_statistics(name: str) -> None:
    q, k, _ = (t[:1] for t in sharp())
    expected = exact(name, q, k, oracle.table(MASKS["empty row"](), (1,)))
    weights = AttentionMap(q, k, mask=MASKS["empty row"](), **made(name))
    entropy, top, received, most = weights.reduce(
        fv.stats.Entropy(), fv.stats.TopK(2), fv.stats.Received(), fv.stats.Pooled(Q, K)
    )
    oracle.close(entropy, torch.special.entr(expected).sum(-1))
    oracle.close(top.values, expected.topk(2).values)
    oracle.close(received, expected.sum(-2))
    oracle.close(most, expected)
    assert torch.equal(top.indices == -1, top.values == 0)
    halves = [weights.partial(fv.stats.Received(), rows=slice(*at)) for at in ((0, 2), (2, Q))]
    oracle.close(halves[0].merge(halves[1]).result(), expected.sum(-2))


@pytest.mark.parametrize("name", PLAIN)
def test_rows_that_see_nothing_and_rows_that_hold_nan(name: str) -> None:
    q, k, v = sharp()
    q[1, 2, 3, 0] = torch.nan
    q[0, 4, 2] = torch.inf
    q.requires_grad_()
    for backend in BACKENDS:
        out, weights = fv.attention(q, k, v, mask=MASKS["empty row"](), backend=backend, **made(name))
        nan = torch.zeros(B, H, Q, dtype=torch.bool)
        nan[1, 2, 3] = nan[0, 4, 2] = True
        assert torch.equal(torch.isnan(out).any(-1), nan) and torch.equal(torch.isnan(weights.dense()).all(-1), nan)
        assert torch.equal(weights.nan_rows(), nan)
        assert torch.isnan(weights[1, 2, 3, 2])  # the whole row, also where it may not look
        assert (out[:, :, 1] == 0).all() and (weights.dense()[:, :, 1] == 0).all()
        statistic = weights.statistic()
        first = statistic if statistic.ndim == 3 else statistic[..., 0]
        sink = -torch.inf if name not in ("sinks", "off by one") else None
        assert sink is None or (first[:, :, 1] == sink).all()
        assert torch.isfinite(first[:, :, [0, 4]]).all() and torch.isnan(first[nan]).all()
        (grad,) = torch.autograd.grad(out[~nan].sum(), q)
        assert torch.isfinite(grad[~nan]).all() and (grad[:, :, 1] == 0).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", PLAIN)
def test_rows_whose_scores_all_overflow_are_nan_and_not_empty(name: str, sign: int) -> None:
    if sign == -1 and name in ("sinks", "off by one", "proportional"):
        return  # the sink takes all there is; squares do not overflow downwards
    q, k, v = (t.float() for t in sharp())
    q[1, 2, 3], k[1] = sign * 1e30, k[1].abs() * 1e15
    for backend in BACKENDS:
        out, weights = fv.attention(q, k, v, mask=masks.causal(), backend=backend, **made(name))
        assert torch.isnan(out[1, 2, 3]).all() and torch.isnan(weights[1, 2, 3]).all()
        assert not torch.isnan(out[0]).any()


@pytest.mark.parametrize("name", PLAIN)
def test_empty_axes(name: str) -> None:
    for batch, queries, keys in ((0, Q, K), (B, 0, K), (B, Q, 0)):
        q, k, v = oracle.inputs((batch,), queries=queries, keys=keys)
        for backend in BACKENDS:
            out, weights = fv.attention(q, k, v, backend=backend, **made(name))
            assert out.shape == (batch, H, queries, V) and (out == 0).all()
            assert weights.dense().shape == (batch, H, queries, keys)
            assert weights.statistic().shape[:3] == (batch, H, queries)


# ties


@pytest.mark.usefixtures("small_blocks")
def test_ties() -> None:
    some = torch.tensor([[1.0, 3, 2, 3, 2, 3, 2], [2, 2, 2, 2, 2, 2, 2]], dtype=torch.float64)

    def row(name: Any, s: Tensor = some) -> Tensor:
        q, k = torch.zeros(len(s), 1, 1, 1).double(), torch.zeros(len(s), 1, K, 1).double()
        weights = AttentionMap(q, k, bias=s[:, None, None], normalizer=name)
        columns = torch.cat([weights[..., j : j + 1] for j in range(K)], dim=-1)
        assert torch.equal(columns, weights.dense())
        return columns[:, 0, 0]

    assert torch.equal(row("hard"), torch.tensor([[0, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]]).double())
    four = row(normalizers.top_k(4))
    assert torch.equal(four > 0, torch.tensor([[0, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0]]).bool())
    late = row(normalizers.top_k(2), torch.tensor([[5.0, 5, 5, 5, 7, 1, 1]]).double())  # a block later, 5 is cut
    assert torch.equal(late > 0, torch.tensor([[1, 0, 0, 0, 1, 0, 0]]).bool())
    for k in range(1, K):
        assert torch.equal(row(normalizers.top_k(k))[1] > 0, torch.arange(K) < k)
    two = row(normalizers.top_k(2))
    assert torch.equal(two > 0, torch.tensor([[0, 1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]]).bool())
    for name in ("sparsemax", "entmax15"):
        even = row(name)
        assert torch.equal(even[0] > 0, torch.tensor([0, 1, 0, 1, 0, 1, 0]).bool()) or name == "entmax15"
        oracle.close(even[1], torch.full((K,), 1 / K, dtype=torch.float64))
        assert len(even[0][[1, 3, 5]].unique()) == 1


# the entmax package


@pytest.mark.parametrize(("name", "theirs"), [("sparsemax", entmax.sparsemax), ("entmax15", entmax.entmax15)])
def test_entmax_agrees(name: str, theirs: Callable) -> None:
    for spread, down in ((1e-5, 0), (0.3, 0), (30.0, 0), (1e-3, -9)):  # in the support: all, some, one, the first 20
        q, k, _ = oracle.inputs(keys=997)
        q, k = q.requires_grad_(), k.requires_grad_()
        bias = torch.where(torch.arange(997) < 20, 0.0, down).double()
        lazy = AttentionMap(q * spread, k, score="dot", bias=bias, normalizer=name)
        weights = lazy.dense()
        plain = theirs(torch.einsum("bhqd,bhkd->bhqk", q * spread, k.repeat_interleave(2, 1)) + bias, dim=-1)
        torch.testing.assert_close(weights, plain, rtol=1e-7, atol=1e-9)
        with torch.no_grad():  # takes another way, without the part that derivatives need
            torch.testing.assert_close(lazy.dense(), plain, rtol=1e-7, atol=1e-9)
        g = torch.randn_like(weights)
        for mine, other in zip(*(torch.autograd.grad(w, (q, k), g) for w in (weights, plain)), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7 * spread)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "sigmoid", "top 3", "off by one"])
def test_as_exact_as_the_plain_computation(name: str, dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in sharp())
    allowed = oracle.table(masks.causal())
    truth = oracle.output(exact(name, q, k, allowed), v)
    shared = [h // (H // G) for h in range(H)]
    s = (q @ k[:, shared].mT).masked_fill(~allowed, -torch.inf)
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "sparsemax": lambda s: entmax.sparsemax(s, dim=-1),
        "entmax15": lambda s: entmax.entmax15(s, dim=-1),
        "sigmoid": torch.sigmoid,
        "top 3": lambda s: torch.softmax(s.masked_fill(s < s.topk(3).values[..., 2:], -torch.inf), -1),
        "off by one": lambda s: torch.softmax(torch.cat([s, torch.zeros_like(s[..., :1])], -1), -1)[..., :-1],
    }
    plain = forms[name](s) @ v[:, shared]
    for backend in BACKENDS:
        out, _ = fv.attention(q, k, v, mask=masks.causal(), backend=backend, **made(name))
        assert out.dtype == dtype
        oracle.as_good_as(out, plain, truth)


# derivatives


SCORES: dict[str, Callable[[], Any]] = {
    "dot": lambda: "dot",
    "softcap": lambda: fv.scores.dot(softcap=2.0),
    "cosine": lambda: fv.scores.cosine(0.3),
    "l2": lambda: "l2",
    "additive": lambda: fv.scores.Additive(2, 2, 5, heads=2, bias=True).double(),
    "general": lambda: fv.scores.General(2, 2).double(),
    "yours": lambda: lambda q, k: torch.sin(q @ k.mT),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("proportional", "straight through", "top 100")])
def test_first_and_second_derivatives(name: str, score: str, request: pytest.FixtureRequest) -> None:
    if score == "dot":
        request.getfixturevalue("small_blocks")
    q, k, v = (3 * t for t in oracle.inputs((1,), heads=2, groups=1, queries=2, keys=4, width=2, depth=1))
    made_of = SCORES[score]()
    learned = list(made_of.parameters()) if isinstance(made_of, torch.nn.Module) else []
    normalizer = PLAIN[name][0]()
    if name in ("sinks", "sigmoid bias"):
        own = SINKS[:2].clone().requires_grad_()
        normalizer = normalizers.softmax(own) if name == "sinks" else normalizers.sigmoid(own)
        learned.append(own)

    def output(q: Tensor, k: Tensor, v: Tensor, *_: Tensor) -> Tensor:
        mask = masks.causal()
        return fv.attention(q, k, v, score=made_of, mask=mask, normalizer=normalizer, backend="blocks")[0]

    inputs = (*(t.requires_grad_() for t in (q, k, v)), *learned)
    assert gradcheck(output, inputs, fast_mode=True)
    assert gradgradcheck(output, inputs, fast_mode=True)


def test_derivatives_of_proportional() -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs((1,), heads=2, groups=1, queries=3, keys=4, width=2, depth=1))

    def output(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fv.attention(q, k, v, mask=masks.causal(), backend="blocks", **made("proportional"))[0]

    assert gradcheck(output, (q, k, v)) and gradgradcheck(output, (q, k, v), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hard_has_no_derivative_or_that_of_softmax(backend: str) -> None:
    q, k, v = (t.requires_grad_() for t in sharp())

    def gradients(normalizer: Any) -> tuple[Tensor, ...]:
        w = fv.attention(q, k, v, mask=masks.causal(), normalizer=normalizer, backend=backend)[0]
        return torch.autograd.grad((w * torch.linspace(-1, 1, w.numel()).reshape(w.shape)).sum(), (q, k, v))

    none, soft, through = (gradients(n) for n in ("hard", "softmax", normalizers.hard(straight_through=True)))
    assert not none[0].any() and not none[1].any()
    for a, b in zip(through[:2], soft[:2], strict=True):
        oracle.close(a, b)
    oracle.close(through[2], none[2])  # the values are read by the hard weights


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("straight through", "top 100")])
def test_under_torch_func(name: str) -> None:
    q, k, v = sharp(lead=(1,), queries=2, keys=3, width=2, depth=1)

    def output(q: Tensor) -> Tensor:
        return fv.attention(q, k, v, mask=masks.causal(), **made(name))[0]

    jacobian = torch.autograd.functional.jacobian(output, q)
    oracle.close(torch.func.jacrev(output)(q), jacobian)
    many = torch.stack([q, -q])
    oracle.close(torch.func.vmap(output)(many), torch.stack([output(t) for t in many]))


# what is said of them


def test_what_the_statistic_is() -> None:
    q, k, _ = sharp()
    s = torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(2, 1))

    def of(normalizer: Any) -> Tensor:
        return AttentionMap(q, k, score="dot", normalizer=normalizer).statistic()

    oracle.close(of("softmax"), s.logsumexp(-1))
    oracle.close(of(normalizers.softmax(temperature=2.0)), (s / 2).logsumexp(-1))
    oracle.close(of(normalizers.softmax(off_by_one=True)), torch.log1p(s.exp().sum(-1)))
    oracle.close((s - of("sparsemax")[..., None]).clamp(min=0).sum(-1), torch.ones(B, H, Q, dtype=s.dtype))
    oracle.close(
        ((s - of("entmax15")[..., None]).clamp(min=0) / 2).square().sum(-1), torch.ones(B, H, Q, dtype=s.dtype)
    )
    oracle.close(of(normalizers.sigmoid("-log n")), torch.full((B, H, Q), math.log(K), dtype=s.dtype))
    assert torch.equal(of("hard")[..., 0], s.argmax(-1).double())
    oracle.close(of("hard")[..., 1], s.logsumexp(-1))
    three = of(normalizers.top_k(3))
    assert torch.equal(three[..., 1:].sort(-1).values, s.topk(3).indices.sort(-1).values.double())
    oracle.close(three[..., 0], s.topk(3).values.logsumexp(-1))
    oracle.close(AttentionMap(q, k, **made("proportional")).statistic(), s.square().sum(-1))


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("softmax", "off by one")])
def test_only_a_plain_softmax_has_a_log_sum_exp(name: str) -> None:
    weights = AttentionMap(*sharp()[:2], **made(name))
    said = (
        rf"only a plain softmax has a log-sum-exp; .* normalizer is {weights.normalizer.name}, whose row statistic is"
    )
    with pytest.raises(ValueError, match=said):
        weights.logsumexp()
    with pytest.raises(ValueError, match=said):
        weights.reduce(fv.stats.LogSumExp())


@pytest.mark.parametrize("name", PLAIN)
def test_explained(name: str) -> None:
    q, k, v = sharp()
    weights = AttentionMap(q, k, value=v, mask=masks.causal(), **made(name))
    found = weights.explain(1, 3, 2, 1)
    assert found["weight"] == pytest.approx(weights[1, 3, 2, 1].item(), abs=1e-12)
    out, _ = fv.attention(q, k, v, mask=masks.causal(), **made(name))
    assert found["output"] == pytest.approx(out[1, 3, 2].tolist())
    plain = name in ("softmax", "off by one")
    assert (found["logsumexp"] is not None) == plain == (found["statistic_name"] == "log-sum-exp")
    assert found["normalizer"] == weights.normalizer.name in repr(weights) + "softmax"


@pytest.mark.parametrize("name", PLAIN)
def test_described_and_stored(name: str, tmp_path: Path) -> None:
    q, k, _ = sharp()
    normalizer = AttentionMap(q, k, **made(name)).normalizer
    description, tensors = describe(normalizer)
    again = restore(json.loads(json.dumps(description)), tensors)
    assert type(again) is type(normalizer) and again.name == normalizer.name
    options = {"normalizer": normalizer, "score": fv.scores.dot(), "mask": masks.causal(), "dtype": torch.float64}
    recording = Recording()
    recording._add(MemoryCall(CallInfo("attn", "decoder", "layer 0", 0, H, "Attention"), 0, q, k, None, options))
    recording.save(tmp_path / "run.fov")
    assert torch.equal(fv.load(tmp_path / "run.fov")["attn"].dense(), recording["attn"].dense())


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_a_row_may_be_gathered_but_no_strip(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    kind = type(normalizers.resolve(name, fv.shapes.Geometry(1, 1, 1, 1)))
    threshold = kind.statistic

    def counted(self: Any, blocks: Any, *rest: Any) -> Tensor:
        blocks = list(blocks)
        seen.append(sum(s.numel() for _, s in blocks))
        return threshold(self, blocks, *rest)

    monkeypatch.setattr(kind, "statistic", counted)
    monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 1 << 12)
    q, k, _ = oracle.inputs((1,), heads=2, groups=2, queries=100, keys=3000, width=2)
    AttentionMap(q, k, normalizer=name).statistic()
    assert len(seen) >= 200 and max(seen) <= 1 << 12


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: normalizers.softmax(torch.zeros(3), off_by_one=True), "sinks or off_by_one, .*; not both"),
        (lambda: normalizers.softmax(temperature=0.0), "temperature must be greater than 0"),
        (lambda: normalizers.softmax(temperature=-1), "temperature must be greater than 0"),
        (lambda: normalizers.top_k(0), "k must be at least 1"),
        (lambda: normalizers.top_k(1.5), "k must be a whole number; got 1.5"),  # type: ignore[arg-type]
        (lambda: normalizers.sigmoid("log n"), "must be a number, a tensor .* or '-log n'; got 'log n'"),
        (lambda: _map(normalizers.sigmoid(torch.zeros(5))), r"sigmoid's bias must be one per head, \(6,\); got \(5,\)"),
        (lambda: _map(normalizers.softmax(torch.zeros(5))), r"sinks must have one logit per head, \(6,\); got \(5,\)"),
        (lambda: _map("top_k"), r"'top_k' needs to know how many; pass fv.normalizers.top_k\(k\)"),
        (lambda: _map("softmin"), "unknown normalizer 'softmin'; expected 'softmax', 'sparsemax', .* or one of"),
        (lambda: _map(fv.normalizers.sparsemax), "one of fv.normalizers; got function"),
    ],
)
def test_refused(make: Callable, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def _map(normalizer: Any) -> AttentionMap:
    return AttentionMap(*oracle.inputs()[:2], normalizer=normalizer)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_scores_that_leave_no_room_for_a_threshold_are_nan_and_not_zero(name: str) -> None:
    q, k, v = torch.tensor([[1e18]]), torch.tensor([[1.0], [0.0]]), torch.ones(2, 1)
    out, weights = fv.attention(q, k, v, score="dot", normalizer=name)
    assert bool(out.isnan().all()) and bool(weights.dense().isnan().all()) and bool(weights.nan_rows().all())
