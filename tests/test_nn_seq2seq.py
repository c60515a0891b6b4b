"""Encoder-decoders: all steps at once, one after the other, and recomputed, are one thing; and the parts they rest on.

Axes: B sentences, S source length, T target length, V vocabulary, O outputs, M width, H hidden width.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

import foveate as fv
import oracle
from foveate.nn import Cache, MultiHeadAttention, RNNEncoderDecoder, TransformerEncoderDecoder
from foveate.nn.vocabulary import TiedEmbedding
from foveate.watch import CaptureError

B, S, T, V, M = 3, 7, 5, 13, 8
OUTPUTS = [0, 1, 2, 3, 5, 7, 11]
O, H = len(OUTPUTS), 6  # noqa: E741
LENGTHS = [7, 4, 1]
RECURRENT = ["additive", "dot", "general", "none"]
KINDS = [*RECURRENT, "transformer"]


pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind: str, outputs: list[int] | None = OUTPUTS, **sizes: Any) -> Any:
    """In float64, without dropout, every parameter drawn so that nothing is 0."""
    if kind == "transformer":
        model: Any = TransformerEncoderDecoder(
            V, outputs=outputs, **{"width": M, "heads": 2, "layers": 2, "inner": 10, **sizes}
        )
    else:
        model = RNNEncoderDecoder(V, outputs=outputs, attention=kind, **{"width": M, "hidden": H, **sizes})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double().eval()


def batch(outputs: int = O) -> tuple[Tensor, Tensor, Tensor]:
    """Sources, lengths and targets; padding is any tokens, as nothing may look at it."""
    return torch.randint(0, V, (B, S)), torch.tensor(LENGTHS), torch.randint(0, outputs, (B, T))


def step_by_step(model: Any, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
    steps = model.steps(source, lengths)
    return torch.stack([steps.advance(target[:, t]) for t in range(target.shape[1])], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])  # without padding there is no mask
@torch.no_grad()
def test_all_steps_at_once_are_the_steps_one_by_one(kind: str, full: bool) -> None:
    model, (source, lengths, target) = make(kind), batch()
    lengths = torch.full_like(lengths, S) if full else lengths
    whole = model.logits(model(source, lengths, target))
    assert whole.shape == (B, T, O)
    oracle.close(step_by_step(model, source, lengths, target), whole)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_so_they_are_in_float32(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    exact = model.logits(model(source, lengths, target))
    narrow = copy.deepcopy(model).float()
    forced = narrow.logits(narrow(source, lengths, target))
    oracle.as_good_as(step_by_step(narrow, source, lengths, target), forced, exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grouped", [True, False])
@torch.no_grad()
def test_rows_that_are_repeated_dropped_and_moved_go_on_as_if_alone(kind: str, grouped: bool) -> None:
    """Among the moves are those where every row keeps its sentence, for which a memory need not move."""
    model, (source, lengths, _) = make(kind), batch()
    moves = [None, [0, 0, 1, 1, 2, 2], None, [1, 0, 2, 2, 5, 4], None, [0, 1, 3, 5, 4], None, [4, 3, 4], [2]]
    if not grouped:
        moves = [[2, 0, 1], [0, 0, 0, 2, 1], None, [4, 3, 2, 1, 0], [1, 2], None, [1, 0, 0]]
    steps, rows = model.steps(source, lengths), [(b, [int(torch.randint(O, ()))]) for b in range(B)]
    for move in [*moves, None]:
        if move is not None:
            steps.select(torch.tensor(move))
            rows = [(rows[i][0], list(rows[i][1])) for i in move]
        got = steps.advance(torch.tensor([tokens[-1] for _, tokens in rows]))
        assert got.shape == (len(rows), O)
        for row, (b, tokens) in zip(got, rows, strict=True):
            alone = model(source[b : b + 1, : lengths[b]], lengths[b : b + 1], torch.tensor([tokens]))
            oracle.close(row, model.logits(alone)[0, -1])
        for _, tokens in rows:
            tokens.append(int(torch.randint(O, ())))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_row_may_be_left(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    steps = model.steps(source, lengths)
    steps.advance(target[:, 0])
    steps.select(torch.tensor([], dtype=torch.int64))
    assert steps.advance(torch.tensor([], dtype=torch.int64)).shape == (0, O)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_sentence_does_not_know_its_batch(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    hidden = model(source, lengths, target)
    other = source.clone()
    for b, length in enumerate(LENGTHS):
        other[b, length:] = (other[b, length:] + 1) % V
        alone = model(source[b : b + 1, :length], lengths[b : b + 1], target[b : b + 1])
        oracle.close(hidden[b : b + 1], alone)
    assert torch.equal(model(other, lengths, target), hidden)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_comes_later_changes_nothing_before(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    hidden = model(source, lengths, target)
    for t in range(T):
        other = target.clone()
        other[:, t] = (other[:, t] + 1) % O
        changed = model(source, lengths, other)
        oracle.close(changed[:, :t], hidden[:, :t])
        assert (changed[:, t:] != hidden[:, t:]).any(-1).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_source_token_matters(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    hidden = model(source, lengths, target)
    for s in range(S):
        other = source.clone()
        other[:, s] = (other[:, s] + 1) % V
        changed = (model(other, lengths, target) != hidden).any(-1).all(-1)
        assert changed.tolist() == [s < length for length in LENGTHS]


@torch.no_grad()
def test_the_encoder_reads_in_both_directions_as_pytorch_does() -> None:
    model, (source, lengths, _) = make("additive"), batch()
    both = nn.GRU(M, H // 2, batch_first=True, bidirectional=True).double()
    for name, weight in both.named_parameters():
        one = model.backwards if name.endswith("_reverse") else model.forwards
        weight.copy_(getattr(one, name.removesuffix("_reverse")))
    x = model.embedding.source(source)
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states, last = both(packed)
    wanted, _ = rnn.pad_packed_sequence(states, batch_first=True, total_length=S)
    memory = model.encode(source, lengths)
    for b, length in enumerate(LENGTHS):
        oracle.close(memory.states[b, :length], wanted[b, :length])
    oracle.close(memory.summary, torch.cat([last[0], last[1]], -1))


def test_without_attention_there_are_as_many_parameters() -> None:
    sizes = {kind: sum(p.numel() for p in RNNEncoderDecoder(100, attention=kind).parameters()) for kind in RECURRENT}  # type: ignore[arg-type]
    assert abs(sizes["none"] / sizes["additive"] - 1) < 0.001
    assert sizes["dot"] < sizes["general"] < sizes["additive"]


def test_recurrent_weights_start_orthogonal() -> None:
    model = RNNEncoderDecoder(V, width=M, hidden=H)
    for recurrence in (model.forwards, model.backwards, model.asking, model.writing):
        weight = recurrence.weight_hh_l0
        assert weight.is_leaf
        for gate in weight.detach().double().chunk(3):
            torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate), dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["additive", "dot", "general"])
@torch.no_grad()
def test_the_map_of_a_recurrent_model_is_what_it_computed(kind: str) -> None:
    model, (source, lengths, target) = make(kind), batch()
    given: list[tuple[Any, ...]] = []
    model.attention.register_forward_hook(lambda module, args, output: given.append((args, output[0])))
    plain = model(source, lengths, target)
    with fv.watch(model, keep="qkv") as seen:
        assert torch.equal(model(source, lengths, target), plain)
    assert list(seen) == ["attention"]
    assert seen.info("attention").kind == "cross"
    weights = seen["attention"].dense()
    assert weights.shape == (B, 1, T, S)
    for b, length in enumerate(LENGTHS):
        assert not weights[b, ..., length:].any()
    oracle.close(weights.sum(-1), torch.ones(B, 1, T, dtype=torch.float64))
    (query, states, *_), context = given[-1]
    oracle.close(weights[:, 0] @ states, context)
    oracle.close(states, model.encode(source, lengths).states)
    oracle.close(weights[:, 0], torch.softmax(scores(model, kind, query, states, lengths), -1))


def scores(model: Any, kind: str, query: Tensor, states: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, S), by the papers' formulas."""
    if kind == "additive":
        part = model.attention.score
        hidden = (query @ part.query_weight.T)[:, :, None] + (states @ part.key_weight.T)[:, None]
        s = torch.tanh(hidden) @ part.v
    else:
        s = query @ (states if kind == "dot" else states @ model.attention.key.weight.T).mT
    return s.masked_fill(torch.arange(S) >= lengths[:, None, None], -torch.inf)


