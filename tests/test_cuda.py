"""Training and reading on a CUDA device. Skipped without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

import miniature
from foveate.nn.recurrent import Attends
from foveate.tasks.training import train
from foveate.tasks.training.world import joined
from foveate.tasks.translation import Shape, Translator
from foveate.tasks.translation.task import TranslationTask, prepare

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SHAPES = [*(replace(miniature.RNN, attention=a) for a in get_args(Attends)), miniature.TRANSFORMER]


def trained(shape: Shape, folder: Path, **options: object) -> tuple[Translator, float]:
    """On the GPU; and the BLEU that it reached."""
    data = prepare(miniature.pairs(), miniature.pairs(24, seed=2), 600)
    task = TranslationTask(data, shape, tokens=512, pictures=0)
    model = task.model()
    with joined("cuda") as world:
        chosen = replace(miniature.OPTIONS, **{"epochs": 12, **options})  # type: ignore[arg-type]
        outcome = train(task, model, chosen, folder, world=world, quiet=True)
    return task.translator(model), outcome.metrics["BLEU"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_it_learns_and_says_the_same_as_on_the_cpu(shape: Shape, tmp_path: Path) -> None:
    translator, score = trained(shape, tmp_path)
    assert score > 10
    given = [(pair.source, pair.target) for pair in miniature.pairs(12, seed=3)]
    found = []
    for device in ("cuda", "cpu"):
        translator.model.to(device)
        texts = translator.translate([source for source, _ in given], beam=3)
        weights = list(translator.align(given)) if translator.has_attention else []
        found.append(([one.text for one in texts], [one.score for one in texts], [w.cpu() for w in weights]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-3)
    for one, other in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [miniature.RNN, miniature.TRANSFORMER], ids=lambda shape: shape.name)
def test_a_run_in_bfloat16_goes_on_from_its_checkpoint(shape: Shape, tmp_path: Path) -> None:
    trained(shape, tmp_path, epochs=2, precision="bfloat16")
    data = prepare(miniature.pairs(), miniature.pairs(24, seed=2), 600)
    task = TranslationTask(data, shape, tokens=512, pictures=0)
    with joined("cuda") as world:
        options = replace(miniature.OPTIONS, precision="bfloat16")
        outcome = train(task, task.model(), options, tmp_path, world=world, resume=True, quiet=True)
    assert (outcome.epochs, outcome.precision) == (2, "bfloat16")
