"""Which tokens are which patches, the pixels that a model saw, pictures out of files, rollout, and patches drawn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foveate as fv
from hf_models import transformers
from vision_models import KINDS, inputs_of

pytestmark = pytest.mark.usefixtures("one_thread")

PROCESSORS = {
    "ViTImageProcessorPil": {"size": {"height": 24, "width": 32}},
    "CLIPImageProcessorPil": {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}},
    "DeiTImageProcessorPil": {"size": {"height": 32, "width": 32}, "crop_size": {"height": 24, "width": 24}},
}


def photo(height: int = 30, width: int = 50) -> Image.Image:
    """Smooth colours, red to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, np.full_like(x, 90.0)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


@pytest.mark.parametrize("size", [(24, 24), (16, 40)])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "vit-classifier" and not KINDS[name].takes])
def test_the_grid_is_where_the_model_puts_its_patches(name: str, size: tuple[int, int]) -> None:
    kind = KINDS[name]
    model = kind.build("eager")
    (picture,) = fv.vision.pictures(model, torch.zeros(1, 3, *size))
    assert (picture.rows, picture.columns, picture.first) == (size[0] // 8, size[1] // 8, kind.first)
    pixels = torch.zeros(2, 3, *size)
    row, column = picture.rows - 1, 1
    pixels[1, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 1  # which only this patch can see

    entered: list[torch.Tensor] = []
    embeddings = next(module for path, module in model.named_modules() if path.endswith("embeddings"))
    hook = embeddings.register_forward_hook(lambda module, args, out: entered.append(out))
    with torch.no_grad():
        model(pixels, **({} if "dinov2" in name else {"interpolate_pos_encoding": True}))
    hook.remove()
    apart = (entered[0][0] - entered[0][1]).abs().amax(-1)
    assert len(apart) == picture.first + picture.parts
    assert apart.nonzero().flatten().tolist() == [picture.first + row * picture.columns + column]


def test_of_two_towers_the_picture_is_that_of_the_vision_tower() -> None:
    for name in ("clip", "blip-match"):
        (picture,) = fv.vision.pictures(KINDS[name].build("eager"), torch.zeros(1, 3, 24, 24))
        assert (picture.rows, picture.columns, picture.first) == (3, 3, 1)


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_pixels_are_those_that_reached_the_model(name: str) -> None:
    processor = getattr(transformers, name)(**PROCESSORS[name])
    plain = getattr(transformers, name)(**PROCESSORS[name], do_normalize=False, do_rescale=False)
    given = processor(photo(), return_tensors="pt")["pixel_values"]
    wanted = plain(photo(), return_tensors="pt")["pixel_values"][0].permute(1, 2, 0)  # cropped and resized alone
    (picture,) = fv.vision.pictures(KINDS["vit"].build(), given, processor)
    assert np.array_equal(picture.pixels, wanted.round().to(torch.uint8).numpy())
    assert picture.pixels.std() > 20


def test_without_a_processor_a_half_is_taken_and_what_no_patch_covers_is_cut() -> None:
    values = torch.linspace(-1, 1, 21 * 30).view(1, 1, 21, 30).expand(1, 3, 21, 30)
    (picture,) = fv.vision.pictures(KINDS["vit"].build().config, values)
    assert picture.pixels.shape == (16, 24, 3)
    assert picture.pixels[0, 0, 0] == 0
    assert picture.pixels[15, 23, 1] == round((float(values[0, 1, 15, 23]) * 0.5 + 0.5) * 255)


def test_models_whose_patches_are_not_known_are_refused() -> None:
    with pytest.raises(fv.vision.NotAPictureError, match=r"type 'swin' are which patches; known are blip, clip, deit,"):
        fv.vision.pictures(transformers.SwinConfig(), torch.zeros(1, 3, 24, 24))
    model = KINDS["vit"].build()
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\); got \(3, 24, 24\)"):
        fv.vision.pictures(model, torch.zeros(3, 24, 24))
    with pytest.raises(ValueError, match="a patch has 8 x 8 pixels; the picture 24 x 7"):
        fv.vision.pictures(model, torch.zeros(1, 3, 24, 7))


# --- pictures out of files


def saved(folder: Path, image: Image.Image, name: str, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_files_are_read_as_people_see_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: a quarter turn to the right
    turned = fv.vision.read(saved(tmp_path, photo(), "turned.png", exif=exif))
    assert turned.mode == "RGB" and turned.size == (30, 50)
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(photo()), -1))

    clear = photo().convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.uint8([0, 255]), (30, 25))))
    seen = np.asarray(fv.vision.read(saved(tmp_path, clear, "clear.png")))
    assert (seen[:, 0::2] == 255).all() and np.array_equal(seen[:, 1::2], np.asarray(photo())[:, 1::2])

    grey = np.asarray(fv.vision.read(saved(tmp_path, photo().convert("L"), "grey.png")))
    assert np.array_equal(grey[..., 0], np.asarray(photo().convert("L"))) and (grey[..., 0] == grey[..., 2]).all()
    few = photo().quantize(8)
    assert np.array_equal(np.asarray(fv.vision.read(saved(tmp_path, few, "few.gif"))), np.asarray(few.convert("RGB")))
    deep = Image.fromarray((np.arange(30 * 50, dtype=np.uint16) * 43).reshape(30, 50))
    deepest = np.asarray(fv.vision.read(saved(tmp_path, deep, "deep.png")))[..., 0]
    assert np.array_equal(deepest, (np.asarray(deep) * (255 / 65535)).round())


