"""What a survey says of every head, against plain loops over the dense weights of models of every kind."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import head_oracle as oracle
from foveate.heads import redundancy, sums
from foveate.heads.links import KEPT, Links
from foveate.heads.measures import ALL
from foveate.heads.profile import OFFSETS, bucket

pandas = pytest.importorskip("pandas")
pytest.importorskip("transformers")
from hf_models import FAMILIES  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPECIAL = [3, 4, 5]


def corpus(two_sided: bool = False, count: int = 11, longest: int = 19, seed: int = 0) -> list[Any]:
    """Texts of few tokens, so that many come twice, some of them special."""
    draw = torch.Generator().manual_seed(seed)

    def text() -> list[int]:
        size = int(torch.randint(1, longest, (1,), generator=draw))
        return torch.randint(3, 14, (size,), generator=draw).tolist()

    return [(text(), text()) if two_sided else text() for _ in range(count)]


def dense(model: Any, texts: list[Any], kind: str, name: str, step: int = 0) -> list[list[oracle.Text]]:
    """Each head's texts, from one recorded pass a text."""
    heads: list[list[oracle.Text]] = []
    for text in texts:
        source, target = text if isinstance(text, tuple) else (text, None)
        inputs = {"input_ids": torch.tensor([source])}
        if target is not None:
            target = [model.config.decoder_start_token_id, *target][:-1]
            inputs["decoder_input_ids"] = torch.tensor([target])
        with torch.no_grad(), fv.watch(model) as seen:
            model(**inputs)
        m = seen[name]
        m = m[step] if isinstance(m, fv.recording.CallSequence) else m  # type: ignore[attr-defined]
        g = m.problem.geometry
        allowed = m.problem.allowed(*g.everything)
        visible = torch.ones(g.shape, dtype=torch.bool) if allowed is None else allowed.expand(g.shape)
        own = None if kind == "cross" else source if target is None or kind == "encoder" else target
        special = [i in SPECIAL for i in (source if kind != "decoder" or target is None else target)]
        heads = heads or [[] for _ in range(g.heads)]
        for h, of_head in enumerate(heads):
            w = m.dense()[0, h].double()
            rows = list(range(g.queries))
            of_head.append(oracle.Text(w, visible[0, h], rows, own, special, kind == "decoder").measured())
    return heads


def check(model: Any, texts: list[Any], **options: Any) -> Any:
    """Every measure of every head against its definition; the table."""
    table = fv.heads.survey(model, texts, special=SPECIAL, **options)
    everything: dict[str, list[list[oracle.Text]]] = {}
    for (name, kind, step), rows in table.groupby(["module", "kind", "call"], sort=False):
        heads = dense(model, texts, kind, name, step)
        everything.setdefault(kind, []).extend(heads)
        for of_head, (_, row) in zip(heads, rows.iterrows(), strict=True):
            for measure, (mean, error) in oracle.means(of_head).items():
                assert row[measure] == pytest.approx(mean, rel=1e-4, abs=2e-6, nan_ok=True), (name, measure)
                assert row[f"{measure}_se"] == pytest.approx(error, rel=2e-3, abs=2e-6, nan_ok=True), (name, measure)
                assert row[f"{measure}_n"] == sum(t.counts[measure] for t in of_head)
            wanted = math.nan if kind == "cross" else oracle.positional(of_head)
            assert row["positional"] == pytest.approx(wanted, rel=1e-4, abs=1e-5, nan_ok=True)
    for kind, heads in everything.items():
        places = table.index[table["kind"] == kind].tolist()
        for (a, first), (b, second) in itertools.product(zip(places, heads, strict=True), repeat=2):
            value = table["agreement"][a][b]
            assert value == pytest.approx(oracle.agreement(first, second), abs=1e-5)
        for a in places:
            others = [table["agreement"][a][b] for b in places if b != a]
            assert table["redundancy"][a] == pytest.approx(max(others)), kind
            assert table["agreement"][a][int(table["nearest"][a])] == max(others)
    return table


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_every_measure_is_its_definition(name: str) -> None:
    """Padded batches of an encoder, causal attention, key heads that are shared."""
    check(FAMILIES[name].build("sdpa"), corpus())


@pytest.mark.parametrize("name", ["gemma2", "gpt-oss"])
def test_windows_soft_caps_and_sinks(name: str) -> None:
    """Layers that see different keys; rows that do not sum to 1."""
    check(FAMILIES[name].build("eager"), corpus(count=9))


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_has_three_classes_of_heads(name: str) -> None:
    table = check(FAMILIES[name].build("sdpa"), corpus(two_sided=True, count=9))
    cross = table[table["kind"] == "cross"]
    assert (
        cross[["distance", "local", "previous", "next", "duplicate", "induction", "positional"]].isna().all(axis=None)
    )
    assert cross[["entropy", "first", "sink", "separator", "gini", "redundancy"]].notna().all(axis=None)
    assert set(table["kind"]) == {"encoder", "decoder", "cross"}
    assert all(x is None for x in table["agreement"].iloc[0][12:])  # heads of other classes


