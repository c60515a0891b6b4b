"""Translators without some of their heads: their folder, their alignments, the command that translates."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

import foveate as fv
from foveate.apps.cli import main
from foveate.heads.pruning.sites import find
from foveate.tasks.alignment import Reading
from foveate.tasks.translation import Translator, load, restore, save
from pruned_models import knocked_out
from translators import ENGLISH, FRENCH, translator

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS = {
    "encoder.layers.0.attention": (0, 1),
    "decoder.layers.0.attention": (1,),
    "decoder.layers.1.cross_attention": (0,),
}


def whole(**facts: object) -> Translator:
    made = translator(arch="transformer")
    return Translator(made.model, made.subwords, made.shape, {"parameters": 5, "settings": {"half": False}, **facts})


def pruned(made: Translator, heads: dict[str, tuple[int, ...]] = HEADS) -> Translator:
    fv.heads.prune(made.model, heads)
    return made


def test_a_folder_holds_what_is_left_and_gives_it_back(tmp_path: Path) -> None:
    made = whole(reading={"modules": ["decoder.layers.1.cross_attention"], "head": 1, "shift": "output"})
    save(tmp_path / "whole", made.model, made.subwords, made.shape, made.facts)
    other = copy.deepcopy(made)
    knocked_out(other.model, HEADS)
    small = pruned(made)
    save(tmp_path / "small", small.model, small.subwords, small.shape, small.facts)
    found = load(tmp_path / "small")
    assert {path: site.heads for path, site in find(found.model).items()} == {
        path: 2 - len(HEADS.get(path, ())) for path in find(other.model)
    }
    wanted = [(t.text, pytest.approx(t.score, abs=1e-5)) for t in other.translate(ENGLISH, beam=3)]
    assert [(t.text, t.score) for t in found.translate(ENGLISH, beam=3)] == wanted
    assert found.reading == Reading(("decoder.layers.1.cross_attention",), 0, "output")  # 1, by its new number
    pairs = list(zip(ENGLISH, FRENCH, strict=True))
    for ours, theirs in zip(found.align(pairs), other.align(pairs, other.reading), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 1e-5
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < sizes[0]

    back = restore(tmp_path / "small", tmp_path / "back")
    first, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "back"))
    assert again == first
    assert not (tmp_path / "back" / "removed.safetensors").exists()
    assert json.loads((tmp_path / "back" / "model.json").read_text()) == json.loads(
        (tmp_path / "whole" / "model.json").read_text()
    )
    assert back.reading == Reading(("decoder.layers.1.cross_attention",), 1, "output")


def test_pruned_again_it_still_comes_back(tmp_path: Path) -> None:
    made = whole()
    save(tmp_path / "whole", made.model, made.subwords, made.shape, made.facts)
    once = pruned(made)
    save(tmp_path / "once", once.model, once.subwords, once.shape, once.facts)
    twice = pruned(load(tmp_path / "once"), {"encoder.layers.1.attention": (1,), "decoder.layers.0.attention": (0,)})
    save(tmp_path / "twice", twice.model, twice.subwords, twice.shape, twice.facts)
    assert not load(tmp_path / "twice").model.decoder.layers[0].attention.heads
    restore(tmp_path / "twice", tmp_path / "back")
    first, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "back"))
    assert again == first
    with pytest.raises(ValueError, match="no heads were removed from the model in back"):
        restore(tmp_path / "back", tmp_path / "never")


@pytest.mark.parametrize(
    ("gone", "modules", "head"),
    [
        ({"decoder.layers.0.cross_attention": (0, 1)}, ("decoder.layers.1.cross_attention",), "mean"),
        ({"decoder.layers.1.cross_attention": (0, 1)}, ("decoder.layers.0.cross_attention",), "mean"),
    ],
)
def test_alignments_are_read_where_heads_are_left(
    gone: dict[str, tuple[int, ...]], modules: tuple[str, ...], head: object
) -> None:
    for facts in ({}, {"reading": {"modules": list(gone), "head": 1, "shift": "output"}}):
        found = pruned(whole(**facts), gone)
        assert (found.reading.modules, found.reading.head) == (modules, head)
        (one,) = found.translate(ENGLISH[:1])
        assert one.weights is not None
        assert one.word_weights is not None
    blind = pruned(whole(), {f"decoder.layers.{i}.cross_attention": (0, 1) for i in range(2)})
    assert not blind.has_attention
    assert blind.translate(ENGLISH[:1])[0].alignment is None


def test_descriptions_that_do_not_fit(tmp_path: Path) -> None:
    small = pruned(whole())
    save(tmp_path, small.model, small.subwords, small.shape, small.facts)
    told = json.loads((tmp_path / "model.json").read_text())
    for change, match in (
        ({"kept": [0, 0]}, "must be numbers from 0 to 1 in order"),
        ({"heads": 3, "groups": 3, "kept": []}, "are not those of the shape|has heads 0 to 1"),
        ({"kept": [0, 1]}, "size mismatch"),
    ):
        changed = copy.deepcopy(told)
        changed["pruned"]["modules"]["encoder.layers.0.attention"].update(change)
        (tmp_path / "model.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=f"do not belong together: .*({match})"):
            load(tmp_path)


def test_the_command_translates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = pruned(whole())
    save(tmp_path, small.model, small.subwords, small.shape, small.facts)
    assert main(["translate", "--model", str(tmp_path), "--alignment", ENGLISH[2]]) == 0
    assert capsys.readouterr().out.splitlines()[0] == small.translate([ENGLISH[2]])[0].text
