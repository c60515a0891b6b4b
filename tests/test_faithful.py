"""Does a report say what is known of a model by construction, and are its figures those of a plain loop?"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn

from explained import DECISIVE, NOTHING, SEEN, TEXT, Decides
from foveate import plot
from foveate.faithful import LABELS, Report, report
from foveate.faithful.curves import how_many

pytestmark = pytest.mark.usefixtures("one_thread")

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
COUNTS = (1, 3, 7)  # of the 14 words of TEXT, each once


def of(model: nn.Module, **options: object) -> Report:
    return report(model.eval(), TEXT, predict=model, **{"replacement": NOTHING, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("pooled", [True, False])
def test_attention_that_decides_explains(pooled: bool) -> None:
    made = of(Decides(pooled=pooled), labels=["no", "yes"], tokens=[f"w{word}" for word in TEXT])
    assert made.target == "yes"
    assert made.verdict == "explains", made.text
    assert made.attention.order[0] == TEXT.index(DECISIVE)
    assert made.text.startswith("Attention explains this prediction: without the 3 tokens w7, ")
    assert "p(yes) goes from 0.98 to 0.1" in made.text


def test_attention_whose_output_is_zeroed_does_not() -> None:
    made = of(Decides(zeroed=True, reads=SEEN))
    assert made.verdict == "does not"
    assert not made.reaches
    assert "has no gradient there" in made.text
    assert made.attention.order[0] == TEXT.index(SEEN)
    assert made.gradient is not None
    assert made.gradient.order[0] == TEXT.index(DECISIVE)


def test_what_no_gradient_reaches_explains_nothing_even_if_it_finds_the_word() -> None:
    made = of(Decides(zeroed=True, reads=DECISIVE))
    assert made.attention.verdict == "explains"  # by removing alone
    assert made.verdict == "does not"


def test_attention_that_reads_the_same_everywhere_does_not() -> None:
    made = of(Decides(constant=True, reads=SEEN))
    assert made.reaches
    assert made.verdict == "does not"
    assert made.scores["gradient_input"].verdict == "explains"
    assert made.scores["leave_one_out"].agreement == pytest.approx(1)
    assert "does not explain this prediction" in made.text


def test_nothing_can_be_told_of_a_model_that_nothing_moves() -> None:
    model = Decides(constant=True)
    with torch.no_grad():
        model.mean.weight.zero_()
    made = of(model)
    assert made.verdict == "cannot tell"
    assert "cannot be told" in made.text


def test_figures_are_those_of_a_plain_loop() -> None:
    model = Decides()
    with torch.no_grad():
        model.mean.weight.copy_(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)) * 20)
    made = of(model, target=0, samples=3)
    ids = torch.tensor([TEXT])

    def p(gone: set[int]) -> float:
        given = ids.clone()
        for place in gone:
            given[0, place] = NOTHING
        with torch.no_grad():
            return float(model(given).double().softmax(-1)[0, 0])

    whole, everything = p(set()), set(range(len(TEXT)))
    assert made.probability == pytest.approx(whole, rel=1e-5)
    for score in made.scores.values():
        firsts = [set(score.order[:count]) for count in COUNTS]
        assert score.curve.comprehensiveness == pytest.approx(whole - fmean(p(f) for f in firsts), abs=1e-6)
        assert score.curve.sufficiency == pytest.approx(whole - fmean(p(everything - f) for f in firsts), abs=1e-6)
        values = [score.values[place] for place in score.order]
        assert all(a >= b for a, b in pairwise(values)), score.name  # type: ignore[operator]
    odds = [torch.logit(torch.tensor(p({place}), dtype=torch.float64)) for place in range(len(TEXT))]
    want = torch.logit(torch.tensor(whole, dtype=torch.float64)) - torch.stack(odds)
    torch.testing.assert_close(
        torch.tensor(made.scores["leave_one_out"].values, dtype=torch.float64), want, atol=2e-5, rtol=0
    )


def test_hiding_is_a_mask_over_all_other_tokens() -> None:
    """Of a model that reads in its first place, hiding a token is what a mask over its key is."""
    model = Decides()
    made = of(model, replacement=None)
    assert made.how == "hide"
    assert made.verdict == "explains"
    assert made.scores["attention"].values[0] is None  # where the prediction is made
    assert any("not removed" in note for note in made.notes)

    def without(gone: int) -> float:
        x = model.words(torch.tensor([TEXT]))
        scores = model.key(x)[0] @ model.query[0]
        scores[gone] = -torch.inf
        read = scores.softmax(0) @ model.value(x)[0]
        odds: Tensor = (read + model.mean(x.mean(1))[0]).diff()[0].detach()
        return float(odds)

    whole = float(torch.logit(torch.tensor(made.probability, dtype=torch.float64)))
    for place in (2, 5):
        found = made.scores["leave_one_out"].values[place]
        assert found == pytest.approx(whole - without(place), abs=1e-4)


def test_links_most_and_least_read() -> None:
    made = of(Decides(), replacement=None, samples=2)
    assert made.links is not None
    n = len(TEXT)
    assert made.links.count == n * (n - 1)
    assert made.links.most.counts == tuple(max(1, int(n * (n - 1) * share + 0.5)) for share in SHARES)
    assert made.links.most.comprehensiveness > 0.3
    assert abs(made.links.least.comprehensiveness) < 0.01
    assert of(Decides(pooled=True)).links is None
    assert of(Decides(), links=False).links is None


def test_the_same_seed_gives_the_same_report() -> None:
    a, b, c = (of(Decides(), samples=4, seed=seed) for seed in (1, 1, 2))
    assert a == b
    assert a.random != c.random


def test_methods_are_chosen_by_name() -> None:
    made = of(Decides(), methods=["rollout"], samples=2, links=False)
    assert set(made.scores) == {"attention", "rollout", "leave_one_out"}
    assert set(of(Decides(), samples=2, links=False).scores) <= set(LABELS)


def test_vectors_can_be_given() -> None:
    want = of(Decides(), samples=3)
    model = Decides().eval()
    vectors = model.words(torch.tensor(TEXT)).detach()
    model.words = nn.Identity()  # type: ignore[assignment]
    made = report(model, vectors, predict=model, replacement=torch.zeros(8), samples=3)
    assert made.verdict == "explains"
    for name, score in want.scores.items():
        assert made.scores[name].curve.comprehensiveness == pytest.approx(score.curve.comprehensiveness, abs=1e-6)


def test_tables() -> None:
    pandas = pytest.importorskip("pandas")
    made = of(Decides(), samples=3, tokens=[str(word) for word in TEXT])
    scores, tokens = made.to_pandas(), made.to_pandas("tokens")
    assert isinstance(scores, pandas.DataFrame)
    assert list(scores["score"]) == [*made.scores, "random"]
    curve = made.scores["attention"].curve
    assert scores["without_20%"][0] == pytest.approx(curve.probabilities[1])
    assert scores["without_5%"][0] == pytest.approx(curve.probabilities[0])
    assert scores["comprehensiveness"].iloc[-1] == pytest.approx(fmean(c.comprehensiveness for c in made.random))
    assert list(tokens["token"]) == [str(word) for word in TEXT]
    with pytest.raises(ValueError, match="unknown table 'links'"):
        made.to_pandas("links")


def test_the_page_runs_and_shows_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "faithful.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/faithful.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.split("\n")) <= 100
    assert printed[:200] in page
    kept = Path(__file__).parent.parent / "docs" / "plot" / "removals.svg"
    texts = [re.findall(r">([^<>]+)</text>", path.read_text()) for path in (tmp_path / "removals.svg", kept)]
    assert texts[0] == texts[1]
    assert "p(suitcase)" in texts[0]


def test_the_plot_draws_what_the_report_holds() -> None:
    pytest.importorskip("matplotlib")
    made = of(Decides(), samples=4, labels=["no", "y$s"])
    figure = plot.removals(made, ["rollout", "gradient_norm"], width=3.3)
    taken, left = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in taken.get_lines()}
    curve = made.scores["rollout"].curve
    want = [[0, made.probability], *map(list, zip(curve.counts, curve.probabilities, strict=True))]
    assert lines["attention rollout"] == [pytest.approx(point) for point in want]
    assert set(lines) == {"attention rollout", "gradient norm", "random"}
    means = [fmean(c.probabilities[i] for c in made.random) for i in range(3)]
    assert [y for _, y in lines["random"][1:]] == pytest.approx(means)
    assert len(left.get_lines()[1].get_xydata()) == 3
    for scores, told in ((["flo"], "the report has no score 'flo'"), (["attention"] * 9, "8 scores can be told apart")):
        with pytest.raises(ValueError, match=told):
            plot.removals(made, scores)


def test_what_is_improbable_is_still_told_apart() -> None:
    """What most next words have is a small p: both the plot and the table must show how it changes."""
    pytest.importorskip("matplotlib")

    class Rare(Decides):
        def forward(self, *given: Tensor) -> Tensor:
            out: Tensor = super().forward(*given) - torch.tensor([0.0, 7.0])
            return out

    made = of(Rare(), target=1, samples=4)
    assert 0 < made.probability < 0.1
    assert plot.removals(made).axes[0].get_ylim()[1] < 2 * made.probability
    falls = re.findall(r"attention +(-?[0-9.]+) +(-?[0-9.]+)", made.text)
    assert all(len(number.split(".")[1]) == 4 for number in falls[0])


def test_names_move_no_cursor() -> None:
    made = of(Decides(), samples=2, tokens=["\x1b[2J\n"] * len(TEXT))
    assert "\x1b" not in made.text
    assert "the 3 tokens ?[2J?, " in made.text


def test_shares_are_of_tokens_at_least_one_never_all() -> None:
    assert how_many(30) == (1, 2, 3, 6, 15)
    assert how_many(2) == (1,)
    assert how_many(14) == COUNTS
    assert how_many(1000) == (10, 50, 100, 200, 500)
