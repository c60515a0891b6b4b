"""What watch promises beside the numbers: names, order, filters, copies, errors, and that it leaves no trace."""

from __future__ import annotations

import copy
import gc
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import foveate as fv
from foveate.watch import CaptureError, CaptureWarning

B, H, Q, D = 2, 3, 5, 4


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(H * D, 3 * H * D)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (H, D)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return x + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


class Tower(nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.ModuleDict({"attn": Attention(), "norm": nn.LayerNorm(H * D)}) for _ in range(layers)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer["norm"](layer["attn"](x))
        return x


def run(model: nn.Module, x: Tensor | None = None, **options: Any) -> Any:
    with torch.no_grad(), fv.watch(model, **options) as seen:
        model(torch.randn(B, Q, H * D) if x is None else x)
    return seen


def stack() -> int:
    return torch._C._len_torch_function_stack()


def test_names_are_module_paths_in_the_order_of_their_calls() -> None:
    seen = run(Tower())
    assert seen.layers == ("layers.0.attn", "layers.1.attn", "layers.2.attn")
    info = seen.info("layers.1.attn")
    assert (info.layer, info.label, info.kind, info.heads, info.module) == (1, "layer 1", "decoder", H, "Attention")
    assert list(seen) == list(seen.layers)
    assert seen.heads == (H, H, H)


def test_the_model_itself_goes_by_its_class() -> None:
    assert run(Attention()).layers == ("Attention",)


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        ("layers.1", [1]),
        ("*.1.*", [1]),
        (["layers.0.attn", "*.2.attn"], [0, 2]),
        ("*attn", [0, 1, 2]),
    ],
)
def test_layers_are_chosen_by_globs_and_paths(layers: Any, kept: list[int]) -> None:
    assert run(Tower(), layers=layers).layers == tuple(f"layers.{i}.attn" for i in kept)


def test_a_choice_that_matches_no_module_says_which_there_are() -> None:
    with pytest.raises(CaptureError, match=r"layers=\['encoder.\*'\] matches no module of Tower; .*layers.0.attn"):
        run(Tower(), layers="encoder.*")


def test_a_choice_without_attention_says_where_attention_ran() -> None:
    with pytest.raises(CaptureError, match=r"in which attention ran; it ran in layers.0.attn, layers.1.attn"):
        run(Tower(2), layers="*.norm")


def test_several_calls_of_one_module_keep_their_order() -> None:
    model, inputs = Tower(2), [torch.randn(B, n, H * D) for n in (5, 7, 2)]
    with fv.watch(model) as seen:
        for x in inputs:
            model(x)
    calls = seen["layers.0.attn"]
    assert [call.shape[-1] for call in calls] == [5, 7, 2]
    assert calls[-1].shape == (B, H, 2, 2)
    assert [(name, step) for name, step, *_ in seen.calls()] == [
        (f"layers.{i}.attn", step) for step in range(3) for i in range(2)
    ]
    with pytest.raises(IndexError, match="was called 3 times; there is no call 3"):
        calls[3]


def test_one_module_used_twice_is_a_sequence() -> None:
    shared = Attention()
    assert len(run(nn.Sequential(shared, shared))["0"]) == 2


def test_keep_qk_leaves_values_out() -> None:
    assert run(Attention())["Attention"].value is None
    assert run(Attention(), keep="qkv")["Attention"].value.shape == (B, H, Q, D)


def test_copies_do_not_change_when_the_models_tensors_do() -> None:
    cache = torch.randn(B, H, Q, D)

    class Static(nn.Module):
        def forward(self) -> Tensor:
            return F.scaled_dot_product_attention(cache, cache, cache)

    model = Static()
    with torch.inference_mode(), fv.watch(model) as seen:
        model()
    kept = seen["Static"].dense()
    cache.zero_()
    assert torch.equal(seen["Static"].dense(), kept)
    assert not seen.read("Static", "query").is_inference()


