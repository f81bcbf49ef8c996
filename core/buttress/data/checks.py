"""The check of a whole data set, before step 1: its splits, their examples and its fields."""

import json

from torch import Tensor

from buttress.data.examples import check_labels, kind_of
from buttress.data.split import Data, Split
from buttress.errors import DataError
from buttress.threat import ThreatModel


def check_data(data: Data, threat: ThreatModel) -> None:
    """Check that examples are finite and inside the box, labels in range, and splits of one shape and dtype.

    Raises:
        DataError: names the field of ``data``, or split, position and value of the first example that is wrong.
    """
    _check_fields(data)
    shape, dtype = data.train.example_shape, data.train.dtype
    for name, split in data.splits().items():
        if len(split) == 0:
            hint = "; examples without a test split can serve as data.extra" if name == "test" else ""
            raise DataError(f"data, split {name}: expected at least one example, got none{hint}")
        if split.example_shape != shape:
            raise DataError(f"data, split {name}: expected inputs of shape {shape}, got {split.example_shape}")
        split.check(name, data.num_classes, threat)
        if split.dtype != dtype and None not in (split.dtype, dtype):
            raise DataError(f"data, split {name}: expected inputs of {dtype}, as in the train split, got {split.dtype}")


def _check_fields(data: Data) -> None:
    """Check all fields but the examples: the splits themselves, the number of classes, notes and true labels."""
    for name in ("train", "validation", "test", "extra"):
        split = getattr(data, name)
        if not (isinstance(split, Split) or (split is None and name in ("validation", "extra"))):
            raise DataError(f"data, split {name}: expected a buttress.Split, got {kind_of(split)}")
    if not isinstance(data.num_classes, int) or data.num_classes < 2:
        raise DataError(f"data: expected num_classes to be an int >= 2, got {data.num_classes!r}")
    try:
        json.dumps(dict(data.notes))
    except (TypeError, ValueError) as problem:
        raise DataError(f"data: notes go into a JSON file, and hold what does not: {problem}") from None
    true = data.true_labels
    if true is not None:
        if not isinstance(true, Tensor) or true.shape != (len(data.train),):
            raise DataError(f"data: expected true_labels of shape ({len(data.train)},), got {kind_of(true)}")
        check_labels("data, true_labels", true, data.num_classes)
