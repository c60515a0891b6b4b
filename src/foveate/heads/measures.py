"""What is measured of attention heads, and what each measure is, exactly.

Weights w_ij of query i on key j of one text; a row is measured if it sees a key and is not NaN. Tokens are the same
where their text (their number in the vocabulary) is. Means over rows:

- `entropy`: -sum_j w_ij log w_ij, in nats.
- `spread`: the entropy divided by the largest it could be, the log of the number of keys that the row sees. Of rows
  that see two or more.
- `distance`: sum_j w_ij abs(i - j) / sum_j w_ij, in tokens.
- `local`: sum of w_ij over abs(i - j) <= 2, the token itself included.
- `first`: w_i0, the share of the text's first token.
- `separator`: the share of special tokens but the first token of the text ([SEP], </s>: Clark et al. 2019). Of texts
  that have one. Punctuation is no special token: it is part of the text.
- `previous`, `next`: w_i,i-1 and w_i,i+1 (previous-token heads, Elhage et al. 2021). Of rows whose token has one
  before, or after it. Heads that see nothing after a token have no `next`.
- `duplicate`: sum of w_ij over earlier places j of the row's own token (duplicate-token heads, Wang et al. 2022). Of
  rows where there is one.
- `induction`: sum of w_ij over the places j < i that follow an earlier place of the row's own token (the prefix
  matching score of induction heads, Olsson et al. 2022). Of rows where there is one.

Of what each key receives, r_j = sum_i w_ij over the measured rows:

- `sink`: the share of the four keys that receive most (attention sinks, Xiao et al. 2023), a mean over rows.
- `gini`: how unequally keys receive, the Gini coefficient of all r_j of a text (0: all the same, near 1: one takes
  all). A mean over texts. Where rows see earlier keys alone, early keys receive more even from a head that does not
  choose.

Of a corpus:

- `positional`: how much of the variance of the weights relative position alone explains, see `heads/profile.py`. The
  rest, 1 - `positional`, is owed to what tokens are, and to where in the text they stand.
- `copy`: whether what a head writes raises the logit of the token that it read, see `heads/copying.py`. It follows from
  the model alone.
- agreement of two heads, see `heads/redundancy.py`; `redundancy` is a head's largest with any other.

`distance`, `local`, `previous`, `next`, `duplicate`, `induction` and `positional` ask where a query's own token
stands among the keys, so cross-attention has none of them.
"""

from __future__ import annotations

__all__ = ["ALL", "LOCAL", "MEANING", "MEANS", "SINKS"]

SINKS = 4  # keys that `sink` adds up
LOCAL = 2  # tokens away that are still near
MEANS = (
    "entropy",
    "spread",
    "distance",
    "local",
    "first",
    "sink",
    "separator",
    "previous",
    "next",
    "duplicate",
    "induction",
    "gini",
)
ALL = (*MEANS, "positional", "copy", "redundancy")
MEANING = {
    "entropy": "entropy of a row's weights, nats",
    "spread": "entropy as a part of the largest it could be",
    "distance": "how far away what is read stands, tokens",
    "local": "share of tokens at most 2 away",
    "first": "share of the first token",
    "sink": "share of the 4 keys that receive most",
    "separator": "share of special tokens but the first",
    "previous": "share of the token before",
    "next": "share of the token after",
    "duplicate": "share of earlier places of the same token",
    "induction": "share of tokens that came after the same token before",
    "gini": "inequality of what keys receive, 0 to 1",
    "positional": "part of the weights' variance that relative position explains",
    "copy": "whether what is read is written: sum of eigenvalues / sum of their sizes",
    "redundancy": "agreement with the head that is most alike",
}
