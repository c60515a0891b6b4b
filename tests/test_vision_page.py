"""`foveate view MODEL --image`: vision models in folders, the page that shows them, and mistakes in one sentence.

FOVEATE_SCREENSHOTS=DIR keeps pictures to look at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foveate as fv
from foveate.apps import cli
from foveate.apps.errors import UserError
from foveate.apps.picturing import PictureModel
from hf_models import transformers
from pages import CHROMIUM, alerted, open_page, settled
from tiny import save_tokenizer
from vision_models import BLIP_TEXT, KINDS, TEXT

pytestmark = pytest.mark.usefixtures("one_thread")
SIZED = {"size": {"height": 24, "width": 24}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models as they are saved, with an image processor and a tokenizer where they have one."""
    root = tmp_path_factory.mktemp("vision")
    options: dict[str, dict[str, Any]] = {
        "vit-classifier": {"id2label": {0: "a house", 1: "a boat"}},
        "deit": {}, "dinov2-registers": {}, "bare": {}, "clip": {"text_config": {**TEXT, "eos_token_id": 3}},
        **{name: {"text_config": {**BLIP_TEXT, "bos_token_id": 4, "sep_token_id": 3}}
           for name in ("blip-caption", "blip-answer", "blip-match")},
    }  # fmt: skip
    for name, more in options.items():
        kind, folder = KINDS["vit" if name == "bare" else name], root / name
        kind.build("eager", **more).save_pretrained(folder)
        if name != "bare":
            transformers.ViTImageProcessorPil(**SIZED).save_pretrained(folder)
        if kind.takes:
            save_tokenizer(folder)
    return {name: root / name for name in options}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    draw = np.random.default_rng(3)
    Image.fromarray(draw.integers(0, 256, (40, 60, 3), dtype=np.uint8)).resize((60, 40)).save(path)
    return path


def nothing(progress: float, message: str) -> None:
    pass


@pytest.mark.parametrize("name", ["vit-classifier", "deit", "dinov2-registers", "clip"])
def test_a_picture_is_read_and_rolled_out(name: str, folders: dict[str, Path], image: Path) -> None:
    model = PictureModel(str(folders[name]), image)
    source = model.run("", None, nothing)
    document = source.document()
    (sequence,) = document.sequences
    assert sequence.picture is not None and sequence.picture.first == KINDS[name].first
    assert len(sequence.source.text) == KINDS[name].first + 9
    *layers, rolled = document.calls
    assert len(layers) == 2 and rolled.label == "rollout"
    assert document.focus is not None and (document.focus.call, document.focus.token) == (rolled.index, 0)
    assert document.notes == ()

    network = model.load(nothing)
    tower = getattr(network, "vision_model", network)
    with torch.no_grad(), fv.watch(tower) as seen:
        tower(model.pixel_values)
    row = source.row(rolled.index, 0, 0, "reads", "token")[0]
    torch.testing.assert_close(row, fv.faithful.rollout(seen, rows=0)[0], atol=1e-6, rtol=0)
    if name == "vit-classifier":
        share, label = tower(model.pixel_values).logits.detach().softmax(-1)[0].max(0)
        assert document.message == f"{('a house', 'a boat')[int(label)]} ({float(share):.0%})"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("blip-caption", ""),
        ("blip-answer", "the cat sat . -> "),
        ("blip-match", "The text fits the picture with probability "),
    ],
)
def test_words_read_the_picture(name: str, told: str, folders: dict[str, Path], image: Path) -> None:
    model = PictureModel(str(folders[name]), image)
    source = model.run("the cat sat .", None, nothing)
    document = source.document()
    (sequence,) = document.sequences
    assert sequence.target is not None and sequence.target.text[1:4] == ("the", "cat", "sat")
    cross = [call for call in document.calls if call.kind == "cross"]
    assert [(call.rows, call.columns, call.queries, call.keys) for call in cross] == [
        ("target", "source", len(sequence.target), 10)
    ] * 2
    assert {(call.rows, call.causal) for call in document.calls if call.kind == "decoder"} == {
        ("target", name == "blip-caption")
    }
    assert document.message.startswith(told)
    assert document.focus is not None and (document.focus.call, document.focus.token) == (cross[-1].index, 3)
    other = model.run("a dog", None, nothing).document().sequences[0]
    assert other.target is not None and "dog" in other.target.text and other.picture is model.pictures[0]


def test_a_caption_is_written_where_none_is_given(folders: dict[str, Path], image: Path) -> None:
    model = PictureModel(str(folders["blip-caption"]), image)
    document = model.run("", None, nothing).document()
    assert document.message.startswith("It writes: ")
    written = model.load(nothing).generate(model.pixel_values, max_new_tokens=32, do_sample=False)
    target = document.sequences[0].target
    assert target is not None and 0 <= written.shape[1] - len(target) <= 1  # the end symbol is not read


