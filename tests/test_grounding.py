"""Phrases that point in pictures: learned without boxes, read from files, and looked at."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foveate as fv
from foveate.tasks.grounder import Grounder, load, load_builtin, scene
from foveate.tasks.grounding import Example, Grounding, inside, middle, of_scene, peak, within
from foveate.tasks.photos import Photo, pixels_of, shown_of
from foveate.tasks.pointing import Shape
from foveate.tasks.recipe import Run, run
from foveate.tasks.rows import Malformed
from foveate.tasks.scenes import SIDE, scenes
from foveate.tasks.training import Options

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "white": (250, 250, 250)}
SMALL = Shape(side=64, channels=24, width=32, layers=2, heads=2, inner=32)
OPTIONS = Options(epochs=10, peak=3e-3, warmup=20, patience=0, average=1, precision="float32")


def write_blocks(folder: Path, name: str, count: int, seed: int, *, boxes: bool = False) -> Path:
    """Grey pictures of 64 x 64 pixels with two blocks of different colours, and a phrase about one of them."""
    draw, lines = random.Random(seed), []
    for number in range(count):
        picture = Image.new("RGB", (64, 64), (90, 90, 90))
        places = draw.sample([(x, y) for x in (2, 40) for y in (2, 40)], 2)
        colours = draw.sample(list(COLOURS), 2)
        for (x, y), colour in zip(places, colours, strict=True):
            picture.paste(COLOURS[colour], (x, y, x + 20, y + 20))
        picture.save(folder / f"{name}{number}.png")
        (x, y), box = places[0], ""
        if boxes:
            box = f"\t{x},{y},{x + 20},{y + 20}"
        lines.append(f"{name}{number}.png\tthe {colours[0]} block{box}")
    path = folder / f"{name}.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    train = write_blocks(folder, "train", 400, 1)
    valid, test = (write_blocks(folder, name, 60, seed, boxes=True) for name, seed in (("valid", 2), ("test", 3)))
    run(Run(Grounding, SMALL, train, valid, test, OPTIONS, cells=64), folder / "model", quiet=True)
    return folder


@pytest.fixture
def grounder(trained: Path) -> Grounder:
    return load(trained / "model")


def test_a_miniature_learns_to_point_without_a_box(grounder: Grounder) -> None:
    """At most 9 of 64 regions lie in a block: pointing anywhere would be right in 14 of 100."""
    assert grounder.facts["test"]["pointing"] >= 75
    assert grounder.facts["test"]["accuracy"] >= 75  # half of the phrases of other pictures fit this one, too


def test_where_a_phrase_points_is_told_in_pixels_of_the_file(grounder: Grounder, tmp_path: Path) -> None:
    picture = Image.new("RGB", (128, 64), (90, 90, 90))
    picture.paste(COLOURS["blue"], (80, 40, 120, 60))
    picture.paste(COLOURS["red"], (4, 2, 44, 22))
    picture.save(tmp_path / "one.png")
    blue = grounder.ground(tmp_path / "one.png", "the blue block")
    red = grounder.ground(tmp_path / "one.png", "the red block")
    assert (80 <= blue.x <= 120, 40 <= blue.y <= 60) == (True, True)
    assert (4 <= red.x <= 44, 2 <= red.y <= 22) == (True, True)
    assert blue.weights_LYX.shape == (3, 8, 8)
    assert blue.weights_LYX[0].sum() == pytest.approx(blue.fits, abs=1e-5)
    assert min(blue.fits, red.fits) > grounder.ground(tmp_path / "one.png", "the green block").fits
    strange = grounder.ground(tmp_path / "one.png", "the crimson block")
    assert strange.unknown == ("crimson",)


def test_watch_sees_words_reading_regions(grounder: Grounder) -> None:
    with fv.watch(grounder.model) as seen:
        found = grounder.ground(scene(1), "the red block")
    assert [(name, seen.info(name).kind) for name in seen] == [
        ("layers.0.attention", "encoder"),
        ("layers.0.pointer", "cross"),
        ("layers.1.attention", "encoder"),
        ("layers.1.places", "encoder"),
        ("layers.1.pointer", "cross"),
    ]
    assert seen["layers.1.places"].shape == (1, 2, 3, 3)
    assert seen["layers.0.pointer"].shape == (1, 1, 3, 65)
    assert seen["layers.1.pointer"][0, 0, 0, 1:].reshape(8, 8).numpy() == pytest.approx(found.weights_LYX[0], abs=1e-6)


def test_the_built_in_model_points_at_pairs_it_never_saw() -> None:
    """And into the thing that stands where the phrase says, not only into one of its kind."""
    grounder = load_builtin()
    fitting = [
        (one.scene, phrase, box)
        for one in scenes(31, 60, split="test")
        for phrase, box in zip(one.phrases, one.boxes, strict=True)
        if box is not None
    ]
    found = [(grounder.ground(drawn, phrase), phrase, box) for drawn, phrase, box in fitting]
    hits = [within(one.x, one.y, box) for one, _, box in found]
    assert sum(hits) / len(hits) >= 0.9
    placed = [hit for hit, (_, phrase, _) in zip(hits, found, strict=True) if {"left", "right"} & set(phrase.split())]
    assert len(placed) > 25 and sum(placed) / len(placed) >= 0.85
    assert all(not one.unknown for one, _, _ in found)


def test_a_word_stands_for_the_phrase_from_there_on(grounder: Grounder) -> None:
    """Whatever comes before: in all layers, in which words also read where those after them pointed."""
    long, short = (grounder.ground(scene(1), phrase).weights_LYX for phrase in ("the block left of red", "left of red"))
    torch.testing.assert_close(torch.tensor(long[2:]), torch.tensor(short), atol=1e-5, rtol=1e-3)
    other = grounder.ground(scene(1), "left of blue").weights_LYX
    assert abs(short[0] - other[0]).max() > 1e-3


def test_a_scene_is_named_in_the_text_and_a_picture_is_kept(grounder: Grounder, trained: Path) -> None:
    answer = grounder.look("Scene 7: the red circle")
    assert answer.queries == ("the", "red", "circle")
    assert (answer.words, answer.grid) == (("nowhere",), (8, 8))
    assert np.array_equal(answer.pixels, shown_of(scene(7)))
    with pytest.raises(ValueError, match='say which scene, as in "scene 7: the red circle"'):
        grounder.look("the red circle")
    grounder.picture = Photo.of(trained / "test0.png")
    assert grounder.look("the red block").pixels.shape == (64, 64, 3)
    with pytest.raises(ValueError, match="there is no word"):
        grounder.look("scene 3:")
    with pytest.raises(ValueError, match="numbers from 1 to 1,000,000,000; got 0"):
        grounder.look("scene 0: the red circle")
    assert grounder.look("scene 1000000000: the red circle").pixels.shape == (96, 96, 3)  # though there is a picture


def test_examples_in_one_batch_are_what_they_are_alone() -> None:
    """Other phrases, pictures and padding change nothing."""
    examples = [of_scene(one) for one in scenes(4, 6)]
    shape = replace(SMALL, side=SIDE)
    recipe = Grounding(shape, Grounding.learn(examples, shape))
    model = recipe.model().eval()
    with torch.no_grad():
        together = recipe.read_by(model, examples)
        alone = [recipe.read_by(model, [one]) for one in examples]
        single = Example(examples[0].picture, examples[0].phrases[:1], (True,), (None,))
        first = recipe.read_by(model, [single])[0]
    for part, axis in ((0, 1), (1, 0)):
        alike = torch.cat([one[part] for one in alone], axis)
        torch.testing.assert_close(together[part], alike, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[0][:, :1], first, atol=1e-5, rtol=1e-4)


def test_boxes_do_not_change_a_run(trained: Path, tmp_path: Path) -> None:
    examples = Grounding.read(trained / "valid.tsv", None, skip_bad=False).items
    recipe = Grounding(SMALL, Grounding.learn(examples, SMALL))
    model = recipe.model()
    bare = [replace(one, boxes=(None,) * len(one.boxes)) for one in examples]
    torch.manual_seed(5)
    with_boxes = recipe.logits(model, examples)
    torch.manual_seed(5)
    without = recipe.logits(model, bare)
    assert all(torch.equal(a, b) for a, b in zip(with_boxes, without, strict=True))
    scores = recipe.scores(model.eval(), examples, 64)
    assert "pointing" in scores
    odds = [recipe.read_by(model, [one])[0][-1, :, 0].tolist() for one in examples]  # of nowhere; one of two fits
    ranked = [row[one.fits.index(True)] < row[one.fits.index(False)] for one, row in zip(examples, odds, strict=True)]
    assert scores["ranking"] == pytest.approx(100 * sum(ranked) / len(ranked), abs=1e-3)
    assert "pointing" not in recipe.scores(model, bare, 64)


def test_the_middle_of_a_region_is_what_lies_inside() -> None:
    drawn = next(scenes(1, 1)).scene
    assert inside(0, (0, 0, 8, 8), 12, drawn)
    assert not inside(0, (5, 0, 20, 20), 12, drawn)
    assert inside(13, (10, 10, 14, 14), 12, drawn)


def test_a_peak_is_the_middle_of_the_weight_around_the_strongest_region() -> None:
    weights = np.zeros((4, 5), np.float32)
    weights[1, 2], weights[1, 3], weights[2, 2], weights[3, 4] = 0.5, 0.25, 0.25, 0.4  # the last is too far away
    assert peak(weights) == (1.25, 2.25)
    weights[0, 0] = 0.9
    assert peak(weights) == (0, 0)
    drawn = next(scenes(1, 1)).scene
    assert middle(1.25, 2.25, 12, drawn) == (22, 14)


BAD: dict[str, tuple[str, str]] = {
    "one column": ("a.png", "expected 2 or 3 columns, a picture file, a phrase and maybe a box, .*; got 1"),
    "no phrase": ("a.png\t ", "the phrase is empty"),
    "long": ("a.png\t" + "w " * 61, "the phrase has 61 words; at most 60 are read"),
    "no file": ("none.png\tthe red one", "there is no file .*none.png"),
    "no picture": ("text.png\tthe red one", ".*text.png is no picture: expected PNG, JPEG"),
    "no box": (
        "a.png\tthe red one\t1,2,3",
        r"a box is left,top,right,bottom in pixels, here within 8 x 8; got '1,2,3'",
    ),
    "outside": ("a.png\tthe red one\t1,2,9,4", ".*got '1,2,9,4'"),
    "nan": ("a.png\tthe red one\tnan,2,3,4", ".*got 'nan,2,3,4'"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, line: str, message: str) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    path = tmp_path / "rows.tsv"
    path.write_text(f"a.png\tthe red one\n{line}\nb.png\tthe blue one\t1,1,4,4\n", encoding="utf-8")
    with pytest.raises(Malformed, match=f"rows.tsv:2: {message}"):
        Grounding.read(path, None, skip_bad=False)
    rows = Grounding.read(path, None, skip_bad=True)
    assert [one.phrases for one in rows.items] == [
        (("the", "red", "one"), ("the", "blue", "one")),
        (("the", "blue", "one"), ("the", "red", "one")),
    ]
    assert [one.boxes for one in rows.items] == [(None, None), ((1, 1, 4, 4), None)]
    assert rows.report().startswith("skipped 1 of 3 lines: 1 x ")


def test_one_picture_alone_teaches_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "rows.tsv").write_text("a.png\tthe red one\na.png\tthe blue one\n")
    with pytest.raises(Malformed, match="two pictures at least, with different phrases"):
        Grounding.read(tmp_path / "rows.tsv", None, skip_bad=False)


def test_files_of_any_kind_become_upright_colours(tmp_path: Path) -> None:
    turned = Image.new("RGB", (20, 10), (0, 0, 200))
    turned.paste((200, 0, 0), (0, 0, 10, 10))  # red on the left
    exif = turned.getexif()
    exif[0x0112] = 6  # shown with its left side up
    turned.save(tmp_path / "turned.png", exif=exif)
    photo = Photo.of(tmp_path / "turned.png")
    assert photo.size == (10, 20)
    seen = shown_of(photo)
    assert seen.shape == (20, 10, 3)
    assert seen[2, 5].tolist() == [200, 0, 0]
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (pixels_of(Photo.of(tmp_path / "clear.png"), 8) == 255).all()
    Image.new("L", (1000, 500), 77).save(tmp_path / "grey.jpg")
    assert shown_of(Photo.of(tmp_path / "grey.jpg")).shape == (384, 768, 3)
    assert pixels_of(scene(1), 40).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"side": 20}, "side must be a multiple of 8; got 20"), ({"dropout": 1.0}, "dropout"), ({"arch": "x"}, "arch")],
)
def test_shapes_that_cannot_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changed)
