"""Every score against its formula, written here entry by entry; learned ones, in training, in memory and on disk.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D query width, E key width, N hidden units.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import foveate as fv
import oracle
from foveate import AttentionMap, masks, scores
from foveate.describe import describe, restore
from foveate.recording import RecordingError
from foveate.views.source import Source
from oracle import D, G, H, K

E, N = 17, 19
BACKENDS = ["auto", "reference", "blocks"]
T = torch.linspace(0.2, 0.7, H, dtype=torch.float64)


def of(p: Tensor, h: int, axes: int) -> Tensor:
    """A parameter of head h: its own where there is a head axis."""
    return p[h] if p.ndim > axes else p


def additive(m: Any, q: Tensor, k: Tensor, h: int) -> Tensor:
    inner = of(m.query_weight, h, 2) @ q + of(m.key_weight, h, 2) @ k
    return of(m.v, h, 1) @ torch.tanh(inner + (0 if m.bias is None else of(m.bias, h, 1)))


def concat(m: Any, q: Tensor, k: Tensor, h: int) -> Tensor:
    return of(m.v, h, 1) @ torch.tanh(of(m.weight, h, 2) @ torch.cat([q, k]))


def general(m: Any, q: Tensor, k: Tensor, h: int) -> Tensor:
    return q @ of(m.weight, h, 2) @ k


def cosine(t: Callable[[int], Any]) -> Callable:
    return lambda m, q, k, h: torch.cosine_similarity(q, k, dim=0) / t(h)


def learned_cosine(m: Any, q: Tensor, k: Tensor, h: int) -> Tensor:
    return torch.cosine_similarity(q, k, dim=0) / of(m.log_temperature, h, 0).exp()


# name -> (the score, width of keys, the score of one query (D,) with one key (E,) in head h)
FORMULAS: dict[str, tuple[Callable[[], Any], int, Callable[..., Tensor]]] = {
    "dot": (lambda: "dot", D, lambda m, q, k, h: q @ k),
    "cosine": (lambda: "cosine", D, cosine(lambda h: 1.0)),
    "cosine at 0.3": (lambda: scores.cosine(0.3), D, cosine(lambda h: 0.3)),
    "cosine per head": (lambda: scores.cosine(T), D, cosine(lambda h: T[h])),
    "cosine learned": (lambda: scores.Cosine(0.4), D, learned_cosine),
    "cosine learned per head": (lambda: scores.Cosine(0.4, heads=H), D, learned_cosine),
    "l2": (lambda: "l2", D, lambda m, q, k, h: -((q - k) ** 2).sum() / D**0.5),
    "l2 at 0.7": (lambda: scores.l2(0.7), D, lambda m, q, k, h: -0.7 * ((q - k) ** 2).sum()),
    "additive": (lambda: scores.Additive(D, E, N), E, additive),
    "additive with bias": (lambda: scores.Additive(D, E, N, bias=True), E, additive),
    "additive per head": (lambda: scores.Additive(D, E, N, heads=H, bias=True), E, additive),
    "concat": (lambda: scores.Concat(D, E, N), E, concat),
    "concat per head": (lambda: scores.Concat(D, E, N, heads=H), E, concat),
    "general": (lambda: scores.General(D, E), E, general),
    "general per head": (lambda: scores.General(D, E, heads=H), E, general),
}
LEARNED = [name for name in FORMULAS if isinstance(FORMULAS[name][0](), nn.Module)]


def made(name: str) -> Any:
    """The score, in float64, no parameter 0 and no two heads alike."""
    score = FORMULAS[name][0]()
    if isinstance(score, nn.Module):
        score.double()
        for p in score.parameters():
            p.data += 0.1 * torch.randn_like(p)
    return score


def inputs(name: str, **sizes: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, _, v = oracle.inputs(**sizes)
    return q, torch.randn(*v.shape[:-1], FORMULAS[name][1], dtype=torch.float64), v


def exact(name: str, score: Any, q: Tensor, k: Tensor) -> Tensor:
    """All scores, one pair at a time."""
    shape = (*q.shape[:3], k.shape[2])
    shared = q.shape[1] // k.shape[1]
    places = torch.cartesian_prod(*(torch.arange(n) for n in shape)).tolist()
    found = [FORMULAS[name][2](score, q[b, h, i], k[b, h // shared, j], h) for b, h, i, j in places]
    return torch.stack(found).reshape(shape)


def softmax(s: Tensor, allowed: Tensor | None = None) -> Tensor:
    return torch.softmax(s if allowed is None else s.masked_fill(~allowed, -torch.inf), -1)


@pytest.mark.parametrize("name", FORMULAS)
def test_weights_output_and_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    score = made(name)
    q, k, v = inputs(name)
    with torch.no_grad():
        s_BHQK = exact(name, score, q, k)
        expected = softmax(s_BHQK, oracle.table(masks.causal()))
        for backend in BACKENDS:
            out, weights = fv.attention(q, k, v, mask=masks.causal(), score=score, backend=backend)
            oracle.close(weights.dense(), expected)
            oracle.close(out, oracle.output(expected, v))
        for size in ("BLOCK_NUMBERS", "GOOD_NUMBERS", "MASK_STEP"):
            monkeypatch.setattr(f"foveate.operator.problem.{size}", 3)
        oracle.close(weights[1, 1:4, 1:4, 2:6], expected[1, 1:4, 1:4, 2:6])
        pairs = [1, 0, 1], [5, 5, 0], [4, 2, 3], [1, 6, 4]
        oracle.close(weights[pairs], expected[pairs])
        oracle.close(weights.reduce(fv.stats.Received()), expected.sum(-2))
        assert weights.explain(1, 3, 2, 1)["weight"] == pytest.approx(expected[1, 3, 2, 1].item())
        assert weights.explain(1, 3, 2, 1)["scaled"] == pytest.approx(s_BHQK[1, 3, 2, 1].item())
        read, received = weights.read(v, fv.stats.Received())
        oracle.close(read, oracle.output(expected, v))
        oracle.close(received, expected.sum(-2))
    if name != "dot":
        with pytest.raises(ValueError, match=f"cannot compute this attention: its score is {weights.score.name}"):
            fv.attention(q, k, v, score=score, backend="sdpa")


@pytest.mark.parametrize("name", FORMULAS)
def test_one_query_and_no_head_axis(name: str) -> None:
    if "per head" in name:
        with pytest.raises(ValueError, match="was made for 6 heads; got queries of 1"):
            fv.AttentionMap(*inputs(name, lead=(), heads=1, groups=1)[:2], score=made(name))
        return
    score, (q, k, _) = made(name), inputs(name, lead=(1,), heads=1, groups=1)
    with torch.no_grad():
        expected = softmax(exact(name, score, q, k))[0, 0]
        oracle.close(AttentionMap(q[0, 0], k[0, 0], score=score).dense(), expected)
        oracle.close(AttentionMap(q[0, 0, 3], k[0, 0], score=score).dense(), expected[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FORMULAS)
def test_as_exact_as_the_plain_computation(name: str, dtype: torch.dtype) -> None:
    score = made(name).requires_grad_(False) if name in LEARNED else made(name)
    q, k, v = (t.to(dtype) for t in inputs(name, lead=(1,)))
    plain = score.to(dtype) if isinstance(score, nn.Module) else score
    s = exact(name, plain, q, k).to(dtype)
    shared = [h // (H // G) for h in range(H)]
    w = softmax(s) @ v[:, shared]
    wide = score.double() if isinstance(score, nn.Module) else score  # from here on its own weights are rounded
    truth = oracle.output(softmax(exact(name, wide, q.double(), k.double())), v)
    score = score.to(dtype) if isinstance(score, nn.Module) else score
    with torch.no_grad():
        for backend in BACKENDS:
            out, _ = fv.attention(q, k, v, score=score, backend=backend)
            assert out.dtype == dtype
            oracle.as_good_as(out, w, truth)


# learning


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LEARNED)
def test_gradients_reach_the_weights(name: str, backend: str) -> None:
    score = made(name)
    q, k, v = (t.requires_grad_() for t in inputs(name, queries=2, keys=3, depth=2))
    leaves = [q, k, v, *score.parameters()]
    out, weights = fv.attention(q, k, v, score=score, backend=backend)
    assert weights.problem.tracked
    g = torch.randn_like(out)
    found = torch.autograd.grad(out, leaves, g, create_graph=True)
    shared = H // G
    s = exact(name, score, q, k)
    plain = torch.softmax(s, -1) @ v.repeat_interleave(shared, 1)
    for mine, other in zip(found, torch.autograd.grad(plain, leaves, g), strict=True):
        torch.testing.assert_close(mine.detach(), other, rtol=1e-10, atol=1e-12)
    assert all(torch.isfinite(t).all() for t in torch.autograd.grad(found[0].square().sum(), leaves[3:]))


def test_what_was_kept_follows_the_weights() -> None:
    score, (q, k, _) = made("additive"), inputs("additive")
    weights = AttentionMap(q, k, score=score)
    with torch.no_grad():
        weights.logsumexp()
        before = weights[0, 1, :, 2:5].clone()  # a tile, by the statistic that was kept
        score.v.mul_(2.0)
        assert not torch.equal(weights[0, 1, :, 2:5], before)
        oracle.close(weights[0, 1, :, 2:5], softmax(exact("additive", score, q, k))[0, 1, :, 2:5])
    assert weights[0, 1, 2].requires_grad


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for t in found if isinstance(found, tuple | list) else [found]:
            if isinstance(t, Tensor) and t.is_contiguous():
                self.numbers = max(self.numbers, t.untyped_storage().nbytes() // t.itemsize)
        return found


@pytest.mark.parametrize("learning", [False, True])
def test_additive_never_forms_all_hidden_units(learning: bool) -> None:
    score = scores.Additive(8, 8, 32)
    q, k, v = oracle.inputs((1,), heads=1, groups=1, queries=301, keys=701, width=8, depth=3, dtype=torch.float32)
    with torch.set_grad_enabled(learning), _Largest() as seen:
        out, weights = fv.attention(q, k, v, score=score)
        if learning:
            out.sum().backward()
            assert score.v.grad is not None and score.v.grad.any()
        else:
            weights.reduce(fv.stats.Entropy())
    assert 301 * 701 / 4 < seen.numbers <= 1 << 19  # one block's scores, but never 32 hidden units of it


# files


class Model(nn.Module):
    """Attention with a score of its own."""

    def __init__(self, score: Any, normalizer: Any = "softmax") -> None:
        super().__init__()
        self.score, self.normalizer = score, normalizer

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fv.attention(q, k, v, score=self.score, normalizer=self.normalizer, mask=masks.causal())[0]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", [n for n in FORMULAS if n != "dot"])
def test_watched_saved_and_loaded(name: str, grad: bool, tmp_path: Path) -> None:
    score, (q, k, v) = made(name), inputs(name, lead=(1,))
    expected = softmax(exact(name, score, q, k), oracle.table(masks.causal(), (1,))).detach()
    model = Model(score)
    with torch.set_grad_enabled(grad), fv.watch(model) as seen:
        model(q, k, v)
    seen.save(tmp_path / "run.fov")
    with torch.no_grad():
        for p in model.parameters():  # training goes on
            p.mul_(2.0).add_(1.0)
    loaded = fv.load(tmp_path / "run.fov")["Model"]
    oracle.close(seen["Model"].dense(), expected)
    assert torch.equal(loaded.dense(), seen["Model"].dense())
    assert loaded.problem.score.name == seen["Model"].problem.score.name == name.split()[0]
    assert not loaded.problem.tracked


def test_what_a_recording_refuses(tmp_path: Path) -> None:
    model = Model(lambda q, k: q @ k.mT)
    with fv.watch(model) as seen:
        model(*oracle.inputs())
    with pytest.raises(RecordingError, match="the score of 'Model' cannot be stored: Function has no description"):
        seen.save(tmp_path / "run.fov")


@pytest.mark.parametrize("name", FORMULAS)
def test_described(name: str) -> None:
    q, k, _ = inputs(name)
    score = AttentionMap(q, k, score=made(name)).problem.score
    description, tensors = describe(score)
    again = restore(json.loads(json.dumps(description)), tensors)
    assert type(again) is type(score) and again.name == score.name
    oracle.close(AttentionMap(q, k, score=again).dense().detach(), AttentionMap(q, k, score=score).dense().detach())


# pages


def test_the_page_tells_other_scores_and_normalisers_in_their_own_numbers() -> None:
    q, k, v = inputs("additive", lead=(1,))
    weights = AttentionMap(q, k, value=v, score=made("additive"), normalizer="sparsemax")
    source = Source({"attn": weights})
    with torch.no_grad():
        pair = source.pair(0, 0, 3, 2, 1)
        expected = weights.dense()[0]
        assert pair["products"] is None and pair["scale"] is None and pair["logsumexp"] is None
        assert pair["weight"] == pytest.approx(expected[3, 2, 1].item(), rel=1e-5)
        assert (pair["normalizer"], pair["statistic_name"]) == ("sparsemax", "threshold")
        assert source.document().calls[0].score == pair["score_name"] == "additive"
        for direction, plain in (("reads", expected[:, 2]), ("read_by", expected[:, :, 2])):
            row = source.row(0, 0, 2, direction, "token")
            torch.testing.assert_close(row, plain.float())
        assert source.thumbnails(0, 0).entropy[3] == pytest.approx(
            torch.special.entr(expected[3]).sum(-1).mean().item()
        )


# odd numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_of_zero_and_of_huge_vectors(dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(dtype=dtype)
    plain = AttentionMap(q, k, score="cosine").dense()
    big = 1e30 if dtype == torch.float32 else 1e300
    torch.testing.assert_close(AttentionMap(q * big, k / big, score="cosine").dense(), plain)
    q[0, 1, 2] = 0
    q.requires_grad_()
    out, weights = fv.attention(q, k, v, score="cosine")
    torch.testing.assert_close(weights[0, 1, 2].detach(), torch.full((K,), 1 / K, dtype=dtype))
    (grad,) = torch.autograd.grad(out.sum(), q, create_graph=True)
    (again,) = torch.autograd.grad(grad.square().sum(), q)
    assert torch.isfinite(grad).all() and torch.isfinite(again).all()


def test_distances_far_from_the_origin() -> None:
    q, k, _ = oracle.inputs(dtype=torch.float32)
    q, k = q + 1000, k + 1000
    exact = -(q.double()[:, :, :, None] - k.double().repeat_interleave(2, 1)[:, :, None]).square().sum(-1) / D**0.5
    plain = -torch.cdist(q, k.repeat_interleave(2, 1), compute_mode="donot_use_mm_for_euclid_dist").square() / D**0.5
    oracle.as_good_as(AttentionMap(q, k, score="l2").problem.score(q, k.repeat_interleave(2, 1)), plain, exact)


@pytest.mark.parametrize("far", [100.0, 1e3, 1e4])
def test_distances_to_keys_that_lie_in_two_places(far: float) -> None:
    """Their mean is near none of them, so what is summed about it is large beside what remains."""
    q, k, _ = oracle.inputs(dtype=torch.float32)
    k[:, :, ::2] += far
    whole = k.repeat_interleave(2, 1)
    exact = torch.softmax(-(q.double()[:, :, :, None] - whole.double()[:, :, None]).square().sum(-1) / D**0.5, -1)
    plain = torch.softmax(-(q[:, :, :, None] - whole[:, :, None]).square().sum(-1) / D**0.5, -1)
    weights = AttentionMap(q, k, score="l2")
    oracle.as_good_as(weights.dense(), plain, exact)
    at = torch.tensor([0, 1]), torch.tensor([1, 3]), torch.tensor([4, 0]), torch.tensor([1, 3])
    oracle.as_good_as(weights[at], plain[at], exact[at])


def test_a_masked_nan_key_spoils_no_distance() -> None:
    q, k, _ = oracle.inputs()
    plain = AttentionMap(q, k[:, :, :5], score="l2").dense()
    k[:, :, 5:] = torch.nan
    mask = masks.where(lambda b, h, q, k: k < 5)
    oracle.close(AttentionMap(q, k, score="l2", mask=mask)[..., :5], plain)


# errors

Z = torch.zeros


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: _map("additive"),
            r"'additive' has weights to learn: make fv.scores.Additive\(query_width, key_width, hid",
        ),
        (
            lambda: _map("concat"),
            r"'concat' has weights to learn: make fv.scores.Concat\(query_width, key_width, hidden\)",
        ),
        (lambda: _map("general"), r"'general' has weights to learn: make fv.scores.General\(query_width, key_width\)"),
        (
            lambda: _map("dott"),
            "unknown score 'dott'; expected 'scaled_dot', 'dot', 'cosine', 'l2', one of fv.scores or",
        ),
        (
            lambda: _map(lambda q, k: k @ q.mT).dense(),
            r"the score <lambda> must give \(..., R, C\) = \(1, 3, 10, 7\) .*; got \(1, 3, 7, 10\)",
        ),
        (
            lambda: _map(lambda q, k: q.sum(-1, keepdim=True)).dense(),
            r"must give .* \(..., R, D\) = .*; got \(1, 3, 10, 1\)",
        ),
        (lambda: _map(scores.Additive), "score must be a name, one of fv.scores or a function .*; got type"),
        (lambda: _map(scores.Additive(D, E, N)), "the score 'additive' was made with key_width 17; got width 11"),
        (lambda: _map(scores.Additive(E, D, N)), "the score 'additive' was made with query_width 17; got width 11"),
        (lambda: _map(scores.General(D, E)), "the score 'general' was made with key_width 17; got width 11"),
        (lambda: _map(scores.General(D, D, heads=4)), "the score 'general' was made for 4 heads; got queries of 6"),
        (lambda: _map(scores.Concat(D, D, N, heads=4)), "the score 'concat' was made for 4 heads; got queries of 6"),
        (lambda: _map(scores.cosine(Z(4))), "the score 'cosine' was made for 4 heads; got queries of 6"),
        (lambda: _map(scores.General(D, D), scale=2.0), "scale goes with the scores 'dot', 'scaled_dot' and 'l2'"),
        (lambda: _map("cosine", scale=2.0), "scale goes with the scores 'dot', 'scaled_dot' and 'l2'"),
        (lambda: scores.cosine(0.0), "temperature must be greater than 0"),
        (lambda: scores.cosine(Z(2, 3)), r"or one per head \(H,\); got shape \(2, 3\)"),
        (lambda: scores.Cosine(0.001), "temperature must be at least 0.01; got 0.001"),
        (lambda: AttentionMap(Z(5, D), Z(7, E), score="l2"), r"same width D; got \(1, 5, 11\) and \(1, 7, 17\)"),
        (lambda: restore({"kind": "Bilinear", "weight": {"tensor": "t"}}, {"t": Z(3)}), "a Bilinear in a .* cannot be"),
    ],
)
def test_refused(make: Callable, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_modules_say_their_sizes() -> None:
    shown = repr(scores.Additive(D, E, N, heads=H))
    assert shown == "Additive(query_width=11, hidden=19, heads=6, key_width=17)"
    assert repr(scores.General(D, E)) == "General(query_width=11, key_width=17)"


def _map(score: Any, **parts: Any) -> AttentionMap:
    q, k, _ = oracle.inputs(dtype=torch.float32)
    return AttentionMap(q, k, score=score, **parts)
