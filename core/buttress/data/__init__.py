"""The parts of a data set plugin: splits, checks, random choices, and reading images and arrays from files.

A plugin answers with ``Data``, which has a ``Split`` for training, for the test, and perhaps for validation.

    Data, Split                     the answer of a data set, and one of its splits
    EightBitSplit                   a split of images that stay uint8 in memory
    check_data                      the checks that a run makes before its first step
    check_labels, count_classes     labels in range, and the number of classes
    NO_LABEL                        label of an extra training example that has none
    hold_out, draw_parts            a validation split, parts with as many examples of every class
    flip_labels, add_label_noise    label noise
    seeded_generator                random numbers of the data set's own
    read_arrays, ArrayHeader        arrays of an ``.npz`` file, examined before they are read
    MappedSplit, map_array ...      images in a file that is mapped into memory, and their labels
    expect_pseudo_labels ...        labels of ``buttress pseudo-label``
    open_packaged_file              a file that lies in an installed package
    read_ahead                      examples read by worker processes before they are used
    open_image, visible_image ...   images of files, as a viewer shows them
    sha256_of_tensor ...            entries of a split's own fingerprint
"""

from buttress.data.array_file import array_names, map_array
from buttress.data.checks import check_data
from buttress.data.eight_bit import EightBitSplit
from buttress.data.examples import NO_LABEL, check_labels, count_classes
from buttress.data.making import add_label_noise, draw_parts, flip_labels, hold_out
from buttress.data.mapped import MappedSplit, check_mapped
from buttress.data.mapped_array import MappedArray
from buttress.data.pseudo import expect_pseudo_labels, label_command, pseudo_label_file
from buttress.data.reading import read_ahead
from buttress.data.split import Data, Split
from buttress.storage.fingerprints import sha256_of_tensor, sha256_of_values
from buttress.storage.image_file import (
    Background,
    crop_strip,
    image_errors,
    open_image,
    sha256_of_image,
    visible_image,
)
from buttress.storage.npz_file import ArrayHeader, read_arrays
from buttress.storage.packaged_file import open_packaged_file
from buttress.streams import seeded_generator

__all__ = [
    "NO_LABEL",
    "ArrayHeader",
    "Background",
    "Data",
    "EightBitSplit",
    "MappedArray",
    "MappedSplit",
    "Split",
    "add_label_noise",
    "array_names",
    "check_data",
    "check_labels",
    "check_mapped",
    "count_classes",
    "crop_strip",
    "draw_parts",
    "expect_pseudo_labels",
    "flip_labels",
    "hold_out",
    "image_errors",
    "label_command",
    "map_array",
    "open_image",
    "open_packaged_file",
    "pseudo_label_file",
    "read_ahead",
    "read_arrays",
    "seeded_generator",
    "sha256_of_image",
    "sha256_of_tensor",
    "sha256_of_values",
    "visible_image",
]
