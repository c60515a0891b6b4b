"""Modules whose attention is `foveate.attention`, so every weight can be looked at."""

from .attention import MultiHeadAttention
from .encoder import Encoder, EncoderLayer, FeedForward

__all__ = ["Encoder", "EncoderLayer", "FeedForward", "MultiHeadAttention"]
