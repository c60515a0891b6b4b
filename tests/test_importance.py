"""Importance of heads: against differences, against passes without the head, and where only some heads matter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
from changed import E, H, X, fresh
from foveate.change import ChangeError
from foveate.heads.gates import Gates
from foveate.heads.ranking import Importance, Row

pytestmark = pytest.mark.usefixtures("one_thread")

BATCHES = [X, X.flip(1)]
ALONE = {"method": "leave-one-out"}


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean((1, 2)).mean()


def test_gradients_are_those_of_a_factor_for_each_sequence() -> None:
    model = fresh("own")[1]
    found = fv.heads.importance(model, BATCHES, loss)
    assert [(row.module, row.layer, row.kind, row.head) for row in found.rows][:2] == [
        ("0", 0, "encoder", 0),
        ("0", 0, "encoder", 1),
    ]
    assert found.count == 2 * len(X)
    step, row = 1e-2, found.rows[H + 2]
    each = []
    for batch in BATCHES:
        for one in batch:
            sums = []
            for factor in (1 + step, 1 - step):
                with torch.no_grad(), fv.scale(model, {(row.module, row.head): factor}):
                    sums.append(float(loss(model, one[None]).double()))
            each.append(abs(sums[0] - sums[1]) / (2 * step))
    want = torch.tensor(each)
    assert row.importance == pytest.approx(float(want.mean()), rel=2e-3)
    assert row.error == pytest.approx(float(want.std()) / math.sqrt(len(each)), rel=1e-2)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_normalized_within_each_module() -> None:
    model = fresh("own")[1]
    plain, found = (fv.heads.importance(model, BATCHES, loss, normalize=n) for n in (False, True))
    for name in ("0", "1"):
        values, was = ([row.importance for row in t.rows if row.module == name] for t in (found, plain))
        assert sum(v**2 for v in values) == pytest.approx(1)
        assert values[0] / values[1] == pytest.approx(was[0] / was[1])


@pytest.mark.parametrize("name", ["bert", "bart", "multihead", "ours"])
def test_leaving_one_out_is_the_loss_that_is_missing(name: str) -> None:
    kind, model = fresh(name)

    def mine(model: nn.Module, weight: float) -> Tensor:
        return kind.run(model).square().mean() * weight

    path = next(iter(kind.projections))
    told: list[tuple[int, int]] = []
    found = fv.heads.importance(
        model,
        iter([1.0, 3.0]),
        mine,
        "leave-one-out",
        heads=[(path, 1), (path, 4)],
        progress=lambda *at: told.append(at),
    )
    assert told[-1] == (6, 6)
    with torch.no_grad():
        for row in found.rows:
            gone = kind.run(kind.scaled(model, {(path, row.head): 0.0})).square().mean()
            grown = float(gone - kind.run(model).square().mean())
            assert row.importance == pytest.approx(2 * grown, abs=1e-4, rel=1e-3)
            assert row.error == pytest.approx(abs(grown), abs=1e-4, rel=1e-3)


def summed(model: nn.Module, batch: Tensor) -> tuple[Tensor, int]:
    return model(batch).square().sum(), batch.shape[0] * batch.shape[1]


def test_a_sum_over_places_is_told_per_place() -> None:
    """Whatever batches it comes in; a mean over sequences of the same length says as much, divided by it."""
    model = fresh("own")[1]
    length = X.shape[1]

    def mean(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().sum((1, 2)).mean()

    for method in ("gradient", "leave-one-out"):
        want = fv.heads.importance(model, [X[:1], X[1:2]], mean, method)
        for batches in ([X[:2]], [X[:1], X[1:2]]):
            found = fv.heads.importance(model, batches, summed, method)
            for row, other in zip(found.rows, want.rows, strict=True):
                assert row.importance == pytest.approx(other.importance / length, rel=1e-3, abs=1e-5)
                if row.error is not None:
                    assert row.error == pytest.approx((other.error or 0) / length, rel=1e-2, abs=1e-5)
    uneven = [X[:1, :3], X]
    rows = fv.heads.importance(model, uneven, summed, "leave-one-out").rows
    sums = [fv.heads.importance(model, [b], summed, "leave-one-out").rows for b in uneven]
    places = [summed(model, b)[1] for b in uneven]
    for row, *each in zip(rows, *sums, strict=True):
        want_all = sum(one.importance * n for one, n in zip(each, places, strict=True)) / sum(places)
        assert row.importance == pytest.approx(want_all, rel=1e-3, abs=1e-5)


def test_heads_that_go_together_share_what_the_loss_grows() -> None:
    model = fresh("own")[1]
    units = [[(0, 1), (1, 2)], [(1, 0)]]
    found = fv.heads.importance(model, BATCHES, loss, "leave-one-out", units=units)
    assert found.pairs() == [("0", 1), ("1", 0), ("1", 2)]
    with torch.no_grad():
        whole = sum(float(loss(model, batch)) for batch in BATCHES)
        with fv.knockout(model, units[0]):
            grown = sum(float(loss(model, batch)) for batch in BATCHES) - whole
    assert found.rows[0].importance == found.rows[2].importance == pytest.approx(grown / 4, abs=1e-5)
    alone = fv.heads.importance(model, BATCHES, loss, "leave-one-out", heads=units[1])
    assert found.rows[1] == alone.rows[0]


def test_what_stays_stands_in_for_what_is_left_out() -> None:
    torch.manual_seed(0)
    model = fv.nn.Encoder(2, 24, 3, 16).eval()
    with torch.no_grad():  # head 1 of the first layer is a copy of head 0
        for name in ("query", "key", "value"):
            getattr(model.layers[0].attention, name).weight[8:16] = getattr(model.layers[0].attention, name).weight[:8]
    x = torch.randn(3, 50, 24)
    target = model(x).detach()

    def far(model: nn.Module, batch: Tensor) -> Tensor:
        return (model(batch) - target).square().mean()

    plain = fv.heads.importance(model, [x], far, "leave-one-out")
    found = fv.heads.importance(model, [x], far, "leave-one-out", stand_ins=fv.heads.moments(model, lambda: model(x)))
    assert found.pairs() == plain.pairs()
    assert found.rows[1].importance < 0.01 * plain.rows[1].importance
    assert all(0 < a.importance < b.importance for a, b in zip(found.rows, plain.rows, strict=True))


def test_gates_stay_open_where_a_head_matters() -> None:
    model = fresh("own")[1]
    with torch.no_grad():
        for layer in model:
            layer.out.weight.unflatten(1, (H, -1))[:, 3:] = 0  # nothing reads these heads
        target = model(X)
        for layer in model:
            layer.out.weight.unflatten(1, (H, -1))[:, 3:].normal_(0, 1e-3)

    def mine(model: nn.Module, batch: Tensor) -> Tensor:
        return (model(batch) - target).square().mean()

    options = Gates(steps=120, penalty=1e-3, learning_rate=0.2)
    found = fv.heads.importance(model, [X], mine, "gates", gates=options)
    needed = [row.importance for row in found.rows if row.head < 3]
    others = [row.importance for row in found.rows if row.head >= 3]
    assert min(needed) > 0.8
    assert max(others) < 0.3
    again = fv.heads.importance(model, [X], mine, "gates", gates=options)
    assert again.rows == found.rows
    left = fv.heads.importance(model, [X], mine, "leave-one-out")
    assert fv.heads.agreement(found, left)["spearman"] > 0.6
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_agreement_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")

    def table(values: list[float]) -> Importance:
        return Importance("gradient", tuple(Row("m", 0, "encoder", i, v) for i, v in enumerate(values)), 1)

    a, b = [0.1, 0.4, 0.4, 0.2, 0.9, 0.3], [1.0, 3.0, 2.0, 2.0, 2.5, 0.0]
    found = fv.heads.agreement(table(a), table(b))
    assert found["spearman"] == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found["kendall"] == pytest.approx(stats.kendalltau(a, b).statistic)
    assert found["heads"] == 6
    flat = fv.heads.agreement(table(a), table([1.0] * 6))
    assert math.isnan(flat["spearman"])
    assert math.isnan(flat["kendall"])
    with pytest.raises(ValueError, match="two heads or more; these have 1 in common"):
        fv.heads.agreement(table(a), table([1.0]))


def test_the_table_is_ranked_and_becomes_a_data_frame() -> None:
    model = fresh("own")[1]
    found = fv.heads.importance(model, BATCHES, loss, heads={(1, 2), (1, 0)})
    assert [row.head for row in found.rows] == [0, 2]
    values = [row.importance for row in found.ranked()]
    assert values == sorted(values, reverse=True)
    pytest.importorskip("pandas")
    frame = found.to_pandas()
    assert list(frame.columns) == ["module", "layer", "kind", "head", "importance", "error"]
    assert list(frame["head"]) == [0, 2]
    assert repr(found).startswith("Importance(gradient, 2 heads; first (1, ")


def test_a_model_of_keys_that_are_shared_and_one_that_is_recurrent() -> None:
    from changed import rnn, run_rnn

    kind, llama = fresh("llama")
    found = fv.heads.importance(llama, [0], lambda model, _: kind.run(model).square().mean())
    assert len(found) == 2 * H
    assert min(row.importance for row in found.rows) > 0
    model = rnn()
    assert len(fv.heads.importance(model, [0], lambda model, _: run_rnn(model).square().mean())) == 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "taylor"}, ValueError, "unknown method 'taylor'; expected one of 'gradient'"),
        ({"batches": []}, ValueError, "importance needs batches; got none"),
        ({"loss": lambda model, batch: model(batch)}, ValueError, "gives one floating number; got Tensor"),
        ({"loss": lambda model, batch: loss(model, batch) * math.nan}, ValueError, "is not finite"),
        ({"loss": lambda model, batch: loss(model, batch).detach()}, ValueError, "the loss has no gradient"),
        ({"heads": {(0, H)}}, ChangeError, "has heads 0 to 5"),
        ({"heads": {(7, 0)}}, ChangeError, "layer 7 fits none"),
        ({"heads": []}, ValueError, "importance needs heads; got none"),
        ({"method": "gates", "normalize": True}, ValueError, "normalize= goes with"),
        ({"units": [[(0, 1)]]}, ValueError, "units= and stand_ins= go with 'leave-one-out'"),
        ({"method": "gates", "stand_ins": {}}, ValueError, "units= and stand_ins= go with 'leave-one-out'"),
        ({**ALONE, "units": [[(0, 1)]], "heads": [(0, 1)]}, ValueError, "leave out heads="),
        ({**ALONE, "units": [[(0, 1)], [(0, 1)]]}, ValueError, "a head goes with one unit"),
        ({**ALONE, "stand_ins": {}}, ValueError, "has no attention that can be pruned"),
        ({"loss": lambda model, batch: (loss(model, batch), 0)}, ValueError, "one place or more; got 0"),
        ({"loss": lambda model, batch: (loss(model, batch), 0.5)}, ValueError, "how many places"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    given: dict[str, Any] = {"batches": BATCHES, "loss": loss, **options}
    with pytest.raises(error, match=text):
        fv.heads.importance(fresh("own")[1], **given)
    with pytest.raises(ValueError, match="gates need"):
        Gates(start=1.0)
    assert E % H == 0