def test_another_size_than_the_model_learned_from(image: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    KINDS["vit"].build().save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 32}).save_pretrained(tmp_path)
    document = PictureModel(str(tmp_path), image).run("", None, nothing).document()
    picture = document.sequences[0].picture
    assert picture is not None and (picture.rows, picture.columns) == (2, 4)


def test_without_a_processor_what_is_assumed_is_said(
    capsys: pytest.CaptureFixture[str], folders: dict[str, Path], image: Path, tmp_path: Path
) -> None:
    model = PictureModel(str(folders["bare"]), image)
    note = model.run("", None, nothing).document().notes[0]
    assert "no image processor was saved with bare: the whole picture was resized to the size" in note
    wanted = np.asarray(fv.vision.read(image).resize((24, 24)))
    assert np.array_equal(model.pictures[0].pixels, wanted)
    page = tmp_path / "page.html"
    assert cli.main(["view", str(folders["bare"]), "--image", str(image), "--export", str(page)]) == 0
    assert "no image processor was saved" in capsys.readouterr().err
    assert page.stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "options", "code", "told"),
    [
        ("vit-classifier", ["--text", "a cat"], 2, "no word reads the picture in vit-classifier: leave out --text"),
        ("clip", ["--text", "a cat"], 2, "is shown by --text without --image"),
        ("blip-match", [], 2, "reads a picture and a text: add --text"),
        ("blip-match", ["--text", "cat " * 80], 1, "The text has 82 tokens; blip-match takes at most 64"),
        ("bare", ["--target", "a"], 2, "--image and --target do not go together"),
        ("bare", ["--generate", "3"], 2, "--image and --generate do not go together"),
    ],
)
def test_mistakes_are_one_sentence(
    name: str, options: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str],
    folders: dict[str, Path], image: Path,
) -> None:  # fmt: skip
    try:
        found = cli.main(["view", str(folders[name]), "--image", str(image), *options])
    except SystemExit as end:
        found = end.code
    said = capsys.readouterr().err
    assert found == code
    assert told in said and "Traceback" not in said


def test_models_and_files_that_are_not_for_this(folders: dict[str, Path], image: Path, tmp_path: Path) -> None:
    config = transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=12, depths=[1], num_heads=[2])
    transformers.SwinModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"type 'swin' are which patches"):
        PictureModel(str(tmp_path), image)
    with pytest.raises(UserError, match="is no picture"):
        PictureModel(str(folders["bare"]), __file__)
    with pytest.raises(UserError, match="There is no folder"):
        PictureModel(str(tmp_path / "a" / "b"), image)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match="Cannot read the image processor of"):
        PictureModel(str(tmp_path), image)


def test_the_texts_tower_is_shown_without_a_picture(folders: dict[str, Path]) -> None:
    from foveate.apps.models import HubModel

    document = HubModel(str(folders["clip"])).run("the cat sat", None, nothing).document()
    assert document.sequences[0].source.text[1:4] == ("the", "cat", "sat")
    assert [(call.keys, call.causal) for call in document.calls] == [(5, True)] * 2


def keep_picture(tab: Any, name: str) -> None:
    folder = os.environ.get("FOVEATE_SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM")
def test_another_text_is_typed_under_the_same_picture(
    tab: Any, serve: Any, folders: dict[str, Path], image: Path
) -> None:
    model = PictureModel(str(folders["blip-match"]), image)
    open_page(tab, serve(model.run("the cat sat", None, nothing), model=model).url)
    assert tab.locator(".fv-picture").count() == 1
    keep_picture(tab, "blip")
    box = tab.get_by_role("textbox", name="Text", exact=True)
    box.fill("a dirty dog")
    box.press("Enter")
    tab.locator('[data-token][data-side="query"]').filter(has_text="dirty").wait_for()
    settled(tab)
    assert tab.locator(".fv-picture").count() == 1
    box.fill("cat " * 80)
    box.press("Enter")
    alerted(tab, "takes at most 64")
    assert tab.locator(".fv-picture").count() == 1


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM")
def test_rollout_is_on_the_picture_and_no_text_is_asked_for(
    tab: Any, serve: Any, folders: dict[str, Path], image: Path
) -> None:
    source = PictureModel(str(folders["vit-classifier"]), image).run("", None, nothing)
    open_page(tab, serve(source).url)
    assert not tab.get_by_role("button", name="Run").is_visible()
    row = source.row(2, 0, 0, "reads", "token")[0]
    assert tab.locator(".fv-picture").get_attribute("data-strongest") == str(1 + int(row[1:].argmax()))
    keep_picture(tab, "vit")