def test_a_bool_mask_is_not_shared_with_the_model_either() -> None:
    table = torch.rand(Q, Q) > 0.5
    table[:, 0] = True

    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, attn_mask=table)

    model = Masked()
    with fv.watch(model) as seen:
        model(torch.randn(B, H, Q, D))
    kept = seen["Masked"].dense()
    table.fill_(True)
    assert torch.equal(seen["Masked"].dense(), kept)


def test_straight_to_disk(tmp_path: Path) -> None:
    model, x = Tower(), torch.randn(B, Q, H * D)
    want = run(model, x, keep="qkv")
    seen = run(model, x, keep="qkv", to=tmp_path / "run.fov", dtype=torch.float16)
    assert seen.nbytes == 0  # nothing in memory
    again = fv.load(tmp_path / "run.fov")
    assert again.complete
    for name in want:
        assert again.read(name, "key").dtype == torch.float16
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name].query, want[name].query.half())
        assert torch.equal(again[name].dense(), seen[name].dense())
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        run(model, x, to=tmp_path / "run.fov")
    run(Tower(1), x, to=tmp_path / "run.fov", overwrite=True)
    assert len(fv.load(tmp_path / "run.fov")) == 1


def test_what_came_before_an_error_is_on_disk(tmp_path: Path) -> None:
    from foveate.recording import RecordingWarning

    model = Tower(2)
    with pytest.raises(ZeroDivisionError), fv.watch(model, to=tmp_path / "run.fov"):  # noqa: PT012
        model(torch.randn(B, Q, H * D))
        1 / 0  # noqa: B018
    with pytest.warns(RecordingWarning, match="2 complete calls"):
        assert len(fv.load(tmp_path / "run.fov")) == 2


def test_nothing_captured_raises_and_names_what_was_tried() -> None:
    with pytest.raises(CaptureError, match="the model was not called inside the `with`"), fv.watch(Tower()):
        pass
    with pytest.raises(
        CaptureError, match=r"Linear called none of .*F.scaled_dot_product_attention.* call foveate.attention"
    ):
        run(nn.Linear(H * D, 2))


class ByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.mT, -1) @ x


@pytest.mark.parametrize("softmax", [torch.softmax, F.softmax, Tensor.softmax, lambda s, d: nn.Softmax(d)(s)])
def test_handwritten_softmax_beside_attention_is_reported(softmax: Any) -> None:
    class Hand(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return softmax(x @ x.mT, -1) @ x

    with pytest.warns(CaptureWarning, match=r"1: a softmax over scores of shape \(2, 5, 5\)"):
        seen = run(nn.Sequential(Attention(), Hand()))
    assert seen.layers == ("0",)
    assert seen.not_captured == ("1: a softmax over scores of shape (2, 5, 5) ran in it",)


def test_a_softmax_over_classes_or_outside_the_choice_is_not_reported() -> None:
    assert run(nn.Sequential(Attention(), nn.Softmax(-1))).not_captured == ()
    assert run(nn.Sequential(Attention(), ByHand()), layers="0").not_captured == ()


def test_the_blocks_own_error_wins_and_nothing_stays_attached() -> None:
    model = Tower()
    with pytest.raises(RuntimeError, match="mine"), fv.watch(model):
        raise RuntimeError("mine")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), fv.watch(model):
        model(torch.randn(B, Q, 1))
    assert all("forward" not in vars(module) for module in model.modules())
    assert stack() == 0
    from foveate.watch.frames import frames

    assert frames() == []


