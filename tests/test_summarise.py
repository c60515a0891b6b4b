"""Summarisation: from files of reports to headlines, the commands that write them, the page on them.

The reports are made up, as those of `foveate.tasks.reports`, but about a few names that training knows: a miniature
learns to tell winner and loser apart in seconds. That names nobody has heard of are copied is
measured by `benchmarks/summarise.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from safetensors.torch import load_file

from foveate.apps import cli
from foveate.apps.translation import TranslationModel, open_folder
from foveate.tasks.corpus import Pair
from foveate.tasks.pruning.translating import TranslatorSubject
from foveate.tasks.reports import lexicon, reports
from foveate.tasks.rouge import rouge
from foveate.tasks.translation import load
from foveate.tasks.translation.task import TranslationTask
from miniature import write
from miniatures import TINY, Runner

pytestmark = pytest.mark.usefixtures("one_thread")

STORIES = "match won", "match drawn"
NAMES = "Arden", "Bell", "Cole", "Dane", "Ellis", "Ford", "Gray", "Hart", "Iver", "Jude", "Kane", "Lowe", "Moss", "Nash"
SMALL = "--device cpu --arch transformer --width 48 --inner 96 --dropout 0 --vocabulary 700 --batch-tokens 512"
SMALL += " --learning-rate 0.004 --warmup 100 --epochs 4 --average 1 --precision float32 --threads 1 --pictures 2"


def known(text: str) -> str:
    """With one of a few names for each word that is made up."""
    words = lexicon.load().words
    return re.sub(r"[A-Za-z]+", lambda w: w[0] if w[0].lower() in words else NAMES[crc32(w[0].encode()) % 14], text)


def pairs(split: str, count: int) -> list[Pair]:
    told: Iterator[Pair] = (
        Pair(known(one.text), known(one.headline))
        for one in reports(1, 10**6, words=(20, 20), split=split)
        if one.story in STORIES
    )
    return list(islice(told, count))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reports in `train.tsv` and `valid.tsv`, and the model `m` trained on them."""
    folder = tmp_path_factory.mktemp("summarise")
    for split, count in (("train", 2000), ("valid", 60)):
        write(folder / f"{split}.tsv", pairs(split, count))
    files = f"--train {folder}/train.tsv --valid {folder}/valid.tsv -o {folder}/m"
    assert cli.main(["train", "translate", "--task", "summarise", *files.split(), *SMALL.split()]) == 0
    return folder


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(place, capsys, monkeypatch)


def test_it_writes_headlines_better_than_the_first_words(place: Path) -> None:
    tried = pairs("test", 100)
    right = [[pair.target] for pair in tried]
    found = [one.text for one in load(place / "m").translate([pair.source for pair in tried], weights=False)]
    leads = [" ".join(pair.source.split()[:8]) for pair in tried]
    ours, first = rouge(found, right), rouge(leads, right)
    assert ours["ROUGE-L"] > 80 > 35 > first["ROUGE-L"]
    assert ours["ROUGE-2"] > 60 > 20 > first["ROUGE-2"]


def test_card_log_and_curves_tell_rouge(place: Path) -> None:
    facts = json.loads((place / "m" / "model.json").read_text())
    assert facts["task"] == "summarisation"
    assert facts["settings"]["metric"] == "ROUGE" and "tokenize" not in facts["settings"]
    validation = facts["trained"]["validation"]
    assert list(validation) == ["ROUGE-1", "ROUGE-2", "ROUGE-L"]
    card = (place / "m" / "CARD.md").read_text()
    assert card.startswith("# A summariser: Transformer\n")
    told = ", ".join(f"{name} {value:g}" for name, value in validation.items())
    assert f"60 pairs (greedy search,\n  ROUGE F1, lower case, no stemming): {told}." in card
    judged = [line for text in (place / "m" / "log.jsonl").read_text().splitlines()
              if (line := json.loads(text))["kind"] == "valid"]  # fmt: skip
    assert len(judged) == 4 and max(line["ROUGE-L"] for line in judged) == validation["ROUGE-L"]
    assert (place / "m" / "curves.png").is_file() and (place / "m" / "pictures" / "epoch-04.png").is_file()


def test_any_sub_word_may_come_out_and_length_is_that_of_summaries(place: Path) -> None:
    model = load(place / "m")
    assert len(model.model.embedding.outputs) == len(model.subwords)
    longest = max(len(ids) for ids in model.subwords.ids(pair.target for pair in pairs("train", 2000)))
    assert model.facts["longest"] == longest
    (found,) = model.translate(["Kane " * 300], weights=False)
    assert len(found.tokens) <= 2 * longest + 10


