"""One image file, as a person sees it: opened within limits, turned upright, cut where it is a strip."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from buttress.errors import DataError
from buttress.storage.regular_file import open_regular_file

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes of one channel with more than 8 bits, which Pillow's own conversion to RGB would cut off at 255."""

MOST_PIXELS = 89_478_485
"""Pixels of an image, at most: Pillow warns of more, which may be a file of some kB that fills the memory."""
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "PPM", "TIFF", "WEBP", "GIF")
"""Formats that Pillow may recognise in a file, whatever its name: formats of torchvision's suffixes that Pillow decodes
itself. PostScript is not among them, because Pillow would start the program ``gs`` for it."""
WIDEST = 4
"""Ratio of the sides from which on an image is cut before it is resized: its longer side would grow without bound."""

Background = Literal["white", "black"]


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """The image of a file, of which the header has been looked at.

    Raises:
        DataError: the file is none of an image, or of one that cannot be used; names it.
    """
    with image_errors(path), open_regular_file(Path(path)) as stream:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # expect_usable refuses them
            image = Image.open(stream, formats=FORMATS)
        with image:
            expect_usable(image)
            yield image


def crop_strip(image: Image.Image) -> Image.Image:
    """``image``, or of a strip that is longer than ``WIDEST`` times its width the middle, which a centre crop keeps."""
    longest = WIDEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def visible_image(image: Image.Image, background: Background) -> Image.Image:
    """The visible content of ``image``: turned as its EXIF tag says, transparent pixels over the background.

    Returns:
        An image of mode ``RGB``, or of mode ``F`` with values in [0, 1] where the image has one deep channel.

    Raises:
        ValueError: nothing of it is visible, or its values have no agreed white.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in DEEP:
        return _grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema()[1] == 0:
        raise ValueError("all of its pixels are transparent")
    behind = Image.new("RGBA", layers.size, background)
    return Image.alpha_composite(behind, layers).convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """An image of one deep channel, with values in [0, 1]."""
    values = np.asarray(image, dtype=np.float64) / _white(image)
    if _tiff_tag(image, "PhotometricInterpretation", 1) == 0 and image.mode != "F":  # 0 is white; Pillow leaves it so
        values = 1 - values
    if not (values.min() >= 0 and values.max() <= 1):  # NaN neither
        raise ValueError(f"expected floating-point pixels in [0, 1], got [{values.min():g}, {values.max():g}]")
    return Image.fromarray(values.astype(np.float32))


def _white(image: Image.Image) -> int:
    """The value that stands for white: 1 of floats, 65535 of 16 bits, 4095 of a TIFF file's 12 bits."""
    if image.mode == "F":
        return 1
    return int(2 ** _tiff_tag(image, "BitsPerSample", 16) - 1)


def expect_usable(image: Image.Image) -> None:
    """Refuse, by its header, an image of which the conversion would lose the content.

    Raises:
        ValueError: too many pixels, several frames, 32-bit integers, or transparency of a 16-bit image.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {image.width:,} x {image.height:,} pixels, expected at most {MOST_PIXELS:,} in all")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's MPO: the image, and previews of it
        raise ValueError(f"it has {frames} frames, expected one")
    if image.mode == "I" and image.format != "PPM":  # Pillow scales the integers of PPM to 16 bits
        raise ValueError("its pixels are 32-bit or signed integers, for which no value is white; expected 8 or 16 bits")
    if image.mode in DEEP and "transparency" in image.info:
        raise ValueError("it has 16 bits and a transparent colour, which are not taken together")


def _tiff_tag(image: Image.Image, name: str, default: int) -> int:
    """The first value of a tag of a TIFF file; the default for other files."""
    tags = getattr(image, "tag_v2", {})
    value = tags.get(_TIFF_TAGS[name], default)
    return int(value[0] if isinstance(value, tuple) else value)


_TIFF_TAGS = {"BitsPerSample": 258, "PhotometricInterpretation": 262}


def sha256_of_image(path: str) -> str:
    """sha256 of the bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    with image_errors(path), open_regular_file(Path(path)) as stream:
        return file_digest(stream, "sha256").hexdigest()


@contextmanager
def image_errors(path: str) -> Iterator[None]:
    """Turn errors of Pillow and of the system into a DataError that names the file."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem).partition(" <")[0]  # "<_io.BufferedReader name=3>"
        raise DataError(f"image_folder: {path} cannot be read: {reason}; repair or remove it") from None
