"""The experiments: what they measure, against plain computations; and each once from start to end, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("tokenizers")
pytest.importorskip("sacrebleu")

from foveate.apps.cli import main
from foveate.tasks.alignment import Gold, Reading, parse_gold, parse_links
from foveate.tasks.bitext import generate
from foveate.tasks.experiments import alignment, bottleneck, corpora, report
from foveate.tasks.experiments.bottleneck import Band, Result
from foveate.tasks.experiments.contenders import CONTENDERS, chosen
from foveate.tasks.translation import load
from foveate.tasks.translation.shape import build

TINY = ["--size", "0.1", "--vocabulary", "600", "--epochs", "1", "--pairs", "60", "--longest", "8", "--threads", "1"]


class Repeats:
    """Stands in for a translator: says its source again, with the last word of long sentences wrong."""

    facts = {"parameters": 1_000_000}  # noqa: RUF012

    def translate(self, sources: list[str], **options: Any) -> list[Any]:
        class Said:
            def __init__(self, text: str) -> None:
                words = text.split()
                self.text = text if len(words) < 9 else " ".join([*words[:-1], "wrong"])

        return [Said(source) for source in sources]


def test_bands_hold_every_sentence_once_and_small_ones_are_joined() -> None:
    lengths = [5] * 30 + [10] * 25 + [13] * 3 + [40] * 2
    sources = [" ".join(f"w{i}" for i in range(n)) for n in lengths]
    edges = bottleneck.EDGES["multi30k"]
    found = bottleneck.judge("x", Repeats(), sources, [[s] for s in sources], edges, tokenize="none")  # type: ignore[arg-type]
    assert [(b.least, b.most, b.sentences) for b in found.bands] == [(1, 8, 30), (9, 999, 30)]
    assert found.bands[0].bleu == 100
    assert found.bands[1].bleu < 100
    assert found.bands[1].bleu < found.bleu < 100


def result(name: str, *heights: float) -> Result:
    return Result(name, 5_000_000, sum(heights), "", tuple(Band(i, i, 20, h) for i, h in enumerate(heights)))


@pytest.mark.parametrize(
    ("none", "holds"), [((38.0, 30.0, 20.0), True), ((20.0, 30.0, 38.0), False), ((41.0, 41.0, 40.5), False)]
)
def test_the_claim_holds_where_the_gap_grows(none: tuple[float, ...], holds: bool) -> None:
    told = bottleneck.verdict([result("additive", 40.0, 40.0, 40.0), result("none", *none)])
    assert told["holds"] is holds
    assert told["gaps"] == {"additive": [pytest.approx(40 - n) for n in none]}
    table = report.bottleneck_table([result("additive", 40.0, 40.0, 40.0), result("none", *none)])
    assert ("holds here" in table) is holds


def test_without_the_fixed_vector_nothing_is_claimed() -> None:
    assert bottleneck.verdict([result("additive", 40.0, 40.0)]) == {"gaps": {}, "holds": None}
    of_one_length = [result("additive", 40.0), result("none", 30.0)]
    assert bottleneck.verdict(of_one_length) == {"gaps": {"additive": [10.0]}, "holds": None}
    assert "not put to the test" in report.bottleneck_table([result("additive", 40.0, 40.0)])


def test_models_are_about_of_one_size() -> None:
    sizes = {
        name: sum(p.numel() for p in build(c.shape, 8000, torch.arange(6000)).parameters())
        for name, c in CONTENDERS.items()
    }
    assert max(sizes.values()) < 1.1 * min(sizes.values()), sizes
    assert abs(sizes["none"] - sizes["additive"]) < 1e-3 * sizes["none"]


def test_unknown_models_are_named() -> None:
    with pytest.raises(ValueError, match="unknown model 'lstm'; expected some of additive, dot, general, none"):
        chosen(["additive", "lstm"])


def test_the_grammar_is_written_as_it_was_drawn(tmp_path: Path) -> None:
    grammar = corpora.write_grammar(tmp_path, 40, seed=3, lengths=(3, 12))
    lines = (tmp_path / "test.tsv").read_text(encoding="utf-8").splitlines()
    golds = [parse_gold(line) for line in (tmp_path / "test.gold").read_text(encoding="utf-8").splitlines()]
    assert [tuple(line.split("\t")) for line in lines] == alignment.pairs_of(grammar.test)
    assert golds == [Gold(s.sure, s.possible) for s in grammar.test]
    assert {" ".join(s.source) for s in grammar.train}.isdisjoint(" ".join(s.source) for s in grammar.test)


def test_gold_links_have_no_error_and_none_all_of_it() -> None:
    sentences = list(generate(5, 30, lengths=(3, 12)))
    right = alignment.rated("gold", "", [s.sure for s in sentences], sentences)
    wrong = alignment.rated("nothing", "", [parse_links("") for _ in sentences], sentences)
    assert right.rate.aer == 0
    assert all(rate.aer == 0 for rate in right.phenomena.values())
    assert wrong.rate.aer == 1


def test_the_bottleneck_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment", "bottleneck", "--data", "grammar", "--models", "dot,none", *TINY, "-o", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in told["models"]] == ["dot", "none"]
    assert told == {**json.loads((tmp_path / "bottleneck.json").read_text()), "files": told["files"]}
    assert {Path(file).name for file in told["files"]} == {"bottleneck.json", "bottleneck.png", "bottleneck.svg"}
    before = (tmp_path / "dot" / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0  # nothing is trained twice
    assert (tmp_path / "dot" / "model.safetensors").stat().st_mtime_ns == before
    assert "fixed vector loses more the longer the sentence" in capsys.readouterr().out


def test_alignment_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment", "alignment", "--models", "additive,transformer", *TINY, "-o", str(tmp_path), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    names = [one["name"] for one in told["aligners"]]
    assert names[:3] == ["additive", "transformer", "diagonal"]
    assert names[-2:] == ["additive, one direction", "transformer, one direction"]
    assert set(told["AER by epoch"]) == {"additive", "transformer"}
    translator = load(tmp_path / "transformer")
    sentences = list(generate(1, 20, lengths=(3, 8), split="test"))
    reading = alignment.best_reading(translator, list(generate(1, 20, lengths=(3, 8), split="valid")))
    for links, place in zip(alignment.links_of(translator, sentences, reading), (1, -1), strict=True):
        again = alignment.rated("x", "", links, sentences)
        assert told["aligners"][place]["AER"] == pytest.approx(100 * again.rate.aer, abs=0.005)


def test_a_fixed_vector_has_no_alignment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "alignment", "--models", "none", *TINY, "-o", str(tmp_path)]) == 1
    assert "'none' has no attention" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", ["--epochs 0", "--size 0", "--pairs 0", "--vocabulary 9", "--seed -1", "--longest 2", "--threads 0"]
)
def test_options_out_of_range_are_refused_at_once(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["experiment", "alignment", *wrong.split()])
    option, value = wrong.split()
    told = capsys.readouterr().err
    assert f"argument {option}: expected a" in told and f"got '{value}'" in told


def test_only_means_of_heads_are_compared() -> None:
    asked: list[bool] = []

    class Heads:
        def candidates(self, pairs: Any, *, heads: bool = True) -> Any:
            asked.append(heads)
            return ({Reading(("a",)): torch.eye(len(s.split()))} for s, _ in pairs)

    sentences = [s for s in generate(1, 20, lengths=(3, 8)) if len(s.source) == len(s.target)]
    assert alignment.best_reading(Heads(), sentences) == Reading(("a",))  # type: ignore[arg-type]
    assert asked == [False]


def test_own_pairs_and_named_data_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--train", "a.tsv", "--valid", "b.tsv", "--test", "c.tsv"]
    assert main(["experiment", "bottleneck", "--data", "grammar", *own, "-o", str(tmp_path)]) == 2
    assert "--data names data that foveate knows; leave it out, or your own pairs" in capsys.readouterr().err


def test_own_pairs_need_all_three_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "bottleneck", "--train", "a.tsv", "-o", str(tmp_path)]) == 2
    assert "your own pairs need --train, --valid and --test" in capsys.readouterr().err


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.tsv"
    bad.write_text("a\tb\tc\n", encoding="utf-8")
    assert main(["experiment", "bottleneck", "--models", "lstm", "-o", str(tmp_path)]) == 2
    files = ["--train", str(bad), "--valid", str(bad), "--test", str(bad)]
    assert main(["experiment", "bottleneck", *files, "--models", "none", *TINY, "-o", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("foveate: unknown model 'lstm'; expected some of additive, dot")
    assert lines[1] == "foveate: bad.tsv:1: expected 2 columns separated by a tab; got 3"
