"""Measures of heads by plain loops over dense weights, row by row and key by key: the oracle of `foveate.heads`."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

from foveate.heads.measures import MEANS


@dataclass
class Text:
    """One text and head: weights (Q, K) of its real rows and keys, which keys each row sees, and its tokens."""

    weights: Tensor
    seen: Tensor
    rows: list[int]
    ids: list[int] | None  # of rows and keys; None where they are different texts
    special: list[bool]  # of keys
    causal: bool = False
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, value: float) -> None:
        self.sums[name] += value
        self.counts[name] += 1

    def measured(self) -> Text:
        received = [0.0] * self.weights.shape[1]
        for i in self.rows:
            self._row(i, received)
        most = sum(sorted(received, reverse=True)[:4])
        self.sums["sink"], self.counts["sink"] = most, self.counts["entropy"]
        n, total = len(received), sum(received)
        if n > 1 and total > 0:
            unequal = sum(abs(a - b) for a in received for b in received)
            self.add("gini", unequal / (2 * n * total))
        return self

    def _row(self, i: int, received: list[float]) -> None:
        row, seen = self.weights[i].tolist(), self.seen[i].tolist()
        count = sum(seen)
        if not count or math.isnan(sum(row)):
            return
        for j, w in enumerate(row):
            received[j] += w
        entropy = -sum(w * math.log(w) for w in row if w > 0)
        self.add("entropy", entropy)
        if count > 1:
            self.add("spread", entropy / math.log(count))
        self.add("first", row[0])
        if any(self.special[1:]):
            self.add("separator", sum(w for j, w in enumerate(row) if j and self.special[j]))
        if self.ids is None:
            return
        ids, n = self.ids, len(self.ids)
        self.add("distance", sum(w * abs(i - j) for j, w in enumerate(row)) / sum(row))
        self.add("local", sum(w for j, w in enumerate(row) if abs(i - j) <= 2))
        if i > 0:
            self.add("previous", row[i - 1])
        if i + 1 < n and not self.causal:
            self.add("next", row[i + 1])
        same = [j for j in range(i) if ids[j] == ids[i]]
        after = [j + 1 for j in same if j + 1 < i]
        if same:
            self.add("duplicate", sum(row[j] for j in same))
        if after:
            self.add("induction", sum(row[j] for j in after))


def means(texts: list[Text]) -> dict[str, tuple[float, float]]:
    """Each measure over a corpus, and its standard error over texts."""
    found = {}
    for name in MEANS:
        s, c = [t.sums[name] for t in texts], [t.counts[name] for t in texts]
        there = sum(x > 0 for x in c)
        if not there:
            found[name] = (math.nan, math.nan)
            continue
        m = sum(s) / sum(c)
        off = sum((a - m * b) ** 2 for a, b in zip(s, c, strict=True))
        error = math.sqrt(there / (there - 1) * off) / sum(c) if there > 1 else math.nan
        found[name] = (m, error)
    return found


def bucket(offset: int) -> int:
    """Offsets up to 16 one by one, larger ones by steps of the square root of 2."""
    size = abs(offset)
    if size > 16:
        size = 17 + min(17, max(k for k in range(60) if size > 16 * 2 ** (k / 2)))
    return int(math.copysign(size, offset)) if offset else 0


def positional(texts: list[Text]) -> float:
    """The part of the sum of squares that lies between offsets."""
    by_offset: dict[int, list[float]] = defaultdict(list)
    for t in texts:
        for i in t.rows:
            row, seen = t.weights[i].tolist(), t.seen[i].tolist()
            if not sum(seen) or math.isnan(sum(row)):
                continue
            for j, w in enumerate(row):
                if seen[j]:
                    by_offset[bucket(j - i)].append(w - 1 / sum(seen))
    whole = sum(y * y for ys in by_offset.values() for y in ys)
    return sum(sum(ys) ** 2 / len(ys) for ys in by_offset.values()) / whole if whole > 1e-12 else math.nan


def agreement(a: list[Text], b: list[Text]) -> float:
    """The mean over rows of how much two heads read in common."""
    of_rows = [
        float((x.weights[i].nan_to_num(0).sqrt() * y.weights[i].nan_to_num(0).sqrt()).sum())
        for x, y in zip(a, b, strict=True)
        for i in x.rows
    ]
    return sum(of_rows) / len(of_rows)