def test_what_is_no_picture_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture at all")
    file = io.BytesIO()
    photo(200, 200).save(file, "BMP")
    (tmp_path / "half.bmp").write_bytes(file.getvalue()[:2000])
    for name, told in (("text.png", "is no picture: expected PNG"), ("half.bmp", "cannot read the picture"),
                       ("none.png", "there is no file"), ("", "is a folder")):  # fmt: skip
        with pytest.raises(fv.vision.UnreadableError, match=told):
            fv.vision.read(tmp_path / name)
    monkeypatch.setattr("foveate.picturefile.MOST_PIXELS", 30 * 50 - 1)
    with pytest.raises(fv.vision.UnreadableError, match="50 x 30 pixels; a picture may have 1,499 in all"):
        fv.vision.read(saved(tmp_path, photo(), "large.png"))


# --- rollout


def watched(name: str, batch: int = 2, **how: Any) -> fv.Recording:
    kind = KINDS[name]
    model = kind.build("eager")
    with torch.no_grad(), fv.watch(model, **how) as seen:
        model(**inputs_of(kind, batch=batch))
    return seen


def multiplied(seen: fv.Recording, names: list[str]) -> torch.Tensor:
    """As Abnar and Zuidema write it: the product of (W + I) / 2 from the top layer down."""
    found = torch.eye(seen[names[0]].shape[-1])
    for name in names:
        mean = seen[name].dense().mean(1)
        found = (0.5 * mean + 0.5 * torch.eye(mean.shape[-1])) @ found
    return found