def test_other_function_modes_stay_where_they_were() -> None:
    class Other(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Other.calls += 1
            return func(*args, **(kwargs or {}))

    with Other():
        run(Tower())
        assert stack() == 1
    assert stack() == 0
    assert Other.calls > 10


def test_two_watches_on_one_model_both_see() -> None:
    model, x = Tower(2), torch.randn(B, Q, H * D)
    with fv.watch(model) as outer:
        model(x)
        with fv.watch(model, layers="layers.0") as inner:
            model(x)
        model(x)
    assert [len(outer[name]) for name in outer] == [3, 3]
    assert inner["layers.0.attn"].shape == (B, H, Q, Q)
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_model_that_runs_in_another_thread_is_seen_there() -> None:
    model, x = Tower(2), torch.randn(B, Q, H * D)
    with fv.watch(model) as seen:
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        thread.join()
    assert len(seen) == 2


def test_a_forward_that_someone_else_has_replaced_comes_back() -> None:
    model = Attention()
    original = model.forward
    model.forward = lambda x: original(x) * 2  # type: ignore[method-assign]
    mine = model.forward
    run(model)
    assert vars(model)["forward"] is mine


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_large_copies_are_the_models_numbers_and_nobody_elses(dtype: torch.dtype | None) -> None:
    """Large copies lie in maps of their own: neither of two watches reaches the other or the model."""

    class Plain(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

    model, x = Plain(), torch.randn(3, 1, 8, 1024, 64)
    wanted = x.to(dtype or x.dtype, copy=True)
    with torch.no_grad(), fv.watch(model, dtype=dtype) as first, fv.watch(model, dtype=dtype) as second:
        model(*x)
    x.zero_()
    first["Plain"].query.fill_(7)
    gc.collect()
    assert torch.equal(second["Plain"].query, wanted[0])
    assert torch.equal(second["Plain"].key, wanted[1])
    assert torch.equal(first["Plain"].key, wanted[1])


def test_copies_of_a_watched_model_are_not_watched() -> None:
    model, x = Tower(1), torch.randn(B, Q, H * D)
    with fv.watch(model) as seen:
        model(x)
        twin = copy.deepcopy(model)
        for p in twin.parameters():
            p.data.zero_()
        twin(x)
    assert seen["layers.0.attn"].shape == (B, H, Q, Q)  # one call
    assert not torch.equal(twin(x), model(x))


def test_signatures_are_still_the_models_own() -> None:
    import inspect

    model = Tower(1)
    with pytest.raises(CaptureError, match="not called"), fv.watch(model):
        assert list(inspect.signature(model.forward).parameters) == ["x"]


def test_a_recording_does_not_hold_the_model() -> None:
    model = Tower(1)
    held = weakref.ref(model)
    seen = run(model)
    del model
    gc.collect()
    assert held() is None
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": "kv"}, "unknown keep 'kv'; expected 'qk' or 'qkv'"),
        ({"dtype": torch.int8}, "dtype must be a floating point dtype; got torch.int8"),
    ],
)
def test_unknown_options_are_errors(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fv.watch(Tower(), **options)
    with pytest.raises(ValueError, match=r"watch takes an nn\.Module; got str"):
        fv.watch("bert")  # type: ignore[arg-type]


def test_data_parallel_is_refused_with_a_remedy() -> None:
    with pytest.raises(CaptureError, match=r"watch `model\.module` instead"):
        fv.watch(nn.DataParallel(Tower())).__enter__()


def test_unknown_names_suggest_close_ones() -> None:
    seen = run(Tower())
    with pytest.raises(KeyError, match=r"no recorded module 'layers.1.atn'; there is 'layers.1.attn'"):
        seen["layers.1.atn"]
    with pytest.raises(KeyError, match="unknown role 'weights'; expected one of query, key, value"):
        seen.read("layers.1.attn", "weights")


def test_the_page_about_watch_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "watch.md").read_text()
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/watch.md", "exec"), scope)
    assert scope["weights"].shape == (2, 4, 9, 9)
    assert fv.load("run.fov").info("layers.1.self_attn") == scope["info"]


def test_the_repr_says_what_there_is() -> None:
    text = repr(run(Tower(8)))
    assert text.startswith("Recording of Tower: 8 modules, 8 calls")
    assert "layers.0.attn  decoder  (2, 3, 5, 5)" in text
    assert "... and 2 more" in text
    assert repr(fv.Recording()) == "Recording of a model: nothing recorded yet"