@torch.no_grad()
def test_the_maps_of_a_transformer_are_what_it_computed() -> None:
    model, (source, lengths, target) = make("transformer"), batch()
    given: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_hook(lambda module, args, output, name=name: given.update({name: output}))
    with fv.watch(model, keep="qkv") as seen:
        model(source, lengths, target)
    cross = [f"decoder.layers.{i}.cross_attention" for i in range(2)]
    assert [name for name in seen if name.endswith("cross_attention")] == cross
    assert len(seen) == 6
    for name in cross:
        weights = seen[name].dense()
        assert weights.shape == (B, 2, T, S)
        for b, length in enumerate(LENGTHS):
            assert not weights[b, ..., length:].any()
        oracle.close(weights.sum(-1), torch.ones(B, 2, T, dtype=torch.float64))
        read = (weights @ seen[name].value).transpose(1, 2).flatten(2)
        oracle.close(model.get_submodule(name).output(read), given[name])


@pytest.mark.parametrize("kind", ["additive", "dot", "general", "transformer"])
@torch.no_grad()
def test_a_row_of_the_map_is_what_was_read_after_its_input(kind: str) -> None:
    """Row t predicts y_t, and its input is y_(t-1): target token t of what is fed."""
    model, (source, lengths, target) = make(kind), batch()
    lengths = lengths.clamp(min=2)  # of one word all of it is read
    name = "attention" if kind != "transformer" else "decoder.layers.1.cross_attention"
    other = target.clone()
    other[:, 2] = (other[:, 2] + 1) % O
    maps = []
    for fed in (target, other):
        with fv.watch(model) as seen:
            model(source, lengths, fed)
        maps.append(seen[name].dense())
    differs = (maps[0] - maps[1]).abs().amax(-1) > 1e-9
    assert not differs[..., :2].any()
    assert differs[..., 2:].all()


