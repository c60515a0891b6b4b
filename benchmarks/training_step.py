"""Time of a training step of an encoder: ours / `torch.nn.TransformerEncoder`, same weights, same result.

    python benchmarks/training_step.py [--batch 4] [--rounds 21] [--threads 1] [--device cuda]

Six layers, width 256, 8 heads, inner width 1,024, 512 tokens: forward, backward, AdamW. The two take turns, in an order
that alternates; the figure is the median of the rounds' ratios. On one thread it is processor time, which other
programs disturb less. Before timing, the losses of the first step must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import foveate as fv
from figures import figure

LAYERS, WIDTH, HEADS, INNER, TOKENS = 6, 256, 8, 1024, 512
GOAL = 1.0


def models() -> tuple[nn.Module, nn.Module]:
    """Ours and PyTorch's, with the same weights."""
    torch.manual_seed(0)
    ours = fv.nn.Encoder(LAYERS, WIDTH, HEADS, INNER)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    with torch.no_grad():
        for own, other in zip(ours.layers, theirs.layers, strict=True):
            attention = own.attention
            projections = (attention.query, attention.key, attention.value)
            other.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
            other.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
            other.self_attn.out_proj.load_state_dict(attention.output.state_dict())
            other.linear1.load_state_dict(own.feed_forward.widen.state_dict())
            other.linear2.load_state_dict(own.feed_forward.narrow.state_dict())
    return ours, theirs


def stepper(model: nn.Module, x: Tensor, wanted: Tensor) -> Callable[[], float]:
    """One training step, which returns its loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), wanted)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    on_one = chosen.threads == 1 and chosen.device == "cpu"
    clock = time.process_time if on_one else time.perf_counter
    x, wanted = torch.randn(2, chosen.batch, TOKENS, WIDTH, device=chosen.device)
    steps = [stepper(model.to(chosen.device), x, wanted) for model in models()]
    ours, theirs = steps
    first = [step() for step in steps]
    torch.testing.assert_close(first[0], first[1], rtol=1e-5, atol=1e-6)
    theirs(), ours()
    taken: dict[Callable[[], float], list[float]] = {ours: [], theirs: []}
    for i in range(chosen.rounds):
        for step in (ours, theirs) if i % 2 else (theirs, ours):
            start = clock()
            step()
            taken[step].append(clock() - start)
    ratio = statistics.median(a / b for a, b in zip(taken[ours], taken[theirs], strict=True))
    print(f"{LAYERS} layers, width {WIDTH}, {TOKENS} tokens, batch {chosen.batch}, {chosen.device}")
    seconds = [statistics.median(taken[step]) for step in (theirs, ours)]
    print(f"  nn.TransformerEncoder  {seconds[0]:.3f} s   ours  {seconds[1]:.3f} s")
    where = "" if chosen.device == "cpu" else f", {chosen.device}"
    figure(
        f"training step, ours / nn.TransformerEncoder{where}",
        ratio,
        "x",
        goal=f"<= {GOAL}",
        threads=chosen.threads if chosen.device == "cpu" else None,
    )


if __name__ == "__main__":
    main()
