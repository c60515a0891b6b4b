"""What does the decoder say? Greedy search, beam search and sampling, over anything that goes on token by token."""

from .beams import beam, greedy
from .sampling import sample
from .steps import Hypothesis, Steps, length_norm

__all__ = ["Hypothesis", "Steps", "beam", "greedy", "length_norm", "sample"]
