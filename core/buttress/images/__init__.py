"""Operations on batches of images, for transforms of training batches: each image with numbers of its own.

The numbers are those of Pillow, bit for bit, for the whole batch on its device, and nothing waits for the device.

    to_8bit, from_8bit               between inputs in a box and the numbers 0 to 255 of image files
    edited, Edit, Edits, OPERATIONS  one operation for each image, chosen on the host: on colour, or ``affine``
    shear, rotation, translation     the numbers of ``affine``, a ``Matrix``
    crop_shift, window               a part of each image moved over black; rectangles as masks
    pixels_at                        images of other pixels, given their rows and columns
    HostDraws, below, coins          random numbers drawn on the host
    on_device                        their way to the device
"""

from buttress.images.drawing import HostDraws, below, coins
from buttress.images.editing import OPERATIONS, Edit, Edits, edited
from buttress.images.eight_bits import from_8bit, to_8bit
from buttress.images.geometry import Matrix, affine, crop_shift, pixels_at, rotation, shear, translation, window
from buttress.images.transfer import on_device

__all__ = [
    "OPERATIONS",
    "Edit",
    "Edits",
    "HostDraws",
    "Matrix",
    "affine",
    "below",
    "coins",
    "crop_shift",
    "edited",
    "from_8bit",
    "on_device",
    "pixels_at",
    "rotation",
    "shear",
    "to_8bit",
    "translation",
    "window",
]
