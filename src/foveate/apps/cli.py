"""The command `foveate`. Each subcommand is a module of `apps.commands` with `add(commands)` and `run(arguments)`.

Nothing heavy is imported before a command runs. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
A user's mistake is one sentence on standard error; FOVEATE_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import foveate
from foveate.apps.commands import (
    align,
    classify,
    cost,
    demo,
    experiment,
    faithful,
    ground,
    heads,
    prune,
    qa,
    record,
    resolve,
    summarise,
    tag,
    train,
    translate,
    view,
)
from foveate.apps.errors import UsageError, UserError

_EXAMPLES = """examples:
  foveate view                                     the page, on the built-in model
  foveate view --model bert-base-uncased --text "The bank by the river was steep."
  foveate view run.fov                             a saved recording
  foveate resolve "The cat sat on the mat because it was tired."
  foveate record bert-base-uncased --file doc.txt -o run.fov
  foveate heads bert-base-uncased sentences.txt -o heads.parquet
  foveate translate "How are you?"                 a translation, and which word each word came from
  foveate train translation --train pairs.tsv --valid valid.tsv -o my-translator
  foveate train translate --task summarise --train reports.tsv --valid valid.tsv -o my-summariser
  foveate summarise my-summariser --file texts.txt
  foveate train classify --train train.tsv --valid valid.tsv -o my-classifier
  foveate classify my-classifier "A stirring, funny film."
  foveate train tag --train train.conllu --valid dev.conllu -o my-tagger
  foveate tag my-tagger "The old man the boats."
  foveate qa "What is the capital of France?" --context "France is a country. Paris is the capital."
  foveate ground "the red circle left of the cyan circle" --scene 28  where a phrase points in a picture
  foveate train ground -o my-pointer               words that learn to point in pictures, without boxes
  foveate align --model my-translator pairs.tsv    word alignments in Pharaoh format
  foveate experiment bottleneck                    what one fixed vector loses to attention, by length
  foveate faithful gpt2 "The cat sat on the"       does attention explain what the model predicts?
  foveate prune my-translator --keep 0.5 --data valid.tsv -o half  half of the heads, and what it costs
  foveate cost --forms softmax,window:256          time and memory on this machine as n grows
  foveate demo                                     all of it once, on the built-in model
"""


_SENTENCES = ("RecordingError", "CaptureError", "ChangeError")  # by name: their modules are heavy


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="foveate",
        description="Attention you can run and see.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"foveate {foveate.__version__}")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (
        view,
        translate,
        summarise,
        classify,
        tag,
        qa,
        ground,
        train,
        align,
        experiment,
        resolve,
        record,
        heads,
        faithful,
        prune,
        cost,
        demo,
    ):
        module.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser().parse_args(words, argparse.Namespace(words=words))
    try:
        result: int = chosen.run(chosen)
        sys.stdout.flush()
        return result
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(error)


def _fail(error: Exception) -> int:
    if os.environ.get("FOVEATE_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    elif isinstance(error, UserError | OSError) or type(error).__name__ in _SENTENCES:
        text = " ".join(str(error).split())
    else:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}  (FOVEATE_DEBUG=1 shows where)"
    print(f"foveate: {text}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
