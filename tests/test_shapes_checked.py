"""The shapes written in signatures, checked at run time in a session of its own, where wrong ones are caught.

A usual session does not check them, as that costs time, and as tests of our own errors pass arguments of wrong types.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WRONG = """
import conftest, torch, jaxtyping
from foveate import AttentionMap, masks
from foveate.normalizers import softmax
from foveate.operator import reference, blocks, Problem
from foveate.scores import Dot

p = AttentionMap(torch.zeros(2, 6, 5, 11), torch.zeros(2, 3, 7, 11)).problem
wrong = {
    "one axis too few": lambda: Problem(p.q_BHQD[0], p.k_BGKD, p.score, p.normalizer),
    "another batch": lambda: Problem(p.q_BHQD, p.k_BGKD[:1], p.score, p.normalizer),
    "whole numbers": lambda: Problem(p.q_BHQD.long(), p.k_BGKD, p.score, p.normalizer),
    "values without heads": lambda: reference.output(p, torch.zeros(2, 7, 13)),
    "a statistic per key": lambda: softmax().weights(torch.zeros(2, 6, 5, 7), torch.zeros(2, 6, 7)),
    "a score that swaps its axes": lambda: Dot()(torch.zeros(2, 5, 11), torch.zeros(3, 7, 11)),
}
for name, make in wrong.items():
    try:
        make()
    except jaxtyping.TypeCheckError:
        continue
    raise SystemExit(f"not caught: {name}")
print("all caught")
"""


def run(*arguments: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    environment.pop("FOVEATE_CHECK_SHAPES", None)
    if checked:
        environment["FOVEATE_CHECK_SHAPES"] = "1"
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=HERE.parent, timeout=300
    )


@pytest.mark.skipif("FOVEATE_CHECK_SHAPES" in os.environ, reason="this session checks shapes itself")
def test_the_operator_keeps_to_the_shapes_it_writes_down() -> None:
    files = [str(HERE / f"test_{name}.py") for name in ("attention", "map", "stats")]
    some = "many_blocks or leading or softcap or of_ones_own or every_reducer or merged or explain or rows_split"
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", some, *files)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_wrong_shapes_are_caught_when_checked() -> None:
    done = run("-c", WRONG)
    assert done.stdout == "all caught\n", done.stdout + done.stderr[-2000:]


def test_they_would_not_be_without_the_check() -> None:
    """So the test above can fail."""
    done = run("-c", WRONG, checked=False)
    assert "not caught: one axis too few" in done.stderr
