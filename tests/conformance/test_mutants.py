"""Can these tests fail? Mistakes are put into the operator, one at a time; a mistake that nothing notices is a failure.

`python tests/conformance/test_mutants.py` prints how many checks of each suite notice each mistake.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
import torch
from torch import Tensor

import foveate as fv
import hf_models
import onnx_ops
import test_edge_cases
import test_onnx
import test_opinfo
from foveate import biases
from foveate.masks import given, positional
from foveate.normalizers import Softmax
from foveate.operator import blocks, sdpa
from foveate.operator.problem import Problem
from foveate.scores import Dot

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}
FIRST = {  # who is asked first, to save time; default ONNX
    "the first head's mask for all": "edge cases",
    "short masks aligned to the left": "edge cases",
    "a bias hides nothing": "edge cases",
    "dropout forgets to scale": "OpInfo",
    "sinks dropped": "transformers",
}
BACKENDS = ["auto", "blocks", "reference"]


def mutant(make: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MUTANTS[make.__name__.replace("_", " ")] = make
    return make


# --- masks


def _shift(by: int) -> Callable[[Patch], None]:
    def put(patch: Patch) -> None:
        right = positional.Band._offset
        patch.setattr(positional.Band, "_offset", lambda self, g: right(self, g) + by)

    return put


def _window(left: int, right: int) -> Callable[[Patch], None]:
    def put(patch: Patch) -> None:
        true = fv.masks.window

        def window(a: int, b: int | None = None, **where: Any) -> Any:
            return true(max(a + left, 0), max((a if b is None else b) + right, 0), **where)

        patch.setattr(fv.masks, "window", window)

    return put


MUTANTS |= {
    "causal sees one key too many": _shift(1),
    "causal sees one key too few": _shift(-1),
    "window one wider to the left": _window(1, 0),
    "window one narrower to the left": _window(-1, 0),
    "window one wider to the right": _window(0, 1),
}


@mutant
def an_offset_of_queries_is_one_off(patch: Patch) -> None:
    true = positional._offsets
    patch.setattr(positional, "_offsets", lambda offset: true(offset) + 1)


@mutant
def causal_always_aligned_to_the_end(patch: Patch) -> None:
    patch.setattr(positional.Band, "_offset", lambda self, g: g.offset)
    patch.setattr(sdpa, "is_plain_causal", lambda problem: False)


@mutant
def padding_one_key_too_long(patch: Patch) -> None:
    true = fv.masks.padding
    patch.setattr(
        fv.masks, "padding", lambda lengths, side="right": true(lengths.clamp(max=lengths.max() - 1) + 1, side)
    )


def _settle(change: Callable[[Tensor], Tensor]) -> Callable[[Patch], None]:
    def put(patch: Patch) -> None:
        true = given.Dense.settle
        patch.setattr(given.Dense, "settle", lambda self, layout, g: given.Dense(change(true(self, layout, g).table)))

    return put


MUTANTS |= {
    "the first sequence's mask for all": _settle(lambda t: t[:1]),
    "the first head's mask for all": _settle(lambda t: t[:, :1]),
    "the first query's mask for all": _settle(lambda t: t[:, :, :1]),
}


@mutant
def short_masks_aligned_to_the_left(patch: Patch) -> None:
    """(Q, K) read as (B, H, 1, 1) where that fits, and so on: what missing axes would mean if they came last."""
    true = given.expand_to

    def left(t: Tensor, layout: Any, g: Any, name: str) -> Tensor:
        wide = t.reshape(*t.shape, *(1,) * (len(layout.lead) + 3 - t.ndim))
        fits = all(a in (1, b) for a, b in zip(wide.shape, (*layout.lead, g.heads, g.queries, g.keys), strict=True))
        return true(wide if fits else t, layout, g, name)

    patch.setattr(given, "expand_to", left)


# --- heads


def _dealt(t: Tensor, heads: int) -> Tensor:
    """Key heads dealt out in turns, 0 1 2 0 1 2, instead of 0 0 1 1 2 2."""
    return t.repeat(1, heads // t.shape[1], 1, 1)


@mutant
def grouped_keys_dealt_out_in_turns(patch: Patch) -> None:
    def keys(self: Problem, batch: slice, heads: slice, columns: Any) -> Tensor:
        return _dealt(self.k_BGKD, self.q_BHQD.shape[1])[batch, heads][:, :, columns]

    patch.setattr(Problem, "_keys", keys)


@mutant
def grouped_values_dealt_out_in_turns(patch: Patch) -> None:
    patch.setattr(blocks, "_matmul", lambda w, v: w @ _dealt(v, w.shape[1]))


@mutant
def grouped_heads_dealt_out_in_turns_in_the_reference(patch: Patch) -> None:
    patch.setattr(torch.Tensor, "repeat_interleave", lambda t, n, dim: _dealt(t, t.shape[dim] * n))


# --- scores and normalisers


@mutant
def softcap_dropped(patch: Patch) -> None:
    patch.setattr(Dot, "__call__", lambda self, q, k: (q * (self.scale or 1.0)) @ k.mT)


@mutant
def softcap_before_the_scale(patch: Patch) -> None:
    def late(self: Dot, q: Tensor, k: Tensor) -> Tensor:
        s = q @ k.mT
        s = s if self.softcap is None else torch.tanh(s / self.softcap) * self.softcap
        return s * (self.scale or 1.0)

    patch.setattr(Dot, "__call__", late)


@mutant
def everything_goes_to_the_fused_kernel(patch: Patch) -> None:
    patch.setattr(sdpa, "obstacle", lambda problem, value: None)


@mutant
def scale_is_one_over_the_width(patch: Patch) -> None:
    patch.setattr(Dot, "settle", lambda self, scale, h, width, _: replace(self, scale=scale or self.scale or 1 / width))


@mutant
def scale_given_is_ignored(patch: Patch) -> None:
    patch.setattr(Dot, "settle", lambda self, scale, h, width, _: replace(self, scale=self.scale or width**-0.5))


@mutant
def a_row_that_sees_nothing_is_not_safe(patch: Patch) -> None:
    patch.setattr(sys.modules[Softmax.__module__], "safe", lambda x: x)


@mutant
def a_row_that_sees_nothing_reads_the_mean(patch: Patch) -> None:
    true = Softmax.weights

    def mean(self: Softmax, s: Tensor, statistic: Tensor, columns: Any = slice(0, 0)) -> Tensor:
        return torch.where(
            (statistic == -torch.inf)[..., None], 1 / max(1, s.shape[-1]), true(self, s, statistic, columns)
        )

    patch.setattr(Softmax, "weights", mean)


@mutant
def sinks_dropped(patch: Patch) -> None:
    patch.setattr(fv.normalizers, "softmax", lambda sinks=None: Softmax())


@mutant
def bias_dropped(patch: Patch) -> None:
    patch.setattr(biases, "resolve", lambda *_: None)


@mutant
def a_bias_hides_nothing(patch: Patch) -> None:
    patch.setattr(biases.Given, "hidden", lambda *_: None)


@mutant
def dropout_forgets_to_scale(patch: Patch) -> None:
    true = torch.nn.functional.dropout
    patch.setattr(torch.nn.functional, "dropout", lambda t, p: true(t, p) * (1 - p))


@mutant
def rotary_pairs_the_other_way(patch: Patch) -> None:
    other = {"halves": "interleaved", "interleaved": "halves"}
    true = fv.positions.rotate
    patch.setattr(fv.positions, "rotate", lambda x, cos, sin, pairing: true(x, cos, sin, pairing=other[pairing]))


# --- what may notice them

Check = Callable[[], Any]


def _onnx() -> Iterator[Check]:
    for name in test_onnx.PASSING:
        case = test_onnx.CASES[name]
        for backend in BACKENDS if case.op in onnx_ops.HAVE_BACKENDS else BACKENDS[:1]:
            yield functools.partial(onnx_ops.run, case, backend)


def _opinfo() -> Iterator[Check]:
    for backend in BACKENDS:
        yield functools.partial(test_opinfo.test_every_sample_in_double, backend)


def _transformers() -> Iterator[Check]:
    def compare(name: str) -> None:
        ours, theirs = _output(name, "foveate"), _eager(name)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    for name in hf_models.FAMILIES:
        yield functools.partial(compare, name)


def _output(name: str, implementation: str) -> Tensor:
    """The first sequence's, which has no padding, so that each row sees a key."""
    family = hf_models.FAMILIES[name]
    with torch.no_grad():
        out = family.build(implementation)(**hf_models.make_inputs(family.inputs))
    return hf_models.tensors(out)[0][0]


