"""Scores out of attention, against small examples worked out by hand and dense definitions."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate import AttentionMap, masks
from foveate.faithful.attributions import attended, gradient_weighted, value_norms
from foveate.faithful.flow import flow
from foveate.faithful.layers import Layer
from foveate.faithful.reading import read
from foveate.faithful.rolled import rolled
from foveate.faithful.subject import own

pytestmark = pytest.mark.usefixtures("one_thread")

H, G, N, D, V, E = 6, 3, 7, 5, 4, 11


def layer(weights_HQN: Tensor, heads: int = 1) -> Layer:
    """One whose weights are these: keys are unit vectors, queries logarithms."""
    w = weights_HQN.expand(heads, *weights_HQN.shape[-2:]).double()
    keys = torch.eye(w.shape[-1], dtype=torch.float64).expand(1, heads, -1, -1)
    hidden = masks.tensor(w[None] > 0)
    made = AttentionMap(w.clamp(min=1e-300).log()[None], keys, score="dot", mask=hidden)
    torch.testing.assert_close(made.dense()[0], w)
    return Layer("layer", made, torch.zeros(heads, w.shape[-1], 1), torch.zeros(*w.shape[:2], 1))


def drawn(layers: int, heads: int, queries: int | None = None, seed: int = 3) -> list[Tensor]:
    """Weights (H, N, N), rows adding up to 1; the last ones of so many queries."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(heads, N, N)] * (layers - 1) + [(heads, queries or N, N)]
    return [(2 * torch.randn(shape, generator=draw, dtype=torch.float64)).softmax(-1) for shape in shapes]


def halved(w_HQN: Tensor) -> Tensor:
    w_QN = w_HQN.mean(0)
    return (w_QN + torch.eye(N)) / 2 if len(w_QN) == N else w_QN


CAUSAL = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
SECOND = torch.tensor([0.0, 1.0], dtype=torch.float64)


def test_rollout_and_flow_by_hand() -> None:
    """Halved: the second token keeps 3/4 and reads 1/4. Twice: 9/16 stay; 1/4 + 3/4 * 1/4 come from the first token.
    Of the flow, 3/4 pass to the second token; to the first pass 1/4 at once, and of the 3/4 no more than 1/4."""
    two = [layer(CAUSAL), layer(CAUSAL)]
    assert rolled([one.weights for one in two], SECOND).tolist() == pytest.approx([7 / 16, 9 / 16])
    assert flow(two, SECOND).tolist() == pytest.approx([1 / 2, 3 / 4])
    assert attended(two[1], SECOND).tolist() == pytest.approx([1 / 2, 1 / 2])


@pytest.mark.parametrize("queries", [None, 1, 3])
def test_rollout_is_a_product_of_matrices(queries: int | None) -> None:
    given = drawn(3, H, queries)
    rows = torch.tensor([0.25, 0.0, 0.75] + [0.0] * (N - 3), dtype=torch.float64)[: queries or N]
    rows = rows / rows.sum()
    want = rows @ halved(given[2]) @ halved(given[1]) @ halved(given[0])
    torch.testing.assert_close(rolled([layer(w, H).weights for w in given], rows), want)


def greatest(capacities: dict[tuple[object, object], float], source: object, sink: object) -> float:
    """Maximum flow by shortest augmenting paths (Edmonds & Karp), in floats."""
    left: dict[object, dict[object, float]] = {}
    for (a, b), width in capacities.items():
        left.setdefault(a, {})[b] = left.get(a, {}).get(b, 0.0) + width
        left.setdefault(b, {}).setdefault(a, 0.0)
    total = 0.0
    while True:
        came: dict[object, object] = {source: source}
        waiting = deque([source])
        while waiting and sink not in came:
            here = waiting.popleft()
            for there, width in left[here].items():
                if width > 1e-12 and there not in came:
                    came[there] = here
                    waiting.append(there)
        if sink not in came:
            return total
        path = [sink]
        while path[-1] != source:
            path.append(came[path[-1]])
        steps = list(pairwise(reversed(path)))
        pushed = min(left[a][b] for a, b in steps)
        for a, b in steps:
            left[a][b] -= pushed
            left[b][a] += pushed
        total += pushed


def test_flow_is_that_of_another_algorithm() -> None:
    given = drawn(3, H)
    rows = torch.tensor([0.0, 0.4, 0.0, 0.6, 0.0, 0.0, 0.0], dtype=torch.float64)
    pipes: dict[tuple[object, object], float] = {("top", (3, 1)): 0.4, ("top", (3, 3)): 0.6}
    for level, w in enumerate(given, 1):
        pipes |= {((level, i), (level - 1, j)): float(halved(w)[i, j]) for i in range(N) for j in range(N)}
    want = [greatest(pipes, "top", (0, token)) for token in range(N)]
    found = flow([layer(w, H) for w in given], rows)
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float64), atol=1e-7, rtol=0)


