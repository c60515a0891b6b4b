"""`--generate`: what is written and recorded, what can be drawn again, refusals, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.apps import cli, recorder
from foveate.apps.models import HubModel
from foveate.apps.viewing import source_of
from foveate.apps.writing import Writing, write
from hf_models import transformers
from tiny import save_all

TEXT = "the cat sat on the mat"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], models: dict[str, Path], tmp_path: Path) -> Any:
    def go(model: str, *more: object, output: str = "run.fov") -> tuple[int, str, str]:
        code = cli.main(["record", str(models[model]), "--text", TEXT, "-o", str(tmp_path / output), *map(str, more)])
        return code, *capsys.readouterr()

    return go


def test_a_decoder_writes_and_its_text_is_recorded(run: Any, models: dict[str, Path], tmp_path: Path) -> None:
    code, out, err = run("gpt2", "--generate", 8)
    assert code == 0
    assert "14 tokens, 8 of them written, 2 attention modules" in out
    seen = fv.load(tmp_path / "run.fov")
    held = sum(seen.read(name, role)[:].nbytes for name in seen for role in ("query", "key", "value"))
    assert err.endswith(f", {recorder.size(held)}\n")  # said before it began
    assert seen.prompt_lengths == [6]
    model = transformers.AutoModelForCausalLM.from_pretrained(models["gpt2"], attn_implementation="eager").eval()
    ids = torch.tensor([seen.input_ids[0][:6]])
    made = model.generate(
        ids, max_new_tokens=8, do_sample=False, pad_token_id=0, output_attentions=True, return_dict_in_generate=True
    )
    assert made.sequences[0].tolist() == seen.input_ids[0]
    for n, step in enumerate(made.attentions):  # the rows are those that it had while it wrote
        for name, want in zip(seen, step, strict=True):
            torch.testing.assert_close(seen[name][:, :, 5 + n, : 6 + n], want[:, :, -1], atol=5e-6, rtol=0)
    decoding = source_of(seen).document().decoding
    assert decoding is not None
    assert [step.token for step in decoding.steps[0]] == list(range(5, 14))
    assert all(step.alternatives == () for step in decoding.steps[0])  # they are not in the file


def test_an_encoder_decoder_writes_so_many(run: Any, tmp_path: Path) -> None:
    assert run("t5", "--generate", 5)[0] == 0
    seen = fv.load(tmp_path / "run.fov")
    assert (len(seen.target_ids[0]), seen.prompt_lengths) == (6, [1])
    assert source_of(seen).document().decoding is not None


def test_the_same_seed_draws_the_same(run: Any, tmp_path: Path) -> None:
    texts = {}
    before = torch.get_rng_state()
    for output, seed in (("a", 1), ("b", 1), ("c", 2), ("d", 0)):
        assert run("gpt2", "--generate", 20, "--temperature", 3, "--seed", seed, output=output)[0] == 0
        texts[output] = fv.load(tmp_path / output).tokens
    assert torch.equal(torch.get_rng_state(), before)
    assert texts["a"] == texts["b"]
    assert len({str(text) for text in texts.values()}) == 3


def test_what_was_cut_off_goes_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_cli_record import stop_after

    drawn = ("--generate", 6, "--top-p", 0.9, "--seed", 4)
    assert run("gpt2", *drawn, output="whole.fov")[0] == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        assert run("gpt2", *drawn)[0] == 130
    code, _, err = run("gpt2", "--generate", 6, "--top-p", 0.9, "--seed", 5, "--resume")
    assert code == 1
    assert "is of another text, model or choice of heads" in err
    assert run("gpt2", *drawn, "--resume")[0] == 0
    for name in ("index.jsonl", "manifest.json", "calls/00001.safetensors"):
        assert (tmp_path / "run.fov" / name).read_bytes() == (tmp_path / "whole.fov" / name).read_bytes()


@pytest.mark.parametrize(
    ("model", "more", "told"),
    [
        ("bert", ("--generate", 3), "bert is an encoder: it reads a text and writes none"),
        ("gpt2", ("--generate", 27), "27 tokens are to be written after the 6 of the text; gpt2 takes 32 in all"),
        ("gpt2", ("--seed", 3), "--seed is for --generate: say how many tokens"),
        ("gpt2", ("--top-p", 0.5), "--top-p is for --generate"),
        ("gpt2", ("--generate", 3, "--seed", 3), "--seed is for drawing: give a --temperature or --top-p, too"),
        ("t5", ("--generate", 3, "--target", "x"), "--target gives what --generate would write"),
    ],
)
def test_refusals(run: Any, tmp_path: Path, model: str, more: tuple[object, ...], told: str) -> None:
    code, out, err = run(model, *more)
    assert code in (1, 2)
    assert out == ""
    assert told in err
    assert not (tmp_path / "run.fov").exists()


def test_view_writes_only_with_a_model_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", "--text", TEXT, "--generate", "3", "--no-open"]) == 2
    assert "--generate is for Hugging Face models: --model PATH_OR_NAME" in capsys.readouterr().err


def test_what_else_could_have_come_out(models: dict[str, Path]) -> None:
    """The probabilities are the model's own, from one pass over what it wrote, whatever the temperature."""
    model = HubModel(str(models["gpt2"]), writing=Writing(6, temperature=5.0, seed=1))
    source = model.run(TEXT, None, lambda progress, message: None)
    network = transformers.AutoModelForCausalLM.from_pretrained(models["gpt2"]).eval()
    ids = model.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    found = write(network, {"input_ids": ids}, Writing(6, temperature=5.0, seed=1))
    with torch.no_grad():
        p_TV = network(torch.tensor([found.ids])).logits[0].softmax(-1)
    decoding = source.document().decoding
    assert decoding is not None
    for step in decoding.steps[0][: len(found.best)]:
        best, text = p_TV[step.token].topk(5), model.tokenizer.convert_ids_to_tokens(found.ids[step.token + 1])
        assert step.alternatives[step.chosen].text == text
        for one, want in zip(step.alternatives, best.values.tolist(), strict=False):
            assert abs(one.probability - want) < 1e-4
    assert decoding.steps[0][-1].alternatives == ()
