"""Reports on transformers' models: classes, next words, masks; and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import foveate as fv
from explained import NOTHING, TEXT, Decides
from foveate.apps import cli
from foveate.faithful import LABELS, FaithfulError, report
from foveate.faithful.attributions import value_norms
from foveate.faithful.reading import read
from foveate.faithful.subject import log_odds, own

transformers = pytest.importorskip("transformers")
from tiny import save_tokenizer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCE = "the cat sat on the mat because it was tired ."
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}
SMALL |= {"max_position_embeddings": 32, "pad_token_id": 0}
GPT2 = {"n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3, "bos_token_id": 4, "eos_token_id": 5}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tokenizers")
    found = {}
    for name, wrap in (("wrapped", True), ("plain", False)):
        save_tokenizer(folder / name, wrap=wrap)
        found[name] = transformers.AutoTokenizer.from_pretrained(folder / name)
    save_tokenizer(folder / "masked")
    found["masked"] = transformers.AutoTokenizer.from_pretrained(folder / "masked")
    found["masked"].add_special_tokens({"mask_token": "[MASK]"})
    return found


def build(kind: str, config: str, size: int, how: str = "sdpa", **options: Any) -> Any:
    """A model with projections so large that attention is not flat."""
    torch.manual_seed(2)
    made = getattr(transformers, config)(vocab_size=size, **options)
    model = getattr(transformers, kind)._from_config(made, attn_implementation=how).eval()
    for name, p in model.named_parameters():
        if p.ndim == 2 and "embed" not in name and "wte" not in name and "wpe" not in name:
            p.data.mul_(0.25 / float(p.data.std()))
    return model


def classifier(tokenizer: Any, **options: Any) -> Any:
    labels = {"id2label": {0: "sad", 1: "glad", 2: "odd"}, "label2id": {"sad": 0, "glad": 1, "odd": 2}}
    given = {**SMALL, **labels, **options}
    return build("BertForSequenceClassification", "BertConfig", len(tokenizer), **given)


def decoder(tokenizer: Any, kind: str = "GPT2LMHeadModel", **options: Any) -> Any:
    return build(kind, "GPT2Config", len(tokenizer), **{**GPT2, **options})


def test_a_class_of_a_text(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["masked"]
    model = classifier(tokenizer)
    made = report(model, SENTENCE, "Glad", tokenizer=tokenizer, samples=4)
    inputs = tokenizer(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        assert made.probability == pytest.approx(float(model(**inputs).logits.softmax(-1)[0, 1]), rel=1e-5)
    assert (made.target, made.how, made.replacement) == ("glad", "replace", "[MASK]")
    assert made.tokens[0] == "[CLS]"
    assert made.tokens[-1] == "[SEP]"
    assert set(made.scores) == set(LABELS)
    assert not made.notes
    for score in made.scores.values():
        assert [value is None for value in score.values] == [True, *[False] * 11, True]
    eager = classifier(tokenizer, how="eager")
    with torch.no_grad():
        weights = [w[0, :, 0].mean(0) for w in eager(**inputs, output_attentions=True).attentions]
    for name, want in (("attention", weights[-1]), ("attention_mean", torch.stack(weights).mean(0))):
        assert made.scores[name].values[1:-1] == pytest.approx(want[1:-1].tolist(), abs=1e-5)


def test_a_class_by_its_number_written_out(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wrapped"]
    found = report(classifier(tokenizer), SENTENCE, "1", tokenizer=tokenizer, samples=2)
    assert found.target == "glad"
    labels = {"id2label": {0: "2", 1: "1", 2: "0"}, "label2id": {"2": 0, "1": 1, "0": 2}}
    called = report(classifier(tokenizer, **labels), SENTENCE, "2", tokenizer=tokenizer, samples=2)
    assert called.probability == pytest.approx(_probabilities(classifier(tokenizer), tokenizer)[0], abs=1e-6)
    with pytest.raises(FaithfulError, match="one of the 3 classes, 0 to 2; got 3"):
        report(classifier(tokenizer), SENTENCE, "3", tokenizer=tokenizer, samples=2)


def _probabilities(model: Any, tokenizer: Any) -> list[float]:
    with torch.no_grad():
        found: list[float] = model(**tokenizer(SENTENCE, return_tensors="pt")).logits[0].softmax(-1).tolist()
    return found


def test_positions_that_begin_behind_padding_are_fewer(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wrapped"]
    options = SMALL | {"max_position_embeddings": 12, "pad_token_id": 0, "num_labels": 2}
    model = build("RobertaForSequenceClassification", "RobertaConfig", len(tokenizer), **options)
    with pytest.raises(FaithfulError, match="the text has 11 tokens; the model takes 10"):
        report(model, "the cat sat on the mat because it was", tokenizer=tokenizer, samples=2)


def test_hiding_is_what_a_2d_attention_mask_does_to_the_class(tokenizers: dict[str, Any]) -> None:
    """A hidden token still reads itself, but nobody reads what it became."""
    tokenizer = tokenizers["wrapped"]
    model = classifier(tokenizer)
    made = report(model, SENTENCE, 2, tokenizer=tokenizer, how="hide", samples=2, links=False)
    inputs = tokenizer(SENTENCE, return_tensors="pt")

    def odds(gone: list[int]) -> float:
        mask = inputs["attention_mask"].clone()
        mask[0, gone] = 0
        with torch.no_grad():
            logits = model(**{**inputs, "attention_mask": mask}).logits[0].double()
        return float(logits[2] - logits[:2].logsumexp(0))

    for place in (1, 4, 11):
        found = made.scores["leave_one_out"].values[place]
        assert found == pytest.approx(odds([]) - odds([place]), abs=1e-4)
    first = made.scores["rollout"]
    assert first.curve.without[-1] == pytest.approx(odds(list(first.order[: first.curve.counts[-1]])), abs=1e-4)


def test_hiding_is_blocking_every_link_to_a_token(tokenizers: dict[str, Any]) -> None:
    """`fv.block` takes the same links away one by one, in a model that masks what comes later."""
    tokenizer = tokenizers["plain"]
    model = decoder(tokenizer)
    made = report(model, SENTENCE, "dog", tokenizer=tokenizer, how="hide", samples=2)
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"]
    target, count = tokenizer.convert_tokens_to_ids("dog"), ids.shape[1]

    def odds(links: list[tuple[int, int]]) -> float:
        with torch.no_grad(), fv.block(model, links):
            logits = model(ids).logits[0, -1].double()
        return float(log_odds(logits[None], target)[0])

    for place in (0, 3):
        links = [(query, place) for query in range(place + 1, count)]
        assert made.scores["leave_one_out"].values[place] == pytest.approx(odds([]) - odds(links), abs=1e-4)
    with torch.no_grad():
        weights = [w[0].mean(0) for w in decoder(tokenizer, how="eager")(ids, output_attentions=True).attentions]
    read = torch.stack(weights).mean(0).fill_diagonal_(0)
    assert made.links is not None
    for curve, sign in ((made.links.most, 1), (made.links.least, -1)):
        order = sorted(((i, j) for i in range(count) for j in range(i)), key=lambda link: -sign * float(read[link]))
        assert curve.without[0] == pytest.approx(odds(order[: curve.counts[0]]), abs=1e-4)
        assert curve.without[-1] == pytest.approx(odds(order[: curve.counts[-1]]), abs=1e-4)


@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_the_next_word(tokenizers: dict[str, Any], how: str) -> None:
    tokenizer = tokenizers["plain"]
    model = decoder(tokenizer, how=how)
    made = report(model, SENTENCE, "dog", tokenizer=tokenizer, how="hide", samples=2)
    assert made.target == "dog"
    assert made.scores["attention"].values[-1] is None  # the last token predicts
    assert made.links is not None
    n = len(made.tokens)
    assert made.links.count == n * (n - 1) // 2
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        p = float(model(ids).logits[0, -1].softmax(-1)[tokenizer.convert_tokens_to_ids("dog")])
    assert made.probability == pytest.approx(p, rel=1e-4)
    assert report(model, SENTENCE, tokenizer=tokenizer, samples=2, links=False).how == "replace"


def test_the_word_in_the_place_of_a_mask(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["masked"]
    model = build("BertForMaskedLM", "BertConfig", len(tokenizer), **SMALL)
    text = "the cat [MASK] on the mat because it was tired ."
    made = report(model, text, "sat", tokenizer=tokenizer, samples=2, links=False)
    assert made.target == "sat"
    place = made.tokens.index("[MASK]")
    assert all(score.values[place] is None for score in made.scores.values())
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0, place]
    assert made.probability == pytest.approx(
        float(logits.softmax(-1)[tokenizer.convert_tokens_to_ids("sat")]), rel=1e-4
    )
    for wrong, told in (
        ("the cat", r"predicts the word in the place of \[MASK\]; the text has none"),
        ("the [MASK] [MASK]", "the text has 2 masks; a report is about one"),
    ):
        with pytest.raises(FaithfulError, match=told):
            report(model, wrong, tokenizer=tokenizer)


def test_classes_from_a_decoder_without_a_padding_token(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["plain"]
    model = decoder(tokenizer, "GPT2ForSequenceClassification", num_labels=2)
    model.config.pad_token_id = None
    made = report(model, "the cat sat on the mat", tokenizer=tokenizer, samples=2, links=False)
    assert made.target in ("LABEL_0", "LABEL_1")


FAMILIES = {
    "bert": ("BertForMaskedLM", "BertConfig", SMALL, "bert.encoder.layer.1.attention.output.dense"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, "transformer.h.1.attn.c_proj"),
    "llama": ("LlamaForCausalLM", "LlamaConfig", SMALL, "model.layers.1.self_attn.o_proj"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_value_norms_are_of_the_vectors_that_families_add(name: str) -> None:
    """What all tokens add together is what the module's output projection gives, but for its bias."""
    kind, config, options, path = FAMILIES[name]
    model = build(kind, config, 31, **options)
    output = model.get_submodule(path)
    given: list[torch.Tensor] = []
    output.register_forward_hook(lambda module, args, result: given.append(result.detach()))
    seen = read(own(model, [5, 9, 22, 7, 14], 1, lambda ids: model(ids).logits[:, 2], None, None, None, None))
    layer = seen.layers[1]
    assert layer.projection_HVE is not None
    added_NE = torch.einsum(
        "hn,hnv,hve->ne", layer.weights[0, :, 2].double(), layer.values(), layer.projection_HVE.double()
    )
    bias = 0 if output.bias is None else output.bias
    torch.testing.assert_close(added_NE.sum(0).float(), given[0][0, 2] - bias, atol=1e-5, rtol=1e-4)
    rows = torch.zeros(5, dtype=torch.float64)
    rows[2] = 1
    torch.testing.assert_close(value_norms(layer, rows), added_NE.norm(dim=-1))