def test_sinks_take_a_share_that_is_given_to_no_token() -> None:
    short = AttentionMap(torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1), normalizer=_with_sink())
    one = Layer("sink", short, torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    assert attended(one, SECOND).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert rolled([one.weights], SECOND).tolist() == pytest.approx([1 / 5, 4 / 5])


def _with_sink() -> object:
    from foveate.normalizers import Softmax

    return Softmax(torch.zeros(1))


class Explicit(nn.Module):
    """Two layers of grouped attention written out, which keep their weights for autograd; and as a call, if asked."""

    def __init__(self, written: bool, heads: int = H, groups: int = G) -> None:
        super().__init__()
        self.written, self.heads, self.groups = written, heads, groups
        self.words = nn.Embedding(20, E)
        self.q = nn.ModuleList(nn.Linear(E, heads * D) for _ in range(2))
        self.k = nn.ModuleList(nn.Linear(E, groups * D) for _ in range(2))
        self.v = nn.ModuleList(nn.Linear(E, groups * V) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(heads * V, E) for _ in range(2))
        self.last = nn.Linear(E, 3)
        self.weights: list[Tensor] = []

    def forward(self, ids: Tensor) -> Tensor:
        x, self.weights = self.words(ids), []
        for q, k, v, out in zip(self.q, self.k, self.v, self.out, strict=True):
            q_BHND = q(x).unflatten(-1, (self.heads, D)).transpose(1, 2)
            k_BGND = k(x).unflatten(-1, (self.groups, D)).transpose(1, 2)
            v_BGNV = v(x).unflatten(-1, (self.groups, V)).transpose(1, 2)
            if self.written:
                many = self.heads // self.groups
                k_BHND, v_BHNV = (t.repeat_interleave(many, 1) for t in (k_BGND, v_BGNV))
                w = (q_BHND @ k_BHND.mT / math.sqrt(D)).softmax(-1)
                w.retain_grad()
                self.weights.append(w)
                read_BHNV = w @ v_BHNV
            else:
                read_BHNV = F.scaled_dot_product_attention(q_BHND, k_BGND, v_BGNV, enable_gqa=True)
            x = x + out(read_BHNV.transpose(1, 2).flatten(2))
        found: Tensor = self.last(x[:, -1])
        return found


def test_gradient_x_attention_is_autograds() -> None:
    torch.manual_seed(5)
    written = Explicit(True).double().eval()
    model = Explicit(False).double().eval()
    model.load_state_dict(written.state_dict())
    ids = torch.tensor([[3, 8, 1, 14, 5, 9, 2]])
    logits = written(ids)[0]
    (logits[1] - logits[[0, 2]].logsumexp(0)).backward()
    seen = read(own(model, ids, 1, model, None, None, None, None))
    want = [w * w.grad for w in written.weights if w.grad is not None]
    torch.testing.assert_close(gradient_weighted(seen.layers), torch.stack([w.sum((0, 1, 2)) for w in want]).sum(0))
    for one, w in zip(seen.layers, written.weights, strict=True):
        torch.testing.assert_close(one.weights.dense(), w.detach())
    assert seen.rows_Q.tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert seen.gradient_NE is not None
    torch.testing.assert_close(seen.gradient_NE, written.words.weight.grad[ids[0]])  # type: ignore[index]


@pytest.mark.parametrize("path", ["layer", "module"])
def test_value_norms_are_those_of_the_vectors_that_are_added(path: str) -> None:
    torch.manual_seed(6)
    width, heads = 12, 3
    block = nn.TransformerEncoderLayer(width, heads, 16, batch_first=True).double().eval()
    attention = block.self_attn if path == "layer" else nn.MultiheadAttention(width, heads).double().eval()
    last = nn.Linear(width, 2).double()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = block if path == "layer" else attention

        def forward(self, x: Tensor) -> Tensor:
            if path == "layer":
                found: Tensor = last(self.inner(x)[:, 2])
                return found
            y = x.transpose(0, 1)
            plain: Tensor = last(self.inner(y, y, y)[0][2])
            return plain

    model = Model()
    x = torch.randn(1, N, width, dtype=torch.float64)
    seen = read(own(model, x, 1, model, None, None, None, None))
    rows = torch.zeros(N, dtype=torch.float64)
    rows[2] = 1
    torch.testing.assert_close(seen.rows_Q, rows)
    q, k, v = F.linear(x[0], attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    want = torch.zeros(N, width, dtype=torch.float64)
    for h in range(heads):
        at = slice(h * 4, h * 4 + 4)
        w = (q[2, at] @ k[:, at].T / 2).softmax(-1)
        want += w[:, None] * (v[:, at] @ attention.out_proj.weight[:, at].T)
    torch.testing.assert_close(value_norms(seen.layers[0], rows), want.norm(dim=-1).detach())


def test_value_norms_without_a_known_projection_are_of_the_heads() -> None:
    torch.manual_seed(7)
    model = Explicit(False).double().eval()
    seen = read(own(model, torch.tensor([[3, 8, 1, 14, 5, 9, 2]]), 1, model, None, None, None, None))
    one = seen.layers[1]
    assert one.projection_HVE is None
    added = one.weights.dense()[0, :, -1, :, None] * one.value_GNV.repeat_interleave(H // G, 0)
    torch.testing.assert_close(value_norms(one, seen.rows_Q), added.square().sum((0, 2)).sqrt())


def test_blocks_of_rows_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    model = Explicit(False).eval()
    seen = read(own(model, torch.tensor([[3, 8, 1, 14, 5, 9, 2]]), 1, model, None, None, None, None))
    want = (
        gradient_weighted(seen.layers),
        rolled([one.weights for one in seen.layers], seen.rows_Q),
        flow(seen.layers, seen.rows_Q),
    )
    monkeypatch.setattr("foveate.faithful.layers._NUMBERS", 3 * H * N)
    found = (
        gradient_weighted(seen.layers),
        rolled([one.weights for one in seen.layers], seen.rows_Q),
        flow(seen.layers, seen.rows_Q),
    )
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b)
