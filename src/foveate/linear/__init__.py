"""Linear attention: weights that are products of features, so that all keys fit into one matrix, the state.

output, weights = fv.linear_attention(q, k, v)                      # Katharopoulos et al. 2020
fv.linear_attention(q, k, v, feature_map="favor")                   # Performer
fv.linear_attention(q, k, v, gate=log_decay)                        # RetNet, Mamba-2, GLA
fv.linear_attention(q, k, v, beta=rate, feature_map="identity")     # DeltaNet; with a gate, gated DeltaNet
output, weights, state = fv.linear.run(q, k, v)                     # and from here one token after the other:
output, weights, state = fv.linear.run(q1, k1, v1, state=state)
"""

from .attend import Result, State, linear_attention, run
from .features import Elu, Favor, FeatureMap, Hedgehog, Identity, Relu, favor

__all__ = [
    "Elu",
    "Favor",
    "FeatureMap",
    "Hedgehog",
    "Identity",
    "Relu",
    "Result",
    "State",
    "favor",
    "linear_attention",
    "run",
]