def test_the_commands(run: Runner, tmp_path: Path) -> None:
    text = pairs("test", 1)[0].source
    code, out, _ = run(f'summarise m "{text}"')
    assert code == 0 and len(out.splitlines()) == 1
    assert run(f'translate --model m "{text}"')[1] == out
    first, empty, last = run.lines("summarise m -", stdin=f"{text}\n\n{text}\n")
    assert (first, empty, last) == (out.strip(), "", out.strip())
    (tmp_path / "lines.txt").write_text(f"{text}\n")
    told = json.loads(run.lines(f"summarise m --file {tmp_path}/lines.txt --json")[0])
    assert told["summary"] == out.strip() and "translation" not in told
    assert told["source_words"][:3] == text.split()[:3] and told["alignment"]
    code, _, err = run("summarise m")
    assert (code, err) == (2, "foveate: give a text in quotation marks; or -, or --file\n")
    code, _, err = run(f"summarise {tmp_path}/none x")
    assert (code, err) == (1, f"foveate: no model: there is no folder {tmp_path}/none\n")
    code, _, err = run("summarise m -", stdin="Kane " * 2100)
    assert code == 1 and "tokens; at most 2,047 are summarised at once" in err


def test_long_reports_are_aligned_and_pruned_on(run: Runner, tmp_path: Path) -> None:
    one = pairs("test", 1)[0]
    (tmp_path / "long.tsv").write_text(f"{one.source} {'word ' * 240}\t{one.target}\n\n")
    code, out, err = run(f"align --model m {tmp_path}/long.tsv --skip-bad --symmetrize none")
    assert (code, len(out.splitlines()[0].split())) == (0, len(one.target.split()))
    assert "skipped 1 of 2 lines" in err
    (tmp_path / "bad.tsv").write_text(f"{one.source}\t \n")
    code, _, err = run(f"prune m --keep 0.5 --data {tmp_path}/bad.tsv -o {tmp_path}/half")
    assert (code, err) == (1, "foveate: bad.tsv:1: the summary is empty\n")


def test_the_page(run: Runner, tmp_path: Path) -> None:
    text = pairs("test", 1)[0].source
    assert run(f'view m --text "{text}" --export {tmp_path}/page.html')[0] == 0
    model = open_folder("m")
    assert isinstance(model, TranslationModel) and model.max_tokens == 2047
    said: list[str] = []
    document = model.run(text, None, lambda progress, message: said.append(message)).document()
    assert said[0] == "Summarising"
    assert document.message == run(f'summarise m "{text}"')[1].strip()
    given = model.run(text, "Kane and Bell draw 1-1", lambda progress, message: None).document()
    assert "The summary was given: the model read it, and how probable it found each word is shown." in given.notes


def test_pruning_judges_by_rouge(place: Path) -> None:
    subject = TranslatorSubject(load(place / "m"), pairs("valid", 60), pairs("train", 5))
    measured = subject.measure()
    assert measured == json.loads((place / "m" / "model.json").read_text())["trained"]["validation"]
    task = subject.task()
    assert isinstance(task, TranslationTask)
    assert (subject.metric, task.metric, task.validate(subject.model)) == ("ROUGE-L", "ROUGE-L", measured)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("only one column", "bad.tsv:2: expected 2 columns separated by a tab; got 1"),
        ("\ta headline", "bad.tsv:2: the text is empty"),
        ("a report\t ", "bad.tsv:2: the summary is empty"),
        ("word " * 1001 + "\tx", "bad.tsv:2: the text has 1,001 words; at most 1,000 are allowed"),
    ],
)
def test_malformed_rows(run: Runner, tmp_path: Path, row: str, told: str) -> None:
    long = "word " * 900
    (tmp_path / "bad.tsv").write_text(f"{long}\tx\n{row}\n")
    words = f"train translate --task summarise --train {tmp_path}/bad.tsv --valid valid.tsv -o {tmp_path}/m {TINY}"
    code, _, err = run(words)
    assert (code, err) == (1, f"foveate: {told}\n")
    assert not (tmp_path / "m").exists()


def test_what_is_of_translation_is_refused(run: Runner, tmp_path: Path) -> None:
    words = f"train translate --task summarise --train valid.tsv --valid valid.tsv -o {tmp_path}/m"
    for option in ("--reverse", "--tokenize none"):
        code, _, err = run(f"{words} {option}")
        assert (code, err) == (2, f"foveate: {option.split()[0]} is of --task translate; leave it out\n")


def test_a_resumed_run_ends_where_it_would_have(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: TranslationTask, model: Any, epoch: int, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    files = "--train valid.tsv --valid valid.tsv --skip-bad --pictures 0"
    words = f"train translate --task summarise {files} {TINY} -o {tmp_path}"
    assert run(f"{words}/whole")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(TranslationTask, "epoch_ended", interrupted)
        assert run(f"{words}/parts")[0] == 130
    other = words.replace("--task summarise", "--learning-rate 0.003 --dropout 0.1 --state-dropout 0.1 --smoothing 0")
    code, _, err = run(f"{other}/parts --resume")
    assert code == 1 and "must have the task it began with: tokens was 2048 and is 4096" in err
    assert run(f"{words}/parts --resume")[0] == 0
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a | b)
