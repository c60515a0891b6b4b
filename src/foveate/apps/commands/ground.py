"""`foveate ground`: which part of a picture a phrase is about, word by word."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common, predicting

if TYPE_CHECKING:
    from foveate.apps.task_model import TaskModel
    from foveate.tasks.grounder import Grounded
    from foveate.tasks.grounding import Picture

_EXAMPLES = """  foveate ground "the red circle left of the cyan circle" --scene 28
  foveate ground "the red circle left of the square" --image picture.png
  foveate ground "the red circle" --scene 28 --json
  foveate ground "the red circle left of the cyan circle" --scene 28 --view
  foveate ground my-model "the dog on the left" --image picture.jpg
"""


def add(commands: Any) -> None:
    summary = "show which part of a picture a phrase is about, word by word"
    parser = common.subcommand(commands, "ground", summary, _EXAMPLES)
    about = "the folder that foveate train ground made; default: the built-in model, which knows coloured shapes"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=about)
    parser.add_argument("phrase", type=common.readable, help="the phrase, as one argument")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--image", metavar="FILE", help="a picture: PNG, JPEG, ...")
    where.add_argument("--scene", type=common.whole(1, 10**9), metavar="N", help="the N-th scene that foveate draws")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="an object with the place and the weights of all words")
    forms.add_argument("--view", action="store_true", help="open the page on phrase and picture; also with --export")
    common.add_showing(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.grounder import Grounder, scene
    from foveate.tasks.photos import Photo

    if arguments.export is not None:
        common.check_target(Path(arguments.export))
    with common.explained():
        model = _model(arguments)
        if arguments.image is not None:
            model.about(Path(arguments.image))
    if arguments.view or arguments.export is not None:
        text = arguments.phrase if arguments.scene is None else f"scene {arguments.scene}: {arguments.phrase}"
        return common.show_model(model, text, None, arguments, quick=True)
    grounder = model.predictor
    assert isinstance(grounder, Grounder)
    with common.explained():
        picture: Picture = scene(arguments.scene) if arguments.image is None else Photo.of(Path(arguments.image))
        found = grounder.ground(picture, arguments.phrase)
    if arguments.json:
        print(json.dumps(_as_json(found), ensure_ascii=False))
    else:
        _say(found)
    return 0


def _model(arguments: argparse.Namespace) -> TaskModel:
    from foveate.apps.shipped import pointer
    from foveate.apps.task_model import TaskModel
    from foveate.tasks.grounder import load

    if arguments.model is None:
        return pointer()
    folder = predicting.folder(arguments)
    return TaskModel(load(folder), name=folder.resolve().name)


def _say(found: Grounded) -> None:
    from foveate.apps import terminal
    from foveate.tasks.photos import pixels_of

    row, column = found.place
    grid = found.weights_LYX.shape[1]
    nothing = "" if found.fits >= 0.5 else "nothing seems to fit; likeliest "
    place = f"at x {found.x:.0f}, y {found.y:.0f} (row {row + 1}, column {column + 1})"
    print(f"fits: {100 * found.fits:.1f} %, {nothing}{place}")
    if found.unknown:
        print(f"not known: {', '.join(found.unknown)}")
    print()
    terminal.picture(pixels_of(found.picture, grid), found.weights_LYX[0].tolist())


def _as_json(found: Grounded) -> dict[str, Any]:
    row, column = found.place
    return {
        "fits": round(found.fits, 6),
        "x": found.x,
        "y": found.y,
        "row": row,
        "column": column,
        "words": found.words,
        "unknown": found.unknown,
        "weights": [[[round(weight, 6) for weight in line] for line in word] for word in found.weights_LYX.tolist()],
    }