def test_pieces_of_texts_and_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few weights at a time, or all at once."""
    model = FAMILIES["bert"].build("sdpa")
    whole = fv.heads.survey(model, corpus())
    for entries in (6 * 19 * 40, 6 * 19 * 3, 1):
        monkeypatch.setattr(sums, "ENTRIES", entries)
        monkeypatch.setattr(sums, "CACHED", 0)
        parts = fv.heads.survey(model, corpus())
        numbers = [name for name in whole if name.removesuffix("_se") in ALL]
        torch.testing.assert_close(
            torch.tensor(parts[numbers].to_numpy()),
            torch.tensor(whole[numbers].to_numpy()),
            rtol=1e-4,
            atol=1e-6,
            equal_nan=True,
        )
        for mine, theirs in zip(parts["examples"], whole["examples"], strict=True):
            assert [e["weight"] for e in mine] == pytest.approx([e["weight"] for e in theirs])


def test_of_a_long_text_some_rows_are_measured() -> None:
    """They lie everywhere in it, and what they say is exact."""
    model, texts = FAMILIES["gpt2"].build("sdpa"), corpus(count=5, longest=40)
    table = fv.heads.survey(model, texts, rows=7, special=SPECIAL)
    name = table["module"][0]
    for h, of_head in enumerate(dense(model, texts, "decoder", name)):
        for text in of_head:
            n = len(text.rows)
            step = -(-n // 7)
            text.rows = list(range((step // 2) % step, n, step)) if n > 7 else text.rows
            text.sums.clear(), text.counts.clear()
            text.measured()
        for measure, (mean, _) in oracle.means(of_head).items():
            assert table[measure][h] == pytest.approx(mean, rel=1e-4, abs=2e-6, nan_ok=True), measure
        assert table["entropy_n"][h] == sum(len(text.rows) for text in of_head)


def test_fewer_rows_are_compared_where_all_would_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redundancy, "ENTRIES", 12 * 30 * 4)
    monkeypatch.setattr(redundancy, "PRODUCTS", 12 * 12)
    table = fv.heads.survey(FAMILIES["gpt2"].build("sdpa"), corpus(count=3, longest=30))
    found = torch.tensor(table["agreement"].tolist())
    assert torch.allclose(found.diagonal(), torch.ones(12, dtype=found.dtype), atol=1e-5)
    assert torch.allclose(found, found.T)


class Plain(nn.Module):
    """A module of one's own, called with ids alone; `turn` sets its weights."""

    def __init__(self, heads: int = 2, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(14, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = nn.Linear(width, 14, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        hide = torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool()
        return self.out(self.attention(x, x, x, attn_mask=hide, is_causal=True, need_weights=False)[0])


def test_a_module_without_a_mask_is_never_padded() -> None:
    model, seen = Plain().eval(), []
    handle = model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    table = fv.heads.survey(model, corpus(count=20))
    handle.remove()
    assert set(table["kind"]) == {"decoder"}
    assert sum(b for b, _ in seen[1:]) == 20
    assert sorted(n for b, n in seen[1:] for _ in range(b)) == sorted(len(text) for text in corpus(count=20))


def test_copy_is_the_share_of_positive_eigenvalues() -> None:
    """Of the whole vocabulary x vocabulary matrix, and 1 for a head that copies, -1 for one that does the contrary."""
    model = Plain().double().eval()
    q, k, v = model.attention.in_proj_weight.detach().chunk(3)
    embed, unembed = model.embed.weight.detach(), model.out.weight.detach()
    found = fv.heads.survey(model, corpus(count=3))["copy"].tolist()
    for h in range(2):
        ov = model.attention.out_proj.weight.detach()[:, 4 * h : 4 * h + 4] @ v[4 * h : 4 * h + 4]
        values = torch.linalg.eigvals((unembed - unembed.mean(0)) @ ov @ embed.T)
        assert found[h] == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=1e-5)
    model.out.weight.data = embed - embed.mean(0)
    model.embed.weight.data = model.out.weight.data
    identity = torch.eye(8, dtype=torch.float64)
    model.attention.in_proj_weight.data = torch.cat([q, k, identity])
    model.attention.out_proj.weight.data = identity * torch.tensor([1.0] * 4 + [-1.0] * 4)
    assert fv.heads.survey(model, corpus(count=3))["copy"].tolist() == pytest.approx([1, -1])


@pytest.mark.parametrize(("name", "known"), [("gpt2", True), ("llama", True), ("bert", False), ("bart", True)])
def test_copy_where_there_is_an_unembedding(name: str, known: bool) -> None:
    model = FAMILIES[name].build("sdpa")
    table = fv.heads.survey(model, corpus(two_sided=name == "bart", count=3))
    own = table[table["kind"] == "decoder"] if known else table
    assert (own["copy"].notna() == known).all()
    assert table[table["kind"] == "cross"]["copy"].isna().all()
    if name == "llama":  # six heads share the values of two
        of = model.model.layers[0].self_attn
        e, u = (t.weight.detach().double() for t in (model.get_input_embeddings(), model.get_output_embeddings()))
        ov = of.o_proj.weight.detach().double()[:, 16:20] @ of.v_proj.weight.detach().double()[4:8]
        values = torch.linalg.eigvals((u - u.mean(0)) @ ov @ e.T)
        assert table["copy"][4] == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=1e-4)


def test_heads_that_go_by_position_and_heads_that_do_not() -> None:
    """`positional` is 1 for a head that always reads the token before, and little for one that looks for a token."""

    class Made(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            n = ids.shape[1]
            places = torch.eye(n)[None, None].expand(len(ids), 1, n, n)
            before = torch.roll(places, -1, 2)
            before = before.clone()
            before[:, :, 0, n - 1], before[:, :, n - 1, 0] = 1, 0
            before = torch.eye(n).roll(1, 0)[None, None].expand(len(ids), 1, n, n)
            wanted = (ids == 7)[:, None, None, :].expand(len(ids), 1, n, n).float()
            q = torch.cat([before, torch.ones(len(ids), 1, n, n) / n], 1) * 50
            k = torch.cat([places, wanted.transpose(-1, -2).expand(len(ids), 1, n, n)], 1)
            return torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=1.0)

    texts = [torch.randint(3, 14, (12,)).tolist() for _ in range(200)]
    table = fv.heads.survey(Made(), texts)
    assert table["positional"][0] > 0.95
    assert table["positional"][1] < 0.1
    assert table["previous"][0] == pytest.approx(1, abs=1e-4)
    assert 0 < table["positional_se"][1] < 0.05


def test_offsets_far_away_share_a_bucket() -> None:
    offsets = torch.tensor([*range(-70, 71), 5792, 5793, 100_000, -100_000])
    found = bucket(offsets).tolist()
    assert found == [oracle.bucket(int(d)) + OFFSETS // 2 for d in offsets]
    assert (min(found), max(found)) == (0, OFFSETS - 1)


def test_a_head_that_reads_evenly_has_no_positional_share() -> None:
    model = FAMILIES["bert"].build("sdpa")
    for layer in model.encoder.layer:
        layer.attention.self.query.weight.data.zero_()
        layer.attention.self.query.bias.data.zero_()
    table = fv.heads.survey(model, corpus())
    assert table["positional"].isna().all()
    assert table["spread"].tolist() == pytest.approx([1.0] * 12, abs=1e-5)
    assert table["redundancy"].tolist() == pytest.approx([1.0] * 12, abs=1e-5)
    assert table["gini"].tolist() == pytest.approx([0.0] * 12, abs=1e-5)


def test_examples_are_the_strongest_links_one_a_text() -> None:
    model, texts = FAMILIES["bert"].build("sdpa"), corpus()
    table = fv.heads.survey(model, texts, special=SPECIAL)
    for h, of_head in enumerate(dense(model, texts, "encoder", table["module"][0])):
        links = []
        for number, text in enumerate(of_head):
            of_text = [
                (float(text.weights[i, j]), number, i, j)
                for i, j in itertools.product(text.rows, repeat=2)
                if not text.special[i] and not text.special[j]
            ]
            links += [max(of_text)] if of_text else []
        links.sort(key=lambda one: (-round(one[0], 5), one[1]))
        found = [(e["weight"], e["text"], e["row"], e["key"]) for e in table["examples"][h]]
        assert [one[1:] for one in found] == [one[1:] for one in links[:KEPT]]
        assert [one[0] for one in found] == pytest.approx([one[0] for one in links[:KEPT]], abs=1e-5)
    example = table["examples"][0][0]
    text = texts[example["text"]]
    assert example["query_token"] == str(text[example["row"]]) == example["around_query"][example["at_query"]]
    assert example["key_token"] == str(text[example["key"]]) == example["around_key"][example["at_key"]]


def test_links_merge_in_any_grouping() -> None:
    """Equal weights: the earlier text comes first, wherever it was added."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randint(1, 5, (40, 3), generator=draw).double() / 4
    numbers, place = torch.randperm(40, generator=draw), torch.randint(0, 9, (40, 3, 2), generator=draw)
    whole, left, right = Links(3), Links(3), Links(3)
    whole.update(slice(0, 3), numbers, weight, place)
    for one, some in ((left, slice(0, 13)), (right, slice(13, 40))):
        one.update(slice(0, 3), numbers[some], weight[some], place[some])
    right.merge(left)
    assert torch.equal(whole.weight, right.weight)
    assert torch.equal(whole.place, right.place)
    by_hand = sorted(range(40), key=lambda b: (-float(weight[b, 1]), int(numbers[b])))[:KEPT]
    assert whole.place[1, :, 0].tolist() == numbers[by_hand].tolist()


def test_nothing_of_a_model_changes() -> None:
    model = FAMILIES["bert"].build("sdpa").train()
    ids = torch.randint(3, 14, (1, 9))
    model.eval()
    before = model(input_ids=ids).last_hidden_state
    model.encoder.train()
    modes = [module.training for module in model.modules()]
    fv.heads.survey(model, corpus(count=3))
    assert [module.training for module in model.modules()] == modes
    model.eval()
    assert torch.equal(model(input_ids=ids).last_hidden_state, before)


def test_chosen_measures_are_the_columns() -> None:
    table = fv.heads.survey(FAMILIES["bert"].build("sdpa"), corpus(), measures=["induction", "entropy"], examples=False)
    assert list(table)[5:] == ["entropy", "entropy_se", "induction", "induction_se", "entropy_n", "induction_n"]
    assert set(table.attrs["measures"]) == {"entropy", "induction"}
    whole = fv.heads.survey(FAMILIES["bert"].build("sdpa"), corpus())
    pandas.testing.assert_series_equal(table["induction"], whole["induction"])
    assert {name for name in ALL if name in whole} == set(ALL)
    assert whole.attrs["texts"] == 11


def test_layers_that_are_chosen() -> None:
    table = fv.heads.survey(FAMILIES["gpt2"].build("sdpa"), corpus(), layers=[1])
    assert set(table["layer"]) == {1}
    assert len(table["agreement"][0]) == 6


def test_shared_layers_are_told_apart_by_their_calls() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AlbertConfig(
        hidden_size=24,
        num_attention_heads=6,
        num_hidden_layers=3,
        intermediate_size=20,
        vocab_size=97,
        embedding_size=8,
    )
    torch.manual_seed(1)
    model = transformers.AlbertModel(config).eval()
    for name, p in model.encoder.named_parameters():
        p.data.mul_(12.0 if "query" in name or "key" in name else 1.0)  # as made, attention is nearly even
    table = check(model, corpus(count=4))
    assert table["call"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert table["module"].nunique() == 1


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([3.5], {}, r"a text is a string, a list of token ids, or a pair of them; text 0 is float"),
        (["hello"], {}, r"texts that are strings need a tokenizer"),
        ([[5], []], {}, r"text 1 has no token"),
        ([], {}, r"the corpus has no text"),
        ([[5]], {"measures": ["entropie"]}, r"measures are entropy, .*; got 'entropie'"),
        ([[5]], {"measures": []}, r"got none"),
        ([[5]], {"engine": "spark"}, r"unknown engine 'spark'; expected 'local' or 'ray'"),
        ([[5]], {"rows": 0}, r"rows and processes must be at least 1; got 0 and 1"),
        ([[5]], {"processes": 2}, r"give a function that makes a `Subject`"),
    ],
)
def test_mistakes_are_said(texts: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fv.heads.survey(FAMILIES["bert"].build("sdpa"), texts, **options)


def test_an_encoder_decoder_needs_targets() -> None:
    with pytest.raises(
        ValueError, match=r"an encoder-decoder reads two texts, \(source, target\), or --target; text 0 has no target"
    ):
        fv.heads.survey(FAMILIES["t5"].build("sdpa"), [[5, 6]])


def test_rows_that_are_nan_are_left_out() -> None:
    model = FAMILIES["bert"].build("sdpa")
    model.embeddings.word_embeddings.weight.data[9] = torch.nan
    table = fv.heads.survey(model, [[5, 9, 6, 7], [5, 6, 7, 8]], layers=[0])
    clean = fv.heads.survey(model, [[5, 6, 7, 8]], layers=[0])
    pandas.testing.assert_frame_equal(table[["entropy", "previous"]], clean[["entropy", "previous"]])
    assert table["entropy_n"].tolist() == [4] * 6
