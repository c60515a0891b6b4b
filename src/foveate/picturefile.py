"""Pictures out of files, as people see them: turned as the camera was held, in colours, on white."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from foveate.errors import UserError
from foveate.extras import need

__all__ = ["MOST_PIXELS", "UnreadableError", "read"]

MOST_PIXELS = 50_000_000
_MOST_BYTES = 100_000_000


class UnreadableError(UserError, ValueError):
    """A file that is no picture, or too large a one."""


def read(path: str | os.PathLike[str]) -> Any:
    """A picture file (PNG, JPEG, WebP, GIF's first frame, ...) as a `PIL.Image.Image` of mode RGB.

    It is turned as its EXIF data say; what is transparent becomes white, and grey and palettes colours.

    Raises:
        UnreadableError: there is no such file, it holds no picture, or one of more than 50 million pixels.
        MissingExtraError: Pillow is not installed.
    """
    image, ops = need("PIL.Image", "view"), need("PIL.ImageOps", "view")
    where = Path(path)
    try:
        size = where.stat().st_size
        if size > _MOST_BYTES:
            raise UnreadableError(f"{where} has {size:,} bytes; a picture may have {_MOST_BYTES:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are odd, but can be read
            with image.open(where) as opened:
                wide, high = opened.size
                if wide * high > MOST_PIXELS:
                    raise UnreadableError(
                        f"{where} has {wide:,} x {high:,} pixels; a picture may have {MOST_PIXELS:,} in all"
                    )
                return _on_white(ops.exif_transpose(opened), image)
    except UnreadableError:
        raise
    except image.UnidentifiedImageError:
        raise UnreadableError(
            f"{where} is no picture: expected PNG, JPEG, WebP or another format that Pillow reads"
        ) from None
    except IsADirectoryError:
        raise UnreadableError(f"{where} is a folder; give a picture file") from None
    except FileNotFoundError:
        raise UnreadableError(f"there is no file {where}") from None
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise UnreadableError(f"cannot read the picture {where}: {' '.join(str(error).split())[:200]}") from None


def _on_white(given: Any, image: Any) -> Any:
    if given.mode.startswith("I;16") or given.mode in ("I", "F"):  # more than 8 bits of grey
        import numpy as np

        numbers = np.asarray(given, dtype=np.float64)
        top = 65535 if numbers.max(initial=0) > 255 else 255
        return image.fromarray((numbers * (255 / top)).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if not given.has_transparency_data:
        return given.convert("RGB")
    clear = given.convert("RGBA")
    white = image.new("RGBA", clear.size, (255, 255, 255, 255))
    return image.alpha_composite(white, clear).convert("RGB")
