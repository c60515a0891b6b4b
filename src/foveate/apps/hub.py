"""Where models of the Hugging Face kind come from: a folder or the hub, read without pickle or remote code."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foveate.apps.errors import UserError
from foveate.apps.workspace import in_words
from foveate.extras import need
from foveate.heads.pruning.store import is_pruned, shrink

__all__ = ["Hub", "explained"]

_OF_TOKENIZERS = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "source.spm")  # names of their files


class Hub:
    """A model by path or hub name. Construction reads its configuration.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.name = _name(Path(where)) if Path(where).is_dir() else where
        self.transformers: Any = need("transformers", "hf")
        self.transformers.logging.set_verbosity_error()
        self.transformers.logging.disable_progress_bar()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        self.local = Path(where).is_dir() or not _hub_has_an_address()
        with explained(where, "model"):
            self.config = self.read(self.transformers.AutoConfig)

    def read(self, kind: Any, **options: Any) -> Any:
        """A part of the model, as a class of transformers reads it."""
        return kind.from_pretrained(self.where, trust_remote_code=False, local_files_only=self.local, **options)

    def network(self, loader: Any) -> Any:
        """The model as a class of transformers reads it, in evaluation mode, without the heads that were pruned."""
        with explained(self.where, "weights"):
            model = self.read(loader, use_safetensors=True).eval()
            return shrink(model, self.where) if self.local and is_pruned(self.where) else model


def _name(folder: Path) -> str:
    """A folder's name, with its parent's where it says nothing by itself."""
    folder = folder.resolve()
    plain = folder.name in ("model", "best", "final", "output", "weights") or folder.name.startswith("checkpoint")
    return f"{folder.parent.name}/{folder.name}" if plain else folder.name


def _hub_has_an_address() -> bool:
    """False where its name cannot be looked up: then only what is on this machine is read, and no retry waited for."""
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(endpoint.hostname, endpoint.port or 443)
    except (OSError, UnicodeError):
        return False
    return True


@contextlib.contextmanager
def explained(where: str, what: str) -> Iterator[None]:
    """Errors of loading, as one sentence each."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise UserError(_sentence(where, what, error)) from None


def _sentence(where: str, what: str, error: Exception) -> str:
    text = str(error)
    looks_local = where.startswith((".", "/", "~")) or where.count("/") > 1
    if looks_local and not Path(where).exists():
        return f"There is no folder {where}."
    if "trust_remote_code" in text:
        return f"{where} needs code of its own to run, and foveate never runs code that comes with a model."
    if what == "weights" and ("safetensors" in text or "pytorch_model.bin" in text):
        return (
            f"{where} has no safetensors weights, and foveate never reads pickle files; convert them with "
            "model.save_pretrained(folder) first."
        )
    if what == "model" and (Path(where) / "model.json").is_file():
        return f"{where} is a model of foveate train; this command takes a Hugging Face model."
    if what == "model" and isinstance(error, OSError):
        return (
            f"Cannot find a model {where!r}: it is no folder with a config.json, and no model of that name could be "
            "read from the Hugging Face hub."
        )
    files = [file.name for file in Path(where).iterdir()] if Path(where).is_dir() else []
    if what == "tokenizer" and files and not any(name.startswith(_OF_TOKENIZERS) for name in files):
        return (
            f"{where} has no tokenizer: only a model that reads text can be used here; what a vision model reads in a "
            "picture is shown by foveate view --image."
        )
    if what == "tokenizer":
        return f"{where} has no tokenizer that reads text: {in_words(error)}"
    return f"Cannot read the {what} of {where}: {in_words(error)}"