_eager = functools.cache(functools.partial(_output, implementation="eager"))


def _edge_cases() -> Iterator[Check]:
    """Those of the operator's own tests that say what a mask, an empty row or a lowest number must give."""
    for backend in BACKENDS:
        yield functools.partial(test_edge_cases.test_masks_align_by_their_last_axes, backend)
        for lowest in ("finfo.min", "-inf"):
            yield functools.partial(
                test_edge_cases.test_a_float_mask_of_the_lowest_number, backend, torch.float64, lowest
            )
        for name in test_edge_cases.EMPTY_ROWS:
            yield functools.partial(test_edge_cases.test_a_row_that_may_see_no_key, backend, name)
        for shape in test_edge_cases.SHORT:
            yield functools.partial(test_edge_cases.test_masks_and_biases_broadcast, backend, shape)


SUITES = {"ONNX": _onnx, "OpInfo": _opinfo, "transformers": _transformers, "edge cases": _edge_cases}


def notices(check: Check) -> bool:
    """Any error will do: a shape that no longer fits is a mistake noticed."""
    torch.manual_seed(0)
    try:
        check()
    except Exception:
        return True
    return False


def caught_by(make: Callable[[Patch], None], first: str | None = None) -> dict[str, int]:
    """How many checks of which suite notice a mutant. With `first`, that suite is asked first, and one is enough."""
    found: dict[str, int] = {}
    fv.hf.register()
    for name in sorted(SUITES, key=lambda name: name != first):
        for check in SUITES[name]():
            with pytest.MonkeyPatch.context() as patch:
                make(patch)
                if notices(check):
                    found[name] = found.get(name, 0) + 1
                    if first:
                        return found
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_noticed(name: str) -> None:
    assert caught_by(MUTANTS[name], FIRST.get(name, "ONNX")), f"nothing notices that {name}"


def test_without_a_mutant_nothing_is_noticed() -> None:
    """The other suites are tests already."""
    fv.hf.register()
    assert not [check for check in SUITES["transformers"]() if notices(check)]


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    totals = {name: len(list(suite())) for name, suite in SUITES.items()}
    print("| mistake |", " | ".join(f"{name}, of {n}" for name, n in totals.items()), "|")
    for name, make in MUTANTS.items():
        found = caught_by(make)
        print(f"| {name} |", " | ".join(str(found.get(suite, 0)) for suite in SUITES), "|")
