"""`foveate align`, with miniatures that are trained in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from foveate.tasks.alignment import METHODS, Reading, merged, parse_links, parse_soft
from foveate.tasks.translation import choosing, forcing, load
from miniatures import MOST, PAIRS, Runner, models

NUMBER = (2, 2)  # where each sentence has its number word
USED = "no reading was chosen for {}, so it is attention, mean of heads, output; --choose finds the best"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield models(tmp_path_factory.getbasetemp())
    torch.set_num_threads(threads)


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(place, capsys, monkeypatch)


@pytest.mark.parametrize("pairs", ["pairs.tsv", "pairs.en pairs.fr", "-"])
@pytest.mark.parametrize("model", ["en-fr", "fr-en"])
def test_number_words_are_aligned_whichever_way_the_model_translates(run: Runner, model: str, pairs: str) -> None:
    text = Path("pairs.tsv").read_text()
    code, out, err = run(f"align --model {model} --symmetrize none {pairs}", stdin=text)
    links = [parse_links(line) for line in out.splitlines()]
    assert (code, err) == (0, f"foveate: {USED.format(model)}\n")
    assert len(links) == len(PAIRS)
    assert sum(NUMBER in line for line in links) >= MOST
    side = 1 if model == "en-fr" else 0
    assert all(sorted(link[side] for link in line) == [0, 1, 2, 3, 4] for line in links)


def test_links_are_in_the_order_of_the_input_and_of_each_pair_alone(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are read together, sorted by length, in several batches: none of that may be seen."""
    mixed = [(f"{a} {b}", f"{c} {d} {c}") for (a, c), (b, d) in zip(PAIRS, PAIRS[7:], strict=False)]
    given = [pair for two in zip(mixed, PAIRS, strict=False) for pair in two]
    model = load("en-fr")
    alone = [next(model.align([pair])) for pair in given]
    text = "".join(f"{source}\t{target}\n" for source, target in given)
    with monkeypatch.context() as patch:
        patch.setattr(forcing, "GROUP", 23)
        patch.setattr(forcing, "TOKENS", 70)
        found = run.lines("align --model en-fr --soft --threshold 0.0001 -", stdin=text)
    for line, expected in zip(found, alone, strict=True):
        weights = torch.zeros_like(expected)
        for (source, target), weight in parse_soft(line).items():
            weights[target, source] = weight
        torch.testing.assert_close(weights, expected, rtol=0, atol=2e-3)
    for method in METHODS:
        found = run.lines(f"align --model en-fr --symmetrize {method} -", stdin=text)
        assert [parse_links(line) for line in found] == [merged(weights, method) for weights in alone]
    assert run.lines("align --model en-fr -", stdin=text) == run.lines(
        "align --model en-fr --symmetrize grow-diag-final-and -", stdin=text
    )


def test_soft_weights_and_a_threshold(run: Runner) -> None:
    for model in ("en-fr", "fr-en"):
        soft = [parse_soft(line) for line in run.lines(f"align --model {model} --soft pairs.tsv")]
        links = [parse_links(line) for line in run.lines(f"align --model {model} --symmetrize none pairs.tsv")]
        side = 1 if model == "en-fr" else 0
        for weights, line in zip(soft, links, strict=True):
            for link in line:
                assert weights[link] == max(w for other, w in weights.items() if other[side] == link[side])
        least = run.lines(f"align --model {model} --soft --threshold 0.5 pairs.tsv")
        certain = run.lines(f"align --model {model} --symmetrize none --threshold 0.5 pairs.tsv")
        assert [set(parse_soft(line)) for line in least] == [parse_links(line) for line in certain]
        assert all(parse_links(line) <= more for line, more in zip(certain, links, strict=True))
        assert sum(map(len, links)) == len(links) * 5 > sum(len(parse_links(line)) for line in certain)
    one = "align --model en-fr --symmetrize none"
    assert run.lines(f"{one} --direction backward pairs.tsv") != run.lines(f"{one} pairs.tsv")


def test_two_directions_are_merged(run: Runner) -> None:
    both = "align --model en-fr --reverse-model fr-en pairs.tsv"
    ahead, back = (run.lines(f"align --model {model} --symmetrize none pairs.tsv") for model in ("en-fr", "fr-en"))
    found = {how: [parse_links(line) for line in run.lines(f"{both} --symmetrize {how}")] for how in METHODS}
    for i, (one, other) in enumerate(zip(ahead, back, strict=True)):
        assert found["intersection"][i] == parse_links(one) & parse_links(other)
        assert found["union"][i] == parse_links(one) | parse_links(other)
        assert found["intersection"][i] <= found["grow-diag"][i] <= found["grow-diag-final-and"][i]
        assert found["grow-diag-final-and"][i] <= found["grow-diag-final"][i] <= found["union"][i]
    assert [parse_links(line) for line in run.lines(both)] == found["grow-diag-final-and"]
    assert sum(NUMBER in line for line in found["intersection"]) >= MOST - 2


