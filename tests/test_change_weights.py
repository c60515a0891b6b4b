"""block and replace: weights that are changed, against explicit masks and against the definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
from changed import KINDS, PADDING, B, H, L, Own, X, first, fresh, rnn, run_rnn
from foveate.change import Average, ChangeError, ChangeWarning
from foveate.describe import restore
from foveate.normalizers.given import AsGiven
from foveate.scores.table import Table
from foveate.views.given import recording_of
from hf_models import make_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

LINKS = [(4, 1), (4, 2), (6, 0), (3, 3)]


def hidden(n: int, causal: bool = False) -> Tensor:
    """True where a query may read a key once LINKS are gone."""
    ok = torch.ones(n, n, dtype=torch.bool)
    ok = ok.tril() if causal else ok
    for query, key in LINKS:
        ok[query, key] = False
    return ok


def _masked_hf(model: nn.Module, causal: bool) -> Tensor:
    inputs = make_inputs("text")
    real = inputs["attention_mask"].bool()[:, None, None, :]
    ok = hidden(11, causal) & real
    bias = torch.zeros(2, 1, 11, 11).masked_fill(~ok, torch.finfo(torch.float32).min)
    return first(model(input_ids=inputs["input_ids"], attention_mask=bias))


MASKED: dict[str, Callable[[nn.Module], Tensor]] = {
    "bert": lambda model: _masked_hf(model, False),
    "bert eager": lambda model: _masked_hf(model, False),
    "llama": lambda model: _masked_hf(model, True),
    "own": lambda model: model[1](model[0](X, hidden(L)), hidden(L)),
    "multihead": lambda model: model(X, X, X, attn_mask=~hidden(L), key_padding_mask=PADDING)[0],
    "encoder layer": lambda model: model(X, src_mask=~hidden(L)),
    "encoder, padded": lambda model: model(X, mask=~hidden(L), src_key_padding_mask=PADDING).masked_fill(
        PADDING[..., None], 0.0
    ),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", MASKED)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_links_are_gone_as_if_masked(name: str, grad: bool) -> None:
    kind, model = fresh(name)
    rows = slice(0, 7) if name in ("bert", "bert eager", "llama") else slice(None)
    with torch.set_grad_enabled(grad):
        plain = kind.run(model)
        want = MASKED[name](model)
        with fv.block(model, LINKS), fv.watch(model) as seen:
            got = kind.run(model)
    torch.testing.assert_close(got[:, rows], want[:, rows], atol=3e-5, rtol=1e-4)
    assert float((plain - want)[:, rows].detach().abs().max()) > 1e-2
    assert torch.equal(kind.run(model), plain) or not grad
    for path in seen:
        for query, key in LINKS:
            assert not seen[path][..., query, key].any()
    assert seen.not_captured == ()


@pytest.mark.parametrize("name", KINDS)
def test_a_row_keeps_its_proportions_and_other_rows_their_numbers(name: str) -> None:
    kind, model = fresh(name)
    path = next(iter(kind.projections))
    with torch.no_grad():
        with fv.watch(model) as before:
            kind.run(model)
        was = before[path].dense()
        with fv.block(model, [(2, 1)], heads=[(path, 2)]), fv.watch(model) as seen:
            kind.run(model)
        now = seen[path].dense()
    if name == "encoder, padded":
        was, now = was[:, :, :4], now[:, :, :4]
    want = was.clone()
    want[:, 2, 2, 1] = 0
    if name != "gpt-oss":  # its sinks take a part of what is left
        want[:, 2, 2] *= was[:, 2, 2].sum(-1, keepdim=True) / want[:, 2, 2].sum(-1, keepdim=True)
        torch.testing.assert_close(now, want, atol=2e-6, rtol=1e-4)
    assert not now[:, 2, 2, 1].any()
    assert was[:, 2, 2, 1].any()
    assert seen.not_captured == ()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_positions_go_on_counting_through_a_generation(name: str, cache: dict[str, Any]) -> None:
    model = fresh(name)[1]
    if name != "llama" and "cache_implementation" in cache:
        pytest.skip("not offered by this model")
    ids = make_inputs("text")["input_ids"][:1]
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0, **cache}
    links = [(5, 2), (11, 9), (12, 11), (13, 10)]
    with fv.block(model, links):
        out = model.generate(ids, **options, output_logits=True, return_dict_in_generate=True)
        whole = first(model(out.sequences[:, :-1]))
        cut = first(model(out.sequences[:, :-1], use_cache=False))
    torch.testing.assert_close(torch.stack(out.logits, 1), whole[:, 10:], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(whole, cut, atol=2e-4, rtol=1e-4)
    assert float((whole - first(model(out.sequences[:, :-1]))).detach().abs().max()) > 1e-3


def test_our_own_decoder_step_by_step_reads_what_it_reads_at_once() -> None:
    model = fresh("ours")[1]
    source, lengths, target = torch.randint(0, 30, (2, 5)), torch.tensor([5, 4]), torch.randint(0, 30, (2, 4))
    for kind, links in (("decoder", [(2, 1), (3, 0)]), ("cross", [(2, 1), (3, 0)])):
        with torch.no_grad(), fv.block(model, links, kind=kind):
            whole = model.logits(model(source, lengths, target))
            steps = model.steps(source, lengths)
            each = torch.stack([steps.advance(target[:, t]) for t in range(4)], dim=1)
        torch.testing.assert_close(whole, each, atol=1e-5, rtol=1e-4)
        assert float((whole - model.logits(model(source, lengths, target))).detach().abs().max()) > 1e-3


def test_the_recurrent_decoder() -> None:
    model = rnn()
    with torch.no_grad(), fv.watch(model) as before:
        run_rnn(model)
    with torch.no_grad(), fv.block(model, [(2, 1)]), fv.watch(model) as seen:
        run_rnn(model)
    want = before["attention"][:, :, 2].clone()
    want[..., 1] = 0
    torch.testing.assert_close(seen["attention"][:, :, 2], want / want.sum(-1, keepdim=True))
    steps, token = model.steps(torch.randint(0, 30, (1, 5)), torch.tensor([5])), torch.tensor([1])
    told = "one query at a time and without a cache"
    with pytest.raises(ChangeError, match=told), fv.block(model, [(1, 1)]):
        [steps.advance(token) for _ in range(2)]


def test_one_sequence_of_a_batch() -> None:
    kind, model = fresh("bert")
    with torch.no_grad():
        plain = kind.run(model)
        with fv.block(model, LINKS):
            everywhere = kind.run(model)
        with fv.block(model, LINKS, sequence=1):
            got = kind.run(model)
        with pytest.raises(ChangeError, match="sequence 2 of a batch of 2"), fv.block(model, LINKS, sequence=2):
            kind.run(model)
    assert torch.equal(got[0], plain[0])
    torch.testing.assert_close(got[1], everywhere[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got[1], plain[1])


TOKENS = ["[CLS]", "the", "cat", "saw", "it", "un", "##happy", "and", "saw", "him", "[SEP]"]


def test_words_are_found_by_their_tokens() -> None:
    kind, model = fresh("bert")
    with torch.no_grad():
        with fv.block(model, [("it", "cat"), ("unhappy", 1)], tokens=TOKENS):
            got = kind.run(model)
        with fv.block(model, [(4, 2), (5, 1), (6, 1)]):
            assert torch.equal(kind.run(model), got)

    class Tokenizer:
        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": list(range(len(TOKENS)))}

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [TOKENS[i] for i in ids]

    with torch.no_grad(), fv.block(model, [("it", "cat"), ("unhappy", 1)], tokenizer=Tokenizer(), text="x"):
        assert torch.equal(kind.run(model), got)
    marked = ["▁the", "▁cat", "s", "▁sat", ".", "▁cat"]
    from foveate.change.texts import positions_of

    assert positions_of("cats", marked, "a") == [1, 2]
    assert positions_of("cat", marked, "a") == [5]
    assert positions_of(".", marked, "a") == [4]
    lone = ["▁the", "▁", "cat", "s", "."]  # a mark of its own belongs to its word
    assert positions_of("cats", lone, "a") == [1, 2, 3]
    byte_level = ["Ġa", "Ġcaf", "Ã©", "Ġcafs", "."]
    assert positions_of("café", byte_level, "a") == [1, 2]  # as it is written, not as its bytes are
    with pytest.raises(ValueError, match="'caf' is not in the text; there is 'café', 'cafs'"):
        positions_of("caf", byte_level, "a")


@pytest.mark.parametrize(
    ("links", "options", "text"),
    [
        ([("saw", 1)], {"tokens": TOKENS}, "the query 'saw' occurs 2 times, at 3, 8; give a position"),
        ([(1, "cats")], {"tokens": TOKENS}, "the key 'cats' is not in the text; there is 'cat'"),
        ([(1, "cat")], {}, "the key 'cat' is text: give tokens="),
        ([(1, -2)], {}, "positions count from 0; the key is at -2"),
        ([1, 2, 3], {}, "links are pairs"),
        ([(1, 2)], {"kind": "self"}, "unknown kind 'self'"),
        ([(1, 2)], {"kind": "cross", "heads": (0, 1)}, "kind= is for all heads"),
        ([(1, 2)], {"sequence": -1}, "sequences are rows of the batch"),
        ([(1, 2)], {"text": "a"}, "a tokenizer needs the text="),
    ],
)
def test_links_that_are_none(links: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fv.block(fresh("own")[1], links, **options)


def test_links_that_were_not_there_are_no_silent_success() -> None:
    kind, model = fresh("llama")
    with pytest.raises(ChangeError, match=r"nothing was blocked: .* \(2, 5\) anyway"), fv.block(model, [(2, 5)]):
        kind.run(model)
    with pytest.warns(ChangeWarning, match=r"\(50, 1\)"), fv.block(model, [(50, 1), (5, 2)]):
        kind.run(model)
    of_several, bart = fresh("bart")
    told = r"attention is of several kinds, .*say which, kind="
    with pytest.raises(ChangeError, match=told), fv.block(bart, [(2, 1)]):
        of_several.run(bart)
    with pytest.raises(ChangeError, match="nothing was blocked"), fv.block(model, [(2, 1)]):
        pass
    plain = kind.run(model)
    with fv.block(model, []), fv.block(model, [(2, 1)], heads=[]):
        assert torch.equal(kind.run(model), plain)


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "own", "multihead", "encoder layer", "ours", "vit"])
def test_uniform_reads_the_mean_of_what_a_row_may_see(name: str) -> None:
    kind, model = fresh(name)
    path = next(iter(kind.projections))
    with torch.no_grad():
        with fv.watch(model, keep="qkv") as before:
            plain = kind.run(model)
        with fv.replace(model, [(path, 1), (path, 4)], "uniform"), fv.watch(model) as seen:
            got = kind.run(model)
    was, now = before[path].dense(), seen[path].dense()
    want = was.clone()
    visible = (was > 0).float()
    want[:, [1, 4]] = (visible / visible.sum(-1, keepdim=True).clamp_min(1))[:, [1, 4]]
    torch.testing.assert_close(now, want, atol=2e-6, rtol=0)
    assert seen.not_captured == ()
    assert not torch.allclose(plain, got)


@pytest.mark.parametrize("name", KINDS)
def test_a_runs_own_weights_change_nothing_and_anothers_do(name: str) -> None:
    kind, model = fresh(name)
    heads = [(path, head) for path in kind.projections for head in range(0, H, 2)]
    with torch.no_grad(), torch.random.fork_rng():
        with fv.scale(model, heads, 1.0), fv.watch(model) as mine:
            plain = kind.run(model)
        with fv.replace(model, heads, mine):
            torch.testing.assert_close(kind.run(model), plain, atol=3e-5, rtol=1e-4)
        torch.manual_seed(99)
        for p in (other := kind.build()).parameters():
            p.data.copy_(p.data.flip(0))
        with fv.watch(other) as theirs:
            kind.run(other)
        with fv.replace(model, heads, theirs):
            assert not torch.allclose(kind.run(model), plain, atol=1e-3)


def test_matrices_and_averages() -> None:
    kind, model = fresh("own")
    table = torch.rand(L, L).softmax(-1)
    with torch.no_grad():
        with fv.replace(model, {(1, 2)}, table), fv.watch(model) as seen:
            kind.run(model)
        torch.testing.assert_close(seen["1"][1, 2], table)
        mean = Average()
        for n in (L, 5):
            with fv.watch(model) as recorded:
                model(X[:, :n])
            mean.add(recorded)
        with fv.watch(model) as longer:
            model(X)
        with fv.watch(model) as shorter:
            model(X[:, :5])
        want = (longer["1"].dense().sum(0)[:, :5, :5] + shorter["1"].dense().sum(0)) / (2 * B)
        torch.testing.assert_close(mean["1"][:, :5, :5].float(), want, atol=1e-6, rtol=1e-5)
        want = want / want.sum(-1, keepdim=True)
        with fv.replace(model, {(1, 2)}, "average", over=mean), fv.watch(model) as seen:
            model(X[:, :5])
        # cut to five keys, the rows add up to what they had of these
        got = seen["1"][0, 2] / seen["1"][0, 2].sum(-1, keepdim=True)
        torch.testing.assert_close(got, want[2], atol=1e-6, rtol=1e-5)
        with pytest.raises(ChangeError, match="the average is of texts"), fv.replace(model, {(1, 2)}, mean):
            model(torch.cat([X, X], dim=1))
        told, small = r"has weights .*; what replaces them is", torch.rand(3, 3)
        with pytest.raises(ChangeError, match=told), fv.replace(model, {(1, 2)}, small):
            model(X)
    with pytest.raises(ValueError, match="over= goes with"):
        fv.replace(model, {(1, 2)}, "average")
    with pytest.raises(ValueError, match="none below 0"):
        fv.replace(model, {(1, 2)}, -table)
    with pytest.raises(ValueError, match="weights are finite"):
        fv.replace(model, {(1, 2)}, table.new_full(table.shape, torch.nan))
    with pytest.raises(ValueError, match=r"by is .*; got 'mean'"):
        fv.replace(model, {(1, 2)}, "mean")


def test_blocking_and_replacing_combine_in_the_order_in_which_they_begin() -> None:
    kind, model = fresh("own")
    table = torch.rand(L, L).softmax(-1)
    with torch.no_grad():
        for order in (0, 1):
            one, two = fv.block(model, [(3, 1)], heads=[(1, 2)]), fv.replace(model, {(1, 2)}, table)
            pair = (one, two) if order else (two, one)
            with pair[0], pair[1], fv.watch(model) as seen:
                kind.run(model)
            want = table[3].clone()
            want[1] = 0
            torch.testing.assert_close(seen["1"][0, 2, 3], want / want.sum(), atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(seen["1"][0, 2, 4], table[4], atol=1e-6, rtol=1e-5)
    with fv.block(model, [(3, 1)], heads=[(1, 2)]), fv.knockout(model, {(1, 2)}):
        both = kind.run(model)
    with fv.knockout(model, {(1, 2)}):
        assert torch.equal(kind.run(model), both)


def test_gradients_reach_queries_keys_and_a_learned_bias() -> None:
    kind, model = fresh("t5")
    path = "encoder.block.0.layer.0.SelfAttention"
    links = [(query, 0) for query in range(11)]  # every row is computed anew
    with fv.block(model, links, kind="encoder"):
        kind.run(model).square().mean().backward()
    got = model.get_parameter(f"{path}.relative_attention_bias.weight").grad
    assert got is not None
    step, table = 1e-2, model.get_parameter(f"{path}.relative_attention_bias.weight").data
    at = tuple(int(i) for i in (got.abs() == got.abs().max()).nonzero()[0])
    sums = []
    for sign in (1, -1):
        table[at] += sign * step
        with torch.no_grad(), fv.block(model, links, kind="encoder"):
            sums.append(float(kind.run(model).double().square().mean()))
        table[at] -= sign * step
    assert float(got[at]) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=3e-2)


def test_recordings_of_blocked_attention_are_saved(tmp_path: Any) -> None:
    model = nn.Sequential(Own())
    with fv.block(model, [(3, 1)], heads=[(0, 2)]), fv.watch(model) as seen:
        model(X)
    seen.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")
    assert torch.equal(again["0"].dense(), seen["0"].dense())
    assert not again["0"][:, 2, 3, 1].any()
    assert again["0"][:, 1, 3, 1].all()


@pytest.mark.parametrize("name", ["bert", "bart", "llama", "multihead", "own"])
def test_what_was_changed_is_saved(name: str, tmp_path: Path) -> None:
    kind, model = fresh(name)
    path = list(kind.projections)[-1]
    with torch.no_grad(), fv.watch(model) as plain:
        kind.run(model)
    changes = fv.replace(model, [(path, 1)], "uniform"), fv.replace(model, [(path, 2)], plain)
    with torch.no_grad(), changes[0], changes[1], fv.scale(model, {(path, 3): 0.5}):
        with fv.watch(model, to=tmp_path / "written.fov"):
            kind.run(model)
        with fv.watch(model) as seen:
            kind.run(model)
        with fv.watch(model, heads=[1, 3]) as some:
            kind.run(model)
    some.save(tmp_path / "some.fov")
    for one in ("written", "saved"):
        if one == "saved":
            seen.save(tmp_path / "saved.fov")
        loaded = fv.load(tmp_path / f"{one}.fov")
        assert list(loaded) == list(seen)
        assert all(torch.equal(loaded[at].dense(), seen[at].dense()) for at in seen)
    assert not torch.equal(seen[path].dense(), plain[path].dense())
    assert torch.equal(fv.load(tmp_path / "some.fov")[path].dense(), seen[path].dense()[:, [1, 3]])
    fv.export_html(loaded, tmp_path / "page.html")


def test_saved_weights_that_do_not_fit_their_call_are_refused(tmp_path: Path) -> None:
    query = torch.zeros(2, 3, 5, 1)
    with pytest.raises(ValueError, match=r"must be \(2, 3, 5, 5\), as the call is; got \(2, 3, 5, 4\)"):
        fv.AttentionMap(query, query, score=Table(torch.zeros(2, 3, 5, 4)), normalizer=AsGiven()).dense()
    described = {"kind": "Table", "weights": {"tensor": "a"}}
    for bad in (torch.zeros(2, 3, 5, 5, dtype=torch.int64), torch.zeros(5, 5)):
        with pytest.raises(ValueError, match=r"are floating numbers \(batch, heads, queries, keys\); got torch"):
            restore(described, {"a": bad})
    given = recording_of({"": [torch.rand(2, 3, 5, 7)]})
    given.save(tmp_path / "given.fov")
    (name,) = given
    assert torch.equal(fv.load(tmp_path / "given.fov")[name].dense(), given[name].dense())
