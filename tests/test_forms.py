"""docs/forms.md says what runs where, and running everything says the same."""

from __future__ import annotations

import pytest

import forms
import foveate as fv


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # inside torch.compile
def test_the_table_is_what_running_every_form_gives() -> None:
    if not fv.config().native:
        pytest.skip(f"the compiled core is not in use here: {fv.config().reason}")
    assert forms.page() == forms.PAGE.read_text(encoding="utf-8"), "run `python tests/forms.py`, and look at the change"


def test_a_wrong_result_is_no_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(forms.BACKENDS, "blocks", lambda *args: forms.BACKENDS["reference"](*args) * 1.001)
    with pytest.raises(AssertionError, match="blocks is wrong, f"):
        forms.cell(forms.MASKS["causal"], "blocks")