def test_the_best_reading_is_found_and_kept(run: Runner, place: Path, tmp_path: Path) -> None:
    for name in ("en-fr", "fr-en"):
        shutil.copytree(place / name, tmp_path / name)
    both = f"align --model {tmp_path}/en-fr --reverse-model {tmp_path}/fr-en"
    code, out, err = run(f"{both} --choose pairs.tsv")
    assert (code, err) == (0, "")
    told = [line.removeprefix(f"{tmp_path}/") for line in out.splitlines()]
    assert [line.partition(" (agreement ")[0] for line in told] == [
        f"{name}: attention, mean of heads, output" for name in ("en-fr", "fr-en")
    ]
    assert "reading" not in load(tmp_path / "en-fr").facts
    links = tmp_path / "links.txt"
    code, out, err = run(f"{both} --choose pairs.tsv --save -o {links} pairs.tsv")
    assert (code, out) == (0, "")
    assert "en-fr: attention, mean of heads, output (agreement " in err
    assert len(links.read_text().splitlines()) == len(PAIRS)
    for name in ("en-fr", "fr-en"):
        model = load(tmp_path / name)
        assert model.facts["reading"] == {"modules": ["attention"], "head": "mean", "shift": "output"}
        assert {**model.facts, "reading": None} == {**load(place / name).facts, "reading": None}
    assert run(f"{both} pairs.tsv")[2] == ""
    ahead, back = run.lines(f"align --model transformer --reverse-model {tmp_path}/fr-en --choose pairs.tsv")
    assert ahead.startswith("transformer: decoder.layers.")
    assert back.startswith(f"{tmp_path}/fr-en: attention, ")


def test_one_model_alone_chooses_by_itself(run: Runner, tmp_path: Path) -> None:
    """Words that are the same in both languages tell a row from the next, so some pairs have names."""
    Path(tmp_path / "same.tsv").write_text("".join(f"{a} {b}\n" for a, b in [("six", "dogs")] * 3).replace(" ", "\t"))
    code, out, _ = run(f"align --model transformer --choose {tmp_path}/same.tsv")
    assert code == 0
    reading, agreement = out.removeprefix("transformer: ").rstrip(")\n").split(" (agreement ")
    assert 0 <= float(agreement) <= 1
    assert reading.startswith("decoder.layers.")


def test_a_reading_can_be_named(run: Runner, place: Path) -> None:
    model = load(place / "transformer")
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS[:9])
    for options, reading in (
        ("", Reading(("decoder.layers.0.cross_attention",), "mean", "input")),
        ("--layer 1", Reading(("decoder.layers.1.cross_attention",), "mean", "input")),
        ("--layer 1 --head 0 --shift output", Reading(("decoder.layers.1.cross_attention",), 0, "output")),
        ("--head 1", Reading(("decoder.layers.0.cross_attention",), 1, "input")),
    ):
        expected = [merged(weights) for weights in model.align(PAIRS[:9], reading)]
        code, out, err = run(f"align --model transformer {options} -", stdin=text)
        assert [parse_links(line) for line in out.splitlines()] == expected
        assert (code, bool(err)) == (0, not options)


def test_another_layer_is_read_by_all_its_heads(run: Runner, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "transformer", tmp_path / "m")
    choosing.save_reading(tmp_path / "m", Reading(("decoder.layers.0.cross_attention",), 1, "output"))
    for options in ("", "--layer 0 --head 1", "--head 1 --shift output"):
        same = run.lines(f"align --model transformer --head 1 --shift output {options} pairs.tsv")
        assert run.lines(f"align --model {tmp_path}/m {options} pairs.tsv") == same
    mean = run.lines("align --model transformer --layer 1 --head mean --shift output pairs.tsv")
    assert run.lines(f"align --model {tmp_path}/m --layer 1 pairs.tsv") == mean


def test_malformed_lines(run: Runner, tmp_path: Path) -> None:
    long = "cats " * 10_000
    text = f"I see two cats .\tje vois deux chats .\nno tab\n\tempty\n{long}\tchats\nsix dogs\tsix chiens\n"
    code, out, err = run("align --model en-fr -", stdin=text)
    assert (code, out) == (1, "")
    assert err == "foveate: standard input:2: expected 2 columns separated by a tab; got 1\n"
    code, out, err = run("align --model en-fr --symmetrize none --skip-bad -", stdin=text)
    first, *bad, last = out.splitlines()
    assert code == 0
    assert bad == ["", "", ""]
    assert NUMBER in parse_links(first)
    assert len(parse_links(last)) == 2
    assert "skipped 3 of 5 lines: 1 x not 2 columns, 1 x empty side, 1 x more than 250 words" in err
    (tmp_path / "long.tsv").write_text(f"{long}\tchats\n")
    assert "long.tsv:1: the source has 10,000 words" in run(f"align --model en-fr {tmp_path}/long.tsv")[2]
    (tmp_path / "empty.tsv").write_text("")
    assert run(f"align --model en-fr {tmp_path}/empty.tsv")[2] == "foveate: empty.tsv: the file is empty\n"
    (tmp_path / "short.fr").write_text("un\n")
    same = "foveate: both models were trained in the same direction; one should translate back"
    assert same in run("align --model en-fr --reverse-model en-fr pairs.tsv")[2]
    assert same not in run("align --model en-fr --reverse-model fr-en pairs.tsv")[2]
    assert "line-aligned files need equally many lines" in run(f"align --model en-fr pairs.en {tmp_path}/short.fr")[2]


def test_the_built_in_model_aligns_when_none_is_named(run: Runner) -> None:
    code, out, err = run("align -", stdin="I see a black cat .\tje vois un chat noir .\n")
    assert (code, out, err) == (0, "0-0 1-1 2-2 3-4 4-3 5-5\n", "")
    assert "--save keeps it with a model of yours" in run("align --choose pairs.tsv --save")[2]
    assert run("align --choose pairs.tsv")[1].startswith("the built-in translator: attention, ")


def test_keeping_a_reading_replaces_the_description_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"task": "translation", "é": [1]}', encoding="utf-8")
    choosing.save_reading(tmp_path, Reading(("a", "b"), 3, "input"))
    kept = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    reading = kept.pop("reading")
    assert kept == {"task": "translation", "é": [1]}
    assert Reading.from_json(reading) == Reading(("a", "b"), 3, "input")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
