"""The forms of attention that can be measured: one line of the table each.

A form makes a function of (query, key, value), each (1, heads, n, width), for a length n; what that function does is
what is measured. Add a line, and the command, its help, the table and the plot know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import foveate as fv
from foveate.apps.cost.settings import Settings
from foveate.apps.errors import UsageError
from foveate.masks import Mask

__all__ = ["FORMS", "Form", "Run", "listing", "parse_form", "parse_forms"]

Run = Callable[[Tensor, Tensor, Tensor], Any]


@dataclass(frozen=True)
class Form:
    """One way to compute attention.

    `name` may end in `:X`, a whole number the user gives. `make(n, x)` makes the function that is measured, and
    `backend` is what that asks of `fv.attention`, if it does. Memory expected per query and key: `pairs` numbers of the
    inputs' dtype for each head, and `masks` bytes for all heads together.
    """

    name: str
    about: str
    make: Callable[[int, int], Run]
    backend: str = ""
    pairs: int = 0
    masks: int = 0

    @property
    def stem(self) -> str:
        return self.name.partition(":")[0]

    @property
    def parameter(self) -> str:
        return self.name.partition(":")[2]

    def expected_bytes(self, n: int, settings: Settings) -> int:
        """An estimate of the memory it needs at length n, inputs included, made before it runs."""
        rows = 10 * settings.heads * n * settings.width * max(4, settings.size)
        return rows + n * n * (self.pairs * settings.heads * settings.size + self.masks)


def attend(mask: Callable[[int, int], Mask | None] = lambda n, x: None, backend: str = "auto") -> Any:
    """`fv.attention` with a mask made for n."""

    def make(n: int, x: int) -> Run:
        chosen = mask(n, x)
        return lambda q, k, v: fv.attention(q, k, v, mask=chosen, backend=backend)

    return make


def statistics(n: int, x: int) -> Run:
    reducers = (fv.stats.Entropy(), fv.stats.TopK(8), fv.stats.Received(), fv.stats.Pooled(64, 64))
    return lambda q, k, v: fv.AttentionMap(q, k).reduce(*reducers)


def linear(n: int, x: int) -> Run:
    return lambda q, k, v: fv.linear_attention(q, k, v)


def eager(n: int, x: int) -> Run:
    return lambda q, k, v: torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def masked_sdpa(n: int, x: int) -> Run:
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        allowed = torch.ones(n, n, dtype=torch.bool).tril_()
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)

    return run


def _causal_window(n: int, w: int) -> Mask:
    return fv.masks.causal() & fv.masks.window(w)


def _documents(n: int, count: int) -> Mask:
    return fv.masks.documents(torch.arange(n) * count // n)


def _causal(n: int, x: int) -> Mask:
    return fv.masks.causal()


FORMS = (
    Form("softmax", "fv.attention, every key", attend(), "auto"),
    Form("causal", "fv.attention, the keys up to the query's place", attend(_causal), "auto"),
    Form("window:W", "fv.attention, the query's own key and the W before it", attend(_causal_window), "auto"),
    Form("documents:N", "fv.attention, N documents of equal length in one row", attend(_documents), "auto"),
    Form("blocks", "fv.attention(backend='blocks'), every key", attend(backend="blocks"), "blocks"),
    Form("linear", "fv.linear_attention, the keys up to the query's place", linear),
    Form("statistics", "entropy, top 8, received and a thumbnail of weights that are never formed", statistics),
    Form("sdpa-mask", "PyTorch's fused kernel, handed a causal n x n mask", masked_sdpa, masks=9),
    Form("eager", "softmax(q k) v in plain PyTorch, all weights formed", eager, pairs=2),
)


def listing() -> str:
    """The forms as the help shows them."""
    return "".join(f"  {form.name:13} {form.about}\n" for form in FORMS)


def parse_form(text: str) -> tuple[Form, int]:
    """The form of a text such as "causal" or "window:256", and its number (0 if it takes none).

    Raises:
        UsageError: there is no such form, or its number is missing or wrong.
    """
    stem, colon, number = text.strip().partition(":")
    form = next((form for form in FORMS if form.stem == stem), None)
    if form is None:
        raise UsageError(f"unknown form {stem!r}; expected some of {', '.join(form.name for form in FORMS)}")
    if not form.parameter:
        if colon:
            raise UsageError(f"the form {stem} takes no number; got {text.strip()!r}")
        return form, 0
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:12]) <= 1 << 26):
        raise UsageError(f"the form {form.name} takes a number of at least 1, as in {stem}:256; got {text.strip()!r}")
    return form, int(number)


def parse_forms(text: str) -> list[str]:
    """The names of forms, checked, in the order given.

    Raises:
        UsageError: one is unknown or there twice.
    """
    names = []
    for part in text.split(","):
        form, number = parse_form(part)
        name = f"{form.stem}:{number}" if form.parameter else form.stem
        if name in names:
            raise UsageError(f"--forms names {name} twice")
        names.append(name)
    return names
