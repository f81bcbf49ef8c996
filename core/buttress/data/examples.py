"""Checks of examples: inputs inside the box, labels in range, and the number of classes."""

import torch
from torch import Tensor

from buttress.errors import DataError
from buttress.nn.contract import is_dense
from buttress.threat import ThreatModel

NO_LABEL = -1
"""Label of an extra training example that has none."""


def check_inputs(what: str, x: Tensor, threat: ThreatModel) -> None:
    """Check that inputs ``x [n,*]`` are dense, floating-point, finite and inside the box.

    Raises:
        DataError: names ``what``, and the position and values of the first that is not.
    """
    if not is_dense(x) or x.dim() < 2 or not x.is_floating_point() or x[:1].numel() == 0:
        cure = "; divide images by 255" if isinstance(x, Tensor) and x.dtype == torch.uint8 else ""
        raise DataError(f"{what}: expected inputs [n,*] in a dense floating-point tensor, got {kind_of(x)}{cure}")
    flat = x.flatten(1)
    bad = (~torch.isfinite(flat)).any(1).nonzero()
    if len(bad):
        raise DataError(f"{what}: NaN or infinity in example {int(bad[0])}; remove or repair it")
    if threat.box is None:
        return
    low, high = threat.box
    bad = ((flat < low) | (flat > high)).any(1).nonzero()
    if len(bad):
        worst = flat[int(bad[0])]
        raise DataError(
            f"{what}: example {int(bad[0])} lies outside of the box: expected values in "
            f"[{low:g}, {high:g}], got [{float(worst.min()):g}, {float(worst.max()):g}]; scale the inputs "
            "(normalisation belongs into the model), or set threat.box"
        )


def check_labels(what: str, y: Tensor, num_classes: int, *, least: int = 0) -> None:
    """Check that labels ``y [n]`` are int64, from ``least`` to ``num_classes - 1``.

    Raises:
        DataError: names ``what``, and the position and value of the first that is not.
    """
    if not is_dense(y) or y.dim() != 1 or y.dtype != torch.int64:
        raise DataError(f"{what}: expected labels [n] in an int64 tensor, got {kind_of(y)}")
    bad = ((y < least) | (y >= num_classes)).nonzero()
    if len(bad):
        first = int(bad[0])
        raise DataError(
            f"{what}: label out of range at example {first}: expected {least} to {num_classes - 1}, got "
            f"{int(y[first])}; renumber the labels or set num_classes"
        )


def count_classes(what: str, y: Tensor) -> int:
    """Number of classes of training labels ``y [n]``, which have to be 0, 1, 2 ... without a gap.

    Raises:
        DataError: names ``what``; a class below the largest label has no example, so that the number is a guess.
    """
    classes = torch.unique(y).tolist()
    if classes[0] < 0:  # no gap, but a wrong label: ``check_labels`` says at which example
        return max(2, int(classes[-1]) + 1)
    if classes == list(range(len(classes))):
        return len(classes)
    shown = ", ".join(map(str, classes[:5])) + (f" ... {classes[-1]}" if len(classes) > 5 else "")
    raise DataError(
        f"{what}: expected labels from 0 to {len(classes) - 1} for {len(classes)} classes, got {shown}; renumber "
        "them, or set num_classes if there are classes without an example"
    )


def kind_of(value: object) -> str:
    """``"a list"``, ``"a complex64 tensor of shape (8, 3)"``."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_nested:  # it has no shape
        return "a nested tensor"
    words = ([] if value.layout == torch.strided else ["sparse"]) + [str(value.dtype).removeprefix("torch."), "tensor"]
    article = "an" if words[0].startswith("int") else "a"
    return f"{article} {' '.join(words)} of shape {tuple(value.shape)}"
