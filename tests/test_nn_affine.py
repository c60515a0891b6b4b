"""Linear layers by oneDNN: the same numbers, and only where nobody notices more than a rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foveate.nn import RNNEncoderDecoder, affine
from foveate.nn.affine import Linear, linear

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this PyTorch has no oneDNN",
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a processor where oneDNN is the better one; how many rows it was asked for."""
    seen: list[int] = []

    def ready() -> bool:
        seen.append(1)
        return True

    monkeypatch.setattr(affine, "_is_better", ready)
    return seen


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "x",
    [
        drawn(40, 24),
        drawn(3, 9, 24),
        drawn(2, 2, 5, 24),
        drawn(24, 40).mT,
        drawn(1, 24).expand(32, 24),
        drawn(20, 3, 24)[:, 1],
        drawn(40, 48)[:, ::2],
        drawn(41, 24)[1:],
    ],
    ids=["rows", "batch", "4-D", "transposed", "expanded", "cut", "strided", "shifted"],
)
def test_it_is_a_linear_layer(x: Tensor, bias: bool, asked: list[int]) -> None:
    for weight in (drawn(17, 24), drawn(24, 17).mT, drawn(34, 24)[::2]):
        b = drawn(17) if bias else None
        found = linear(x, weight, b)
        torch.testing.assert_close(found, nn.functional.linear(x, weight, b), rtol=1e-5, atol=1e-5)
        assert found.is_contiguous()
    assert len(asked) == 3


@needs_onednn
def test_odd_numbers_stay_odd(asked: list[int]) -> None:
    x = drawn(30, 8)
    x[3, 2], x[5, 1], x[7, 0] = torch.nan, torch.inf, -torch.inf
    found, wanted = linear(x, drawn(6, 8)), nn.functional.linear(x, drawn(6, 8))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert torch.isnan(found[3]).all()
    assert asked


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (drawn(5, 8), drawn(6, 8)),
        (drawn(30, 8).double(), drawn(6, 8).double()),
        (drawn(30, 8).bfloat16(), drawn(6, 8).bfloat16()),
        (drawn(0, 8), drawn(6, 8)),
        (drawn(30, 0), drawn(6, 0)),
        (drawn(30, 8), nn.Parameter(drawn(6, 8))),
        (drawn(30, 8).requires_grad_(), drawn(6, 8)),
        (drawn(30, 8).to("meta"), drawn(6, 8).to("meta")),
    ],
    ids=["few rows", "float64", "bfloat16", "no rows", "no width", "weights learn", "inputs learn", "meta"],
)
def test_everything_else_goes_the_usual_way(x: Tensor, weight: Tensor, asked: list[int]) -> None:
    found = linear(x, weight)
    assert found.shape == (len(x), len(weight))
    assert found.requires_grad == (x.requires_grad or weight.requires_grad)
    assert not asked


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # jvp's own
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")  # said whenever a flag is set
def test_transforms_autocast_and_the_switch_of_pytorch(asked: list[int]) -> None:
    x, layer = drawn(30, 8), Linear(8, 6).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch.func.vmap(layer)(x[:, None])
    torch.func.jvp(layer, (x,), (x,))
    with torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    assert "linear" in torch.fx.symbolic_trace(nn.Sequential(layer)).code
    assert not asked
    layer(x)
    assert len(asked) == 1


def test_it_is_loaded_and_found_as_a_linear_layer() -> None:
    own, theirs = Linear(8, 6), nn.Linear(8, 6)
    own.load_state_dict(theirs.state_dict())
    assert isinstance(own, nn.Linear)
    torch.testing.assert_close(own(drawn(3, 8)), theirs(drawn(3, 8)))
    assert repr(own) == repr(theirs)


@pytest.mark.parametrize(
    ("capability", "cpu", "wanted"),
    [
        ("AVX512", "vendor_id\t: AuthenticAMD", True),
        ("AVX512", "vendor_id\t: GenuineIntel", False),
        ("AVX2", "vendor_id\t: AuthenticAMD", False),
        ("AVX512", None, False),
    ],
)
@needs_onednn
def test_which_processors_are_meant(
    monkeypatch: pytest.MonkeyPatch, capability: str, cpu: str | None, wanted: bool
) -> None:
    def read(path: Any) -> str:
        if cpu is None:
            raise FileNotFoundError(str(path))
        return cpu

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(affine.Path, "read_text", read)
    monkeypatch.setattr(affine.platform, "machine", lambda: "x86_64")
    before = torch.get_rng_state()
    assert affine._is_better.__wrapped__() is wanted
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *given: torch.zeros(affine.FEWEST_ROWS, 5))
    assert affine._is_better.__wrapped__() is False


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("length", [1, 7])
def test_a_gru_is_that_of_pytorch(asked: list[int], length: int) -> None:
    module = nn.GRU(6, 10, batch_first=True)
    x, start = drawn(40, length, 6), drawn(1, 40, 10)
    for found, wanted in zip(affine.gru(module, x, start), module(x, start), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert len(asked) == length + 1


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("attention", ["additive", "dot", "general", "none"])
def test_a_recurrent_model_by_either_library(asked: list[int], attention: Any) -> None:
    model = RNNEncoderDecoder(30, width=8, hidden=12, attention=attention).eval()
    source, lengths = torch.randint(0, 30, (20, 6)), torch.randint(1, 7, (20,))
    lengths[0] = 6
    given = source, lengths, torch.randint(0, 30, (20, 5))
    found = model(*given)
    steps = model.steps(source, lengths)
    step = [steps.advance(token) for token in given[2].unbind(1)]
    assert asked
    with torch.enable_grad():  # by PyTorch's own
        wanted = model(*given).detach()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(step, dim=1), model.logits(wanted), rtol=1e-4, atol=1e-4)
