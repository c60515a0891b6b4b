"""Which tokens of a vision model of transformers are patches of its picture, and the pixels that it saw.

Axes: B pictures, 3 colours, height, width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foveate.shapes import to_numpy
from foveate.views.pictures import Picture

__all__ = ["NotAPictureError", "pictures"]

# model type -> tokens before the first patch: "[CLS]", what was distilled into; registers are counted by the config
_BEFORE = {
    "blip_vision_model": 1,
    "clip_vision_model": 1,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "vit": 1,
}
HALF = ((0.5,) * 3, (0.5,) * 3)  # mean and deviation of pixels, where nobody says


class NotAPictureError(ValueError):
    """It is not known which tokens of this model are which patches."""


def pictures(model: Any, pixel_values: Tensor, processor: Any = None) -> list[Picture]:
    """What a vision model sees: the grid of its patches, and over it the pixels as they reach it, cropped and resized.

    Args:
        model: a model of transformers, or its configuration; of several towers the vision tower's is taken.
        pixel_values: (B, 3, height, width), what the model is called with; any height and width that it takes
            (`interpolate_pos_encoding=True`). Pixels beyond the last whole patch are cut off, as the model does.
        processor: what made them, which says how to undo it; without one, mean and deviation are taken to be 0.5.

    Returns:
        For each of the B pictures one `fv.Picture`, for `fv.view` and `fv.plot.patches`.

    Raises:
        NotAPictureError: it is not known which tokens are which patches.
        ValueError: `pixel_values` has another shape, or less than a patch.
    """
    config = getattr(model, "config", model)
    config = getattr(config, "vision_config", config)
    first, (high, wide) = _layout(config)
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
        raise ValueError(f"pixel_values must be (batch, 3, height, width); got {tuple(pixel_values.shape)}")
    rows, columns = pixel_values.shape[2] // high, pixel_values.shape[3] // wide
    if not rows or not columns:
        raise ValueError(
            f"a patch has {high} x {wide} pixels; the picture {' x '.join(map(str, pixel_values.shape[2:]))}"
        )
    seen = _pixels(pixel_values[:, :, : rows * high, : columns * wide], processor)
    return [Picture(to_numpy(one), rows, columns, first) for one in seen]


def _layout(config: Any) -> tuple[int, tuple[int, int]]:
    """Tokens before the first patch, and the height and width of a patch."""
    kind = getattr(config, "model_type", None)
    if kind not in _BEFORE:
        known = ", ".join(sorted(name.removesuffix("_vision_model") for name in _BEFORE))
        raise NotAPictureError(
            f"it is not known which tokens of a model of type {kind!r} are which patches; known are {known}. Of others "
            "whose patches are tokens, row by row, make fv.Picture(pixels, rows, columns, first); "
            "windows that are shifted and merged, as in Swin, are no picture"
        )
    size = config.patch_size
    high, wide = size if isinstance(size, list | tuple) else (size, size)
    return _BEFORE[kind] + int(getattr(config, "num_register_tokens", 0)), (int(high), int(wide))


def _pixels(pixel_values: Tensor, processor: Any) -> Tensor:
    """(B, height, width, 3) uint8: what normalising, and scaling from 0..255, made of pixels, undone."""
    processor = getattr(processor, "image_processor", processor)
    x = pixel_values.detach().cpu().double()
    if processor is None or getattr(processor, "do_normalize", False):
        given = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
        mean, deviation = (torch.tensor(list(a or b), dtype=x.dtype) for a, b in zip(given, HALF, strict=True))
        x = x * deviation[:, None, None] + mean[:, None, None]
    scaled = processor is None or getattr(processor, "do_rescale", True)
    x = x / (getattr(processor, "rescale_factor", None) or 1 / 255) if scaled else x
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
