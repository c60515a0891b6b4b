"""Pictures that models read: which tokens are which patches, and the pixels that a model saw. See docs/vision.md.

pictures = fv.vision.pictures(model, inputs["pixel_values"], processor)
fv.view(seen, pictures=pictures)
"""

from ..picturefile import MOST_PIXELS, UnreadableError, read
from .grids import NotAPictureError, pictures
from .rollout import with_rollout

__all__ = ["MOST_PIXELS", "NotAPictureError", "UnreadableError", "pictures", "read", "with_rollout"]
