"""A picture whose parts are tokens: its grid, the names of its parts, and what a document says of it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import foveate as fv
from foveate.views.pictures import Picture
from foveate.views.source import Source
from foveate.views.words import Tokens


def picture(rows: int = 2, columns: int = 3, first: int = 0) -> Picture:
    pixels = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    return Picture(pixels, rows, columns, first)


def maps(queries: int, keys: int) -> dict[str, fv.AttentionMap]:
    draw = torch.Generator().manual_seed(3)
    return {"read": fv.AttentionMap(*(torch.randn(1, 2, n, 4, generator=draw) for n in (queries, keys)))}


def test_parts_are_named_row_by_row_between_tokens_of_no_place() -> None:
    names = picture(first=2).tokens(9)
    assert names.text == ("[CLS]", "[1]", "1,1", "1,2", "1,3", "2,1", "2,2", "2,3", "[8]")
    assert names.special == (True, True, False, False, False, False, False, False, True)
    assert names.word == tuple(range(9))


def test_a_document_tells_the_grid_and_the_pixels_without_loss() -> None:
    given = picture(first=1)
    (sequence,) = Source(maps(7, 7), pictures=[given]).document().as_json()["sequences"]
    told = sequence["picture"]
    assert {name: told[name] for name in ("height", "width", "rows", "columns", "first")} == {
        "height": 8, "width": 12, "rows": 2, "columns": 3, "first": 1,
    }  # fmt: skip
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(told["png"])))), given.pixels)
    assert sequence["source"]["text"][:3] == ["[CLS]", "1,1", "1,2"]


def test_words_that_read_a_picture_are_the_target() -> None:
    model = torch.nn.ModuleDict({"cross_attention": fv.nn.MultiHeadAttention(8, 2)})
    with fv.watch(model) as seen:
        model["cross_attention"](torch.randn(1, 2, 8), torch.randn(1, 6, 8))
    source = Source(seen, None, [["red", "circle"]], pictures=[picture()])
    (sequence,) = source.document().sequences
    assert sequence.target is not None and sequence.target.text == ("red", "circle")
    assert sequence.source.text[-1] == "2,3" and sequence.picture is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Picture(np.zeros((8, 8), np.uint8), 2, 2), r"\(height, width, 3\) of uint8; got \(8, 8\)"),
        (lambda: Picture(np.zeros((8, 8, 3), np.float32), 2, 2), "of float32"),
        (lambda: Picture(np.zeros((2049, 8, 3), np.uint8), 2, 2), "at most 2048 pixels"),
        (lambda: picture(rows=9), "one for each pixel, here 8 x 12; got 9 x 3"),
        (lambda: picture(first=-1), "0 or more; got -1"),
        (lambda: Source(maps(5, 5), pictures=[picture()]), "needs 6 tokens; there are 5"),
        (lambda: Source(maps(6, 6), pictures=[picture(), picture()]), "one for each sequence of the batch, 1; got 2"),
        (lambda: Source(maps(6, 6), ["a"] * 6, pictures=[picture(first=1)]), "needs 7 tokens; there are 6"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_parts_are_words_of_their_own_whatever_they_are_called() -> None:
    tokens = Tokens(
        ("[CLS]", "sky", "##blue", "sun", "hill", "hill", "tree", "a", "##b"), (0, 1, 1, 1, 2, 2, 3, 3, 3), (False,) * 9
    )
    source = Source(maps(9, 9), [tokens], pictures=[picture(first=1)])
    names = source.document().sequences[0].source
    assert names.word == (0, 1, 2, 3, 4, 5, 6, 7, 7)
    assert names.text == tokens.text
    for direction in ("reads", "read_by"):
        by_word, by_token = (source.row(0, 0, 3, direction, level)[:, 1:7] for level in ("word", "token"))  # type: ignore[arg-type]
        torch.testing.assert_close(by_word, by_token, rtol=0, atol=0)