def test_a_fixed_vector_shows_nothing() -> None:
    model, (source, lengths, target) = make("none"), batch()
    with pytest.raises(CaptureError, match="nothing was captured"), fv.watch(model):
        model(source, lengths, target)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_outputs_that_are_left_out_change_no_other(kind: str) -> None:
    restricted, whole = make(kind), make(kind, None)
    state = {k: v for k, v in restricted.state_dict().items() if k not in ("embedding.outputs", "embedding.bias")}
    bias = torch.randn(V, dtype=torch.float64)
    whole.load_state_dict({**whole.state_dict(), **state, "embedding.bias": bias})
    restricted.load_state_dict({**restricted.state_dict(), "embedding.bias": bias[OUTPUTS]})
    source, lengths, target = batch()
    hidden = restricted(source, lengths, target)
    oracle.close(whole(source, lengths, torch.tensor(OUTPUTS)[target]), hidden)
    oracle.close(restricted.logits(hidden), whole.logits(hidden)[..., OUTPUTS])


def test_an_embedding_is_one_table() -> None:
    given = torch.tensor(OUTPUTS)
    one = TiedEmbedding(V, M, given)
    ids = torch.tensor([[0, 4], [6, 6]])
    assert torch.equal(one.target(ids), one.table[given[ids]])
    assert torch.equal(one.source(ids), one.table[ids])
    assert torch.equal(one.logits(one.table), one.table @ one.table[given].T + one.bias)
    assert TiedEmbedding(V, M).output_weight() is not one.table
    assert len(TiedEmbedding(V, M).outputs) == V
    one.load_state_dict({**one.state_dict(), "outputs": torch.arange(O)})
    assert given.tolist() == OUTPUTS
    for wrong in ([1, 0], [0, 0], [-1, 2], [0, V], [], [[0, 1]]):
        with pytest.raises(ValueError, match="outputs must be ascending numbers from 0 to 12"):
            TiedEmbedding(V, M, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: str) -> None:
    model, (source, lengths, target) = make(kind).train(), batch()
    model.logits(model(source, lengths, target)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.endswith("attention.key.bias"):  # adds the same to all scores of a row
            continue
        assert parameter.grad is not None and parameter.grad.abs().sum() > 1e-9, name
        if name != "embedding.table":
            assert (parameter.grad.flatten(1) != 0).any() if parameter.ndim > 1 else parameter.grad.any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_differences(kind: str) -> None:
    sizes = {"width": 2, "heads": 1, "layers": 1, "inner": 2} if kind == "transformer" else {"width": 2, "hidden": 2}
    model = make(kind, [0, 2, 5], **sizes)
    source, lengths, target = torch.tensor([[1, 2, 5], [3, 0, 0]]), torch.tensor([3, 1]), torch.tensor([[0, 1], [2, 0]])
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        hidden = torch.func.functional_call(model, given, (source, lengths, target))
        return nn.functional.linear(hidden, given["embedding.table"][[0, 2, 5]], given["embedding.bias"])

    assert torch.autograd.gradcheck(logits, tuple(v.detach().requires_grad_() for v in values), fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_for_training(kind: str) -> None:
    model, (source, lengths, target) = make(kind, dropout=0.5), batch()
    assert torch.equal(model(source, lengths, target), model(source, lengths, target))
    model.train()
    assert not torch.equal(model(source, lengths, target), model(source, lengths, target))


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_too(kind: str) -> None:
    model, (source, lengths, target) = make(kind).float(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        forced = model.logits(model(source, lengths, target))
        with torch.no_grad():
            steps = step_by_step(model, source, lengths, target)
    exact = copy.deepcopy(model).double()
    wanted = exact.logits(exact(source, lengths, target))
    size = wanted.abs().max()
    assert (forced.double() - wanted).abs().max() < 0.1 * size
    assert (steps.double() - wanted).abs().max() < 0.1 * size
    forced.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown attention 'bilinear'; expected one of 'additive', 'dot', 'general'"):
        RNNEncoderDecoder(V, attention="bilinear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden must be even, half of it for each direction of the encoder; got 5"):
        RNNEncoderDecoder(V, hidden=5)


# A cache whose sequences are chosen, together with the memory that cross-attention reads.


@torch.no_grad()
def test_keys_of_a_memory_follow_it_and_are_not_made_again() -> None:
    attend = MultiHeadAttention(M, 2).double()
    made: list[int] = []
    attend.key.register_forward_hook(lambda *_: made.append(1))
    x, memory, cache = torch.randn(B, 2, M).double(), torch.randn(B, S, M).double(), Cache()
    attend(x, memory, cache=cache)
    for rows in ([2, 2, 0], [1, 0], [0, 0, 1]):
        before, rows_t = memory, torch.tensor(rows)
        chosen = cache.select(rows_t, memory)
        assert chosen is not None
        memory, x = chosen, x[rows_t]
        assert torch.equal(memory, before[rows_t])
        oracle.close(attend(x, memory, cache=cache), attend(x, before[rows_t]))
        assert len(made) == 2  # the one before, and that without a cache
        made.pop()


@torch.no_grad()
def test_keys_of_another_memory_stay() -> None:
    attend = MultiHeadAttention(M, 2).double()
    x, memory, cache = torch.randn(B, 2, M).double(), torch.randn(B, S, M).double(), Cache()
    first = attend(x, memory, cache=cache)
    assert cache.select([2, 0, 1]) is None
    oracle.close(attend(x, memory, cache=cache), first)
    other = cache.select([1, 1, 1], memory * 2)
    assert other is not None
    oracle.close(attend(x, memory, cache=cache), first)
    oracle.close(attend(x, other, cache=cache), attend(x, other))
    memory = cache.select([0, 1, 2], other)  # type: ignore[assignment]
    memory.add_(1)  # what is written to is another memory
    oracle.close(attend(x, memory, cache=cache), attend(x, memory))
