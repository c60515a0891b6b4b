"""Modules whose attention is `foveate.attention`, so every weight can be looked at. See docs/nn.md."""

from . import functional, search
from .additive import AdditiveAttention, AttentionPooling
from .attention import MultiHeadAttention
from .bidirectional import BidirectionalRNN
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .encoder import Encoder, EncoderLayer, FeedForward
from .latent import LatentAttention
from .recurrent import RNNEncoderDecoder
from .torch_multihead import TorchMultiheadAttention, replace
from .transformer import TransformerEncoderDecoder
from .vocabulary import TiedEmbedding

__all__ = [
    "AdditiveAttention",
    "AttentionPooling",
    "BidirectionalRNN",
    "Cache",
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "LatentAttention",
    "MultiHeadAttention",
    "RNNEncoderDecoder",
    "TiedEmbedding",
    "TorchMultiheadAttention",
    "TransformerEncoderDecoder",
    "functional",
    "replace",
    "search",
]
