"""Heads taken out of our own modules: the same as knocked out, with groups, caches, and no heads at all."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.heads.pruning.sites import find, why_not
from foveate.heads.pruning.switches import Switches
from foveate.nn import Cache, Decoder, Encoder, MultiHeadAttention, TransformerEncoderDecoder
from foveate.watch import CaptureError
from pruned_models import knocked_out, some_heads

pytestmark = pytest.mark.usefixtures("one_thread")

B, L, S, M, H = 2, 7, 5, 24, 6
NOTHING = "nothing was captured: Encoder called none of"


def grouped(heads: int = H, groups: int = 2, **parts: Any) -> Any:
    return lambda: MultiHeadAttention(M, heads, groups=groups, **parts)


def plain_encoder() -> torch.nn.Module:
    return Encoder(3, M, H, 16)


def grouped_encoder() -> torch.nn.Module:
    return Encoder(3, M, H, 16, attention=grouped(positions=fv.positions.Rotary(M // H)))


def decoder() -> torch.nn.Module:
    return Decoder(3, M, H, 16, attention=grouped(groups=3, bias=False))


KINDS = [plain_encoder, grouped_encoder, decoder]


def run(model: torch.nn.Module, **more: Any) -> torch.Tensor:
    torch.manual_seed(5)
    x, memory = torch.randn(B, L, M), torch.randn(B, S, M)
    with torch.no_grad():
        return model(x, memory, **more) if isinstance(model, Decoder) else model(x)  # type: ignore[no-any-return]


def made(kind: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    model: torch.nn.Module = kind().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases, and norms' factors
            torch.nn.init.normal_(parameter, 1.0 if parameter.mean() > 0.5 else 0.0, 0.2)
    return model


@pytest.mark.parametrize("first_empty", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_model_computes_what_is_left(kind: Any, first_empty: bool) -> None:
    model = made(kind)
    heads, state, before = some_heads(model, first_empty=first_empty), copy.deepcopy(model.state_dict()), run(model)
    other = knocked_out(copy.deepcopy(model), heads)
    pruned = fv.heads.prune(model, heads)
    found, wanted = run(model), run(other)
    assert (found - wanted).abs().max() < 2e-6 < (found - before).abs().max()
    assert pruned.parameters[1] == sum(p.numel() for p in model.parameters()) < pruned.parameters[0]
    assert run(copy.deepcopy(model)).equal(found)
    pruned.restore()
    assert run(model).equal(before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("gone", ["first", "some", "all"])
def test_a_cache_counts_on_where_no_heads_are_left(gone: str) -> None:
    model = made(decoder)
    everywhere = {path: tuple(range(H)) for path in find(model) if "cross" not in path}
    fv.heads.prune(model, everywhere if gone == "all" else some_heads(model, first_empty=gone == "first"))
    torch.manual_seed(5)
    x, memory, cache = torch.randn(B, L, M), torch.randn(B, S, M), Cache()
    with torch.no_grad():
        steps = [model(x[:, i : i + 1], memory, cache=cache) for i in range(L)]
    assert cache.length == L
    assert (torch.cat(steps, 1) - run(model)).abs().max() < 2e-6


def test_a_search_is_right_where_the_decoder_reads_itself_nowhere() -> None:
    torch.manual_seed(2)
    model = TransformerEncoderDecoder(61, width=M, heads=H, layers=2, inner=16, dropout=0.0).eval()
    heads = {path: tuple(range(H)) for path in find(model) if path.startswith("decoder") and "cross" not in path}
    other = knocked_out(copy.deepcopy(model), heads)
    fv.heads.prune(model, heads)
    source, lengths = torch.randint(3, 61, (B, S)), torch.tensor([S, 3])
    for search in (fv.nn.search.greedy, fv.nn.search.beam):
        with torch.no_grad():
            steps = [m.steps(source, lengths) for m in (model, other)]
            found, wanted = ([h.tokens for [h, *_] in search(s, B, begin=1, end=2, limit_B=9)] for s in steps)
        assert found == wanted


def test_no_attention_is_computed_without_heads() -> None:
    model = made(plain_encoder)
    fv.heads.prune(model, {path: range(H) for path in find(model)})
    with pytest.raises(CaptureError, match=NOTHING), fv.watch(model):
        run(model)
    attention = model.layers[0].attention
    assert attention(torch.randn(B, L, M)).equal(attention.output.bias.expand(B, L, M))
    with pytest.raises(ValueError, match="all heads of this attention were pruned, so it has no weights"):
        attention(torch.randn(B, L, M), return_weights=True)


def test_training_goes_on_and_restored_heads_come_back_as_they_went() -> None:
    model = made(grouped_encoder)
    gone = some_heads(model)
    path, some = list(gone.items())[1]
    was = model.get_submodule(path).query.weight.detach().clone()
    pruned = fv.heads.prune(model, gone)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    torch.manual_seed(5)
    x = torch.randn(B, L, M)
    for _ in range(6):
        loss = (model(x) - x.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    pruned.restore()
    rows = torch.cat([torch.arange(h * 4, h * 4 + 4) for h in some])
    now = model.get_submodule(path).query.weight
    assert now[rows].equal(was[rows])
    assert not now.equal(was)
    assert all(p.requires_grad for p in model.parameters())


def test_heads_are_counted_as_they_are_now_and_kept_by_their_first_numbers() -> None:
    model = made(plain_encoder)
    whole = copy.deepcopy(model)
    fv.heads.prune(model, [(0, 1), (0, 3)])
    pruned = fv.heads.prune(model, {(0, 1), (2, 5)})  # the second of 0, 2, 4, 5
    assert pruned.kept == {
        f"layers.{i}.attention": k for i, k in enumerate([(0, 4, 5), tuple(range(H)), (0, 1, 2, 3, 4)])
    }
    assert pruned.removed == {"layers.0.attention": (1, 2, 3), "layers.2.attention": (5,)}
    other = knocked_out(whole, pruned.removed)
    assert (run(model) - run(other)).abs().max() < 2e-6
    assert pruned.heads == (18, 14)


@pytest.mark.parametrize(
    ("heads", "match"),
    [
        ([(7, 0)], "layer 7 fits none of the attention modules that can be pruned: layers.0.attention, layers.0.cross"),
        ([(0, 0)], "layer 0 fits several attention modules, layers.0.attention, layers.0.cross_attention; name one"),
        ([("layers.0", 0)], "the path 'layers.0' fits several attention modules"),
        ([("layers.0.attention", 6)], r"\('layers.0.attention', 6\): layers.0.attention has heads 0 to 5"),
        ([("layers.0.attention", -1)], "counted from 0; got .'layers.0.attention', -1"),
        ([("layers.0.attention", 1.5)], "a head's number"),
        ({"layers.0.attention": [0]}, "2 query heads share each key and value head"),
    ],
)
def test_heads_that_are_not_there(heads: Any, match: str) -> None:
    model = made(decoder)
    with pytest.raises(ValueError, match=match):
        fv.heads.prune(model, heads)
    assert fv.heads.prunable(model)["layers.1.attention"] == ((0, 1), (2, 3), (4, 5))


def test_heads_are_named_as_everywhere_else() -> None:
    for name in ("layers.1", "layers.1.attention", 1):
        assert fv.heads.prune(made(plain_encoder), (name, 2)).removed == {"layers.1.attention": (2,)}
    alone = MultiHeadAttention(M, H)
    for name in ("", "MultiHeadAttention"):  # as it is inside, and as `fv.watch` calls it
        pruned = fv.heads.prune(copy.deepcopy(alone), {name: [3, 4]})
        assert pruned.removed == {"": (3, 4)}
    compiled = torch.compile(made(plain_encoder), backend="eager")
    assert fv.heads.prune(compiled, [("layers.2.attention", 0)]).heads == (3 * H, 3 * H - 1)


def test_the_page_on_pruning_runs() -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "prune.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 2
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/prune.md", "exec"), scope)
    assert scope["pruned"].heads == (12, 10)  # what the second block left


def test_attention_that_cannot_be_pruned_says_why() -> None:
    torchs = torch.nn.TransformerEncoderLayer(M, H)
    with pytest.raises(
        ValueError, match=r"no attention that can be pruned. .*self_attn \(torch.nn.MultiheadAttention can"
    ):
        fv.heads.prune(torchs, [(0, 0)])
    with pytest.raises(ValueError, match=r"Linear has no attention that can be pruned\. See docs/prune\.md"):
        fv.heads.prunable(torch.nn.Linear(3, 3))
    far = Encoder(1, M, H, 16, attention=grouped(groups=H, positions=fv.positions.alibi(H)))
    assert why_not(far) == {"layers.0.attention": "its positions has numbers for each head"}
    sinks = Encoder(
        1, M, H, 16, attention=grouped(normalizer=fv.normalizers.softmax(sinks=torch.nn.Parameter(torch.zeros(H))))
    )
    assert why_not(sinks) == {"layers.0.attention": "its normalizer has numbers for each head"}


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_is_knocked_out(kind: Any) -> None:
    model = made(kind)
    units = list(some_heads(model).items())
    with Switches(model) as switches:
        switches.off = units
        found = run(model)
    with fv.knockout(model, [(path, head) for path, heads in units for head in heads]):
        assert run(model).equal(found)
    assert not run(model).equal(found)
