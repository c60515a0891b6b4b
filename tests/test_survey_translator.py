"""A survey of a translator: what it measures is what the translator reads when the same pairs are forced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

import foveate as fv
import miniature
from foveate.apps.cli import main
from foveate.heads.table import read_table
from foveate.tasks.subwords import BEGIN
from foveate.tasks.translation import store
from foveate.tasks.translation.surveyed import SurveyedTranslator
from foveate.tasks.translation.task import TranslationTask, prepare

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["rnn", "transformer"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = miniature.RNN if request.param == "rnn" else miniature.TRANSFORMER
    some = miniature.pairs(24)
    task = TranslationTask(prepare(some, some[:6], 600), shape, pictures=0)
    made = task.translator(task.model())
    where = tmp_path_factory.mktemp("survey") / "mine"
    store.save(where, made.model, made.subwords, made.shape, {"examples": []})
    return where


def test_entropies_are_those_of_forced_pairs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = miniature.pairs(30, seed=5)
    corpus, out = miniature.write(tmp_path / "pairs.tsv", pairs), tmp_path / "h.parquet"
    arguments = ["heads", str(folder), str(corpus), "--target", "target", "-o", str(out), "--processes", "1"]
    assert main([*arguments, "--measures", "entropy,first"]) == 0
    assert "mine, " in capsys.readouterr().out
    columns, _ = read_table(out)
    found = dict(zip(zip(columns["module"], columns["head"], strict=True), columns["entropy"], strict=True))
    model = store.load(folder)
    encode = model.subwords.encode
    want: dict[tuple[str, int], list[float]] = {}
    for one in model.force([(encode(pair.source), encode(pair.target)) for pair in pairs]):
        for name, weights in one.maps.items():
            for head, p_TS in enumerate(weights.dense() if weights.shape[0] else ()):
                want.setdefault((name, head), []).extend(torch.special.entr(p_TS.double()).sum(-1).tolist())
    assert want
    for head, entropies in want.items():
        assert found[head] == pytest.approx(sum(entropies) / len(entropies), abs=1e-5), head


def test_targets_begin_with_the_begin_symbol_and_are_read_as_the_vocabulary_writes_them(folder: Path) -> None:
    surveyed = SurveyedTranslator(store.load(folder), most=50)
    (one,) = surveyed.encode([(0, ("I have two cats .", "j'ai deux chats ."))])
    assert one.target is not None
    assert one.target[0] == BEGIN
    assert "".join(surveyed.tokens(one.target[1:])).replace("▁", " ").strip() == "j'ai deux chats ."
    assert surveyed.tokens(one.ids)[-1] == "</s>"
    with pytest.raises(ValueError, match="text 0 has no target"):
        surveyed.encode([(0, "I have two cats .")])
    frame = fv.heads.survey(lambda: surveyed, [("I have two cats .", "j'ai deux chats .")], measures=["entropy"])
    assert set(frame["kind"]) >= {"cross"}
