"""Modules whose attention is `foveate.attention`, so every weight can be looked at. See docs/nn.md."""

from . import functional
from .additive import AdditiveAttention, AttentionPooling
from .attention import MultiHeadAttention
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .encoder import Encoder, EncoderLayer, FeedForward
from .latent import LatentAttention
from .torch_multihead import TorchMultiheadAttention, replace

__all__ = [
    "AdditiveAttention",
    "AttentionPooling",
    "Cache",
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "LatentAttention",
    "MultiHeadAttention",
    "TorchMultiheadAttention",
    "functional",
    "replace",
]