def test_what_does_not_fit(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wrapped"]
    model, words = classifier(tokenizer), decoder(tokenizers["plain"])
    bare = build("BertModel", "BertConfig", len(tokenizer), **SMALL)
    tags = build("BertForTokenClassification", "BertConfig", len(tokenizer), **SMALL)
    many = classifier(tokenizer, problem_type="multi_label_classification")
    one = classifier(tokenizer, num_labels=1, id2label={0: "x"}, label2id={"x": 0})
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    two = build("T5ForConditionalGeneration", "T5Config", len(tokenizer), **t5)
    training = classifier(tokenizer).train()
    for made, options, told in (
        (lambda **o: report(bare, SENTENCE, **o), {}, "BertModel has no head that predicts"),
        (lambda **o: report(tags, SENTENCE, **o), {}, "BertForTokenClassification gives logits"),
        (lambda **o: report(many, SENTENCE, **o), {}, "gives several labels at once"),
        (lambda **o: report(one, SENTENCE, **o), {}, "at least two classes"),
        (lambda **o: report(two, SENTENCE, **o), {}, "an encoder-decoder reads two texts"),
        (lambda **o: report(training, SENTENCE, **o), {}, "training mode"),
        (lambda **o: report(model, "  ", **o), {}, "the text is empty"),
        (lambda **o: report(model, [1, 2], **o), {}, "text must be a text; got list"),
        (lambda **o: report(model, "cat", **o), {}, "at least two tokens that can be removed; the text has 1"),
        (lambda **o: report(model, "cat " * 40, **o), {}, "the text has 42 tokens; the model takes 32"),
        (lambda **o: report(model, SENTENCE, "happy", **o), {}, "no class is called 'happy'; there is 'sad', 'glad'"),
        (lambda **o: report(model, SENTENCE, 3, **o), {}, "one of the 3 classes, 0 to 2; got 3"),
        (lambda **o: report(model, SENTENCE, 1.5, **o), {}, "number or name of a class; got 1.5"),
        (lambda **o: report(model, SENTENCE, **o), {"tokenizer": None}, "needs its tokenizer="),
        (lambda **o: report(model, SENTENCE, **o), {"methods": ["flows"]}, "unknown method 'flows'"),
        (lambda **o: report(model, SENTENCE, **o), {"how": "drop"}, "unknown how 'drop'"),
        (lambda **o: report(model, SENTENCE, **o), {"samples": 1}, "samples must be at least 2"),
        (lambda **o: report(model, SENTENCE, **o), {"replacement": 10_000}, "replacement must be a token"),
        (lambda **o: report(model, SENTENCE, **o), {"labels": ["a"]}, "its tokenizer's and configuration's"),
        (lambda **o: report(words, SENTENCE, "two cats", **o), {}, "is 2 tokens, two .UNK.; a report is about one"),
        (lambda **o: report(words, SENTENCE, "zebra", **o), {}, "'zebra' is not in the vocabulary"),
        (lambda **o: report(nn.Linear(2, 2).eval(), SENTENCE, **o), {}, "predict= must say how to ask it"),
        (lambda **o: report("bert", SENTENCE, **o), {}, "takes an nn.Module; got str"),  # type: ignore[arg-type]
    ):
        with pytest.raises(FaithfulError, match=told):
            made(**{"tokenizer": tokenizer, **options})


def test_what_does_not_fit_of_ones_own() -> None:
    model = Decides().eval()
    flat = nn.Sequential(nn.Embedding(40, 4), nn.Flatten(), nn.Linear(4 * len(TEXT), 2)).eval()
    for text, options, told in (
        (TEXT, {"predict": lambda ids: model(ids)[:, :1]}, "at least two classes"),
        (TEXT, {"predict": lambda ids: model(ids)[0]}, r"logits \(batch, classes\) = \(1, classes\)"),
        (TEXT, {"predict": lambda ids: "no"}, "predict must give logits"),
        (TEXT, {"predict": lambda ids: model(ids).detach()}, "predict must not detach"),
        (TEXT, {"target": "yes"}, "no class is called 'yes'; there is none with a name"),
        (TEXT, {"labels": ["a"]}, "labels must name each of the 2 classes; got 1"),
        (TEXT, {"tokens": ["a"]}, "tokens must name each of the 14 tokens; got 1"),
        (TEXT, {"replacement": [1, 2]}, r"must have shape \(\); got \(2,\)"),
        (TEXT, {"how": "replace", "replacement": None}, "needs a replacement="),
        ([], {}, "the text is empty"),
        ([[1, 2], [3, 4]], {}, r"got a tensor \(2, 2\)"),
        ("a b", {}, "a text needs a tokenizer="),
        (object(), {}, "got object"),
        ([3], {}, "at least two tokens"),
    ):
        with pytest.raises(FaithfulError, match=told):
            report(model, text, **{"predict": model, "replacement": NOTHING, **options})  # type: ignore[arg-type]
    with pytest.raises(FaithfulError, match="no attention to the 14 tokens of the text was seen"):
        report(flat, TEXT, predict=flat)


def test_nothing_is_said_of_what_is_no_number(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wrapped"]
    model = classifier(tokenizer)
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.query.bias[3] = torch.nan  # a fused kernel hides it
    with pytest.raises(FaithfulError, match="self has queries or keys that are not finite"):
        report(model, SENTENCE, tokenizer=tokenizer)
    model = classifier(tokenizer)
    with torch.no_grad():
        model.classifier.bias[1] = torch.nan
    with pytest.raises(FaithfulError, match="what the model gives on this text is NaN"):
        report(model, SENTENCE, tokenizer=tokenizer)


def test_the_model_is_as_it_was(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wrapped"]
    model = classifier(tokenizer)
    inputs = tokenizer(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        before = model(**inputs).logits
    report(model, SENTENCE, tokenizer=tokenizer, how="hide", samples=2)
    with pytest.raises(FaithfulError):
        report(model, SENTENCE, "happy", tokenizer=tokenizer)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)
    assert not [name for name, module in model.named_modules() if module._forward_hooks or "forward" in vars(module)]
    assert all(p.grad is None for p in model.parameters())


def test_it_is_bound_lazily(tmp_path: Path) -> None:
    assert fv.faithful.report is report


def test_inside_an_intervention_it_is_refused() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    vectors = torch.randn(5, 8)
    with pytest.raises(FaithfulError, match="whose attention is being changed"), fv.knockout(model, ("self_attn", 0)):
        report(model, vectors, predict=lambda x: model(x)[:, 0])


def test_the_command(tmp_path: Path, tokenizers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tokenizers["wrapped"]
    classifier(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    options = ["--target", "glad", "--how", "hide", "--samples", "2", "--seed", "3"]
    assert cli.main(["faithful", str(tmp_path / "model"), SENTENCE, *options]) == 0
    made = report(classifier(tokenizer), SENTENCE, "glad", tokenizer=tokenizer, how="hide", samples=2, seed=3)
    assert capsys.readouterr().out == f"{made}\n"
    assert cli.main(["faithful", str(tmp_path / "model"), SENTENCE, "--target", "happy"]) == 1
    assert capsys.readouterr().err == "foveate: no class is called 'happy'; there is 'sad', 'glad', 'odd'\n"
    build("BertModel", "BertConfig", len(tokenizer), **SMALL).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    assert cli.main(["faithful", str(tmp_path / "bare"), SENTENCE]) == 1
    assert "BertModel has no head that predicts" in capsys.readouterr().err