def test_rollout_is_the_product_of_the_layers() -> None:
    seen = watched("vit")
    wanted = multiplied(seen, list(seen))
    torch.testing.assert_close(fv.faithful.rollout(seen), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(fv.faithful.rollout(seen, rows=[3, 0]), wanted[:, [3, 0]], atol=1e-6, rtol=0)
    first = fv.faithful.rollout(seen, rows=0)
    assert first.shape == (2, 10) and float((first - wanted[:, 0]).abs().max()) < 1e-6
    assert float((wanted - wanted.mT).abs().max()) > 0.01  # which side comes first is seen


def test_rollout_of_one_of_several_stacks_and_what_it_refuses() -> None:
    seen = watched("blip-match")
    names = [name for name in seen if name.startswith("vision_model")]
    wanted = multiplied(seen, names)
    torch.testing.assert_close(fv.faithful.rollout(seen, under="vision_model"), wanted, atol=1e-6, rtol=0)
    assert fv.faithful.rollout(seen, under="text_encoder").shape == (2, 7, 7)  # its cross-attention is passed over
    vit = watched("vit")
    twice = {"layers.0.attention": [vit["layers.0.attention"]] * 2}
    for make, told in (
        (lambda: fv.faithful.rollout(seen), r"there are 'vision_model\.encoder\.layers', 'text_encoder"),
        (lambda: fv.faithful.rollout(seen, under="vision"), "no self-attention was recorded under 'vision'"),
        (lambda: fv.faithful.rollout(watched("vit", layers=1)), "every layer once, from 0 on; recorded are 1"),
        (lambda: fv.faithful.rollout(watched("vit", heads=[0, 2])), "takes all heads of each layer"),
        (lambda: fv.faithful.rollout(vit, rows=10), "numbers from 0 to 9; got 10"),
        (lambda: fv.faithful.rollout(twice), "was called 2 times"),
    ):
        with pytest.raises(ValueError, match=told):
            make()


def test_rollout_is_the_last_call_of_a_page() -> None:
    from foveate.views.source import Source

    seen = watched("vit", batch=1)
    rolled = fv.vision.with_rollout(seen)
    assert list(rolled) == [*seen, "rollout"] and rolled[next(iter(seen))].shape == (1, 6, 10, 10)
    source = Source(rolled, pictures=fv.vision.pictures(KINDS["vit"].build(), torch.zeros(1, 3, 24, 24)))
    *others, last = source.document().calls
    assert (last.label, last.heads, last.queries, last.keys) == ("rollout", 1, 10, 10)
    row = source.row(last.index, 0, 0, "reads", "token")[0]
    torch.testing.assert_close(row, fv.faithful.rollout(seen, rows=0)[0], atol=1e-6, rtol=0)
    assert [call.name for call in others] == list(seen)


# --- drawn


def drawn_opacity(ax: Any) -> np.ndarray:
    """(rows, columns)"""
    return np.asarray(ax.images[-1].get_array())[..., 3]


def test_patches_are_drawn_where_they_are_read() -> None:
    picture = fv.Picture(np.asarray(photo(24, 40)), 3, 5, 1)
    weights = np.zeros((2, 17))
    weights[0, 1 + 7], weights[0, 0], weights[1, 1 + 2], weights[1, 16] = 0.3, 0.5, 0.1, 0.9  # 0 and 16 have no place
    figure = fv.plot.patches(picture, weights, ["a $x", "b"], original=True, title="both")
    plain, one, two, bar = figure.axes
    assert np.array_equal(plain.images[0].get_array(), picture.pixels)
    assert [ax.get_title() for ax in (plain, one, two)] == ["picture", r"a \$x", "b"]
    opacity = drawn_opacity(one)
    assert opacity.shape == (3, 5) and np.argwhere(opacity > 0).tolist() == [[1, 2]]
    assert np.argwhere(drawn_opacity(two) > 0).tolist() == [[0, 2]]
    assert drawn_opacity(two)[0, 2] == pytest.approx(opacity[1, 2] / 3)  # the same scale in both
    assert [text.get_text() for text in bar.get_yticklabels()][-1] == "0.3"
    apart = fv.plot.patches(picture, weights, alike=False)
    assert drawn_opacity(apart.axes[0]).max() == pytest.approx(drawn_opacity(apart.axes[1]).max())
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    assert b"both" in file.getvalue() and b"<image" in file.getvalue()


def test_patches_of_a_recording() -> None:
    seen = watched("vit", batch=1)
    (picture,) = fv.vision.pictures(KINDS["vit"].build(), inputs_of(KINDS["vit"], batch=1)["pixel_values"])
    heads = seen["layers.1.attention"][0, :, 0]
    figure = fv.plot.patches(picture, heads, [f"head {h}" for h in range(6)], bar=False)
    assert len(figure.axes) == 6
    shares = drawn_opacity(figure.axes[4]).ravel()
    assert np.allclose(shares / shares.max(), heads[4, 1:] / heads[4, 1:].max(), atol=1e-6)
    ax = figure.axes[0]
    assert fv.plot.patches(picture, fv.faithful.rollout(seen, rows=0)[0], ax=ax, bar=False) is ax


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": np.ones(14)}, "for each of 15 patches, or for each token, 1 before the patches"),
        ({"weights": np.ones((2, 3, 15))}, "choose a row"),
        ({"weights": -np.ones(15)}, "0 or more"),
        ({"names": ["a", "b"]}, "names must name each of the 1 names"),
        ({"original": True, "ax": object()}, "ax holds one panel, and there are 2"),
        ({"weights": np.ones((40, 15)), "columns": 40}, "40 panels need"),
        ({"vmax": 0.0}, "vmax is above 0"),
        ({"vmax": 0.5, "alike": False}, "the same for all panels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], told: str) -> None:
    picture = fv.Picture(np.asarray(photo(24, 40)), 3, 5, 1)
    with pytest.raises(ValueError, match=told):
        fv.plot.patches(picture, **{"weights": np.ones(15), **options})
