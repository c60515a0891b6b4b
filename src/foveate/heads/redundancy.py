"""Which heads do the same: agreement of every two heads that read the same text.

Two heads read from row i with weights v and w. They agree as much as these two distributions overlap,

    sum_j sqrt(v_ij w_ij),

the Bhattacharyya coefficient: 1 if they are the same, 0 if they read nothing in common; 1 minus it is the squared
Hellinger distance. Agreement is its mean over rows, with the standard error over texts that `means` describes. It is a
product of matrices, so that the weights of all heads of a batch are enough, each once.

Heads are compared within a class: those of an encoder, those of a decoder, those that read one from the other. Of a
batch whose weights of all heads would take more than `ENTRIES` numbers, fewer rows are compared, spread evenly.

Axes: B texts, N heads of the class, A rows compared, K keys, R rows of a piece, b texts of a piece, h heads of a call.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .means import ratio_error
from .sampling import spread_out
from .sums import Piece, Pieces

__all__ = ["Agreement", "Compared"]

ENTRIES = 1 << 24  # square roots of weights held at a time: 64 MB
PRODUCTS = 1 << 22  # agreements of single texts held at a time


class Agreement:
    """Sums over texts of all pairs of heads of a class; merged like any reducer."""

    def __init__(self, heads: int) -> None:
        self.pairs = torch.zeros(3, heads, heads, dtype=torch.float64)  # s, s^2, s c of each text
        self.counts = torch.zeros(3, dtype=torch.float64)  # c, c^2, texts

    def update(self, s: Float[Tensor, "B N N"], c: Float[Tensor, " B"]) -> None:
        for at, part in enumerate((s, s * s, s * c[:, None, None])):
            self.pairs[at] += part.sum(0)
        self.counts += torch.stack([c.sum(), (c * c).sum(), (c > 0).double().sum()])

    def merge(self, other: Agreement) -> None:
        self.pairs += other.pairs
        self.counts += other.counts

    def result(self) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N N"]]:
        """Agreement and its standard error; NaN before any row is known."""
        (s, ss, sc), (c, cc, texts) = self.pairs, self.counts
        mean = s / torch.where(c > 0, c, torch.nan)
        return mean, ratio_error(mean, c, ss, sc, cc, texts)


class Compared:
    """The rows of one batch in which the heads of a class are compared, filled call by call."""

    def __init__(self, pieces: Pieces, heads: int) -> None:
        texts, self.keys = pieces.keys.ids.shape
        most = max(1, ENTRIES // max(1, texts * heads * self.keys))
        at = spread_out(len(pieces.rows), most)[0] if len(pieces.rows) > most else torch.arange(len(pieces.rows))
        self.rows = pieces.rows[at]
        self.counts = pieces.queries.real[:, self.rows].sum(-1).double()
        self.roots = torch.zeros(texts, heads, len(self.rows), self.keys)

    def take(self, piece: Piece, heads: slice, w: Float[Tensor, "b h R K"]) -> None:
        """Keep what is compared of the weights of some rows."""
        picked = torch.isin(piece.rows, self.rows)
        if not bool(picked.any()):
            return
        first = int(torch.searchsorted(self.rows, piece.rows[picked][0]))
        place = slice(first, first + int(picked.sum()))
        some = w if bool(picked.all()) else w[:, :, picked.to(w.device)]
        self.roots[piece.texts, heads, place] = some[..., : self.keys].sqrt().to(self.roots)

    def into(self, agreement: Agreement) -> None:
        """Add the batch, once all calls are in."""
        heads = self.roots.shape[1]
        step = max(1, PRODUCTS // max(1, heads * heads))
        for roots, counts in zip(self.roots.flatten(2).split(step), self.counts.split(step), strict=True):
            agreement.update((roots @ roots.mT).double(), counts)
