"""What a model's texts are judged by: BLEU of translations, ROUGE of summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..corpus import reference_streams
from ..rouge import rouge

__all__ = ["Bleu", "Metric", "Rouge", "bleu"]


class Metric(Protocol):
    """`name` is the number that is to grow, among those that `score` gives."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> dict[str, str]:
        """How it counts, which a resumed run must do alike."""

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Of a corpus; each hypothesis may have several references."""


@dataclass(frozen=True)
class Bleu:
    """sacrebleu's BLEU.

    Raises:
        ValueError, ModuleNotFoundError: as `bleu` does.
    """

    tokenize: str = "13a"
    name = "BLEU"

    def __post_init__(self) -> None:
        _sacrebleu(self.tokenize)  # now, not after the first epoch

    def __str__(self) -> str:
        return f"sacrebleu tokenize={self.tokenize}"

    @property
    def settings(self) -> dict[str, str]:
        return {"tokenize": self.tokenize}

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return {self.name: bleu(hypotheses, references, self.tokenize)[0]}


@dataclass(frozen=True)
class Rouge:
    """F1 of words, pairs of words and longest common subsequences; see `foveate.tasks.rouge`."""

    name = "ROUGE-L"

    def __str__(self) -> str:
        return "ROUGE F1, lower case, no stemming"

    @property
    def settings(self) -> dict[str, str]:
        return {"metric": "ROUGE"}

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return rouge(hypotheses, references)


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = "13a") -> tuple[float, str]:
    """BLEU of a corpus and sacrebleu's signature; each hypothesis may have several references.

    Raises:
        ValueError: `tokenize` is none of sacrebleu's, or one whose own packages are not installed.
        ModuleNotFoundError: sacrebleu is not installed.
    """
    metric = _sacrebleu(tokenize)
    streams: Any = reference_streams(references)
    score = metric.corpus_score(list(hypotheses), streams).score
    return float(score), str(metric.get_signature())


def _sacrebleu(tokenize: str) -> Any:
    """sacrebleu's BLEU with one of its tokenizers; raises as `bleu` does."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ModuleNotFoundError:
        raise ModuleNotFoundError("sacrebleu is not installed; run: pip install 'foveate[train]'") from None
    if tokenize not in BLEU.TOKENIZERS:
        raise ValueError(f"unknown tokenize {tokenize!r}; sacrebleu has {', '.join(map(repr, BLEU.TOKENIZERS))}")
    try:
        return BLEU(tokenize=tokenize, force=True)
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"tokenize {tokenize!r} cannot be used: {' '.join(str(error).split())}") from None
