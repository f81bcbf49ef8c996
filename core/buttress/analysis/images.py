"""Adversarial images beside the clean ones that they were made of."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from buttress.console.drawing import without_latex
from buttress.storage.files import write_with
from buttress.threat import ThreatModel

# Examples that are shown.
SHOWN = 8
# Pixels along the longer side of a picture, at most: larger images are shrunk.
LARGEST = 64

Pixels = NDArray[np.uint8]


def pictures(clean: Tensor, attacked: Tensor, threat: ThreatModel) -> dict[str, Any]:
    """Images and what an attack did to them, as PNG in base64.

    Args:
        clean: ``[n,C,H,W]`` inputs in the threat model's box, C 1 or 3.
        attacked: ``[n,C,H,W]``.
        threat: has a box.

    Returns:
        ``clean``, ``attacked`` and ``difference``, n each; and ``amplified``, the factor on the differences, which lie
        around grey and of which the largest reaches black or white.
    """
    assert threat.box is not None
    low, high = map(float, threat.box)
    change = attacked - clean
    largest = float(change.abs().max())
    amplified = (high - low) / 2 / largest if largest else 1.0
    middle = (low + high) / 2
    named = {"clean": clean, "attacked": attacked, "difference": middle + amplified * change}
    encoded = {name: [_png((x - low) / (high - low)) for x in images] for name, images in named.items()}
    return {**encoded, "amplified": amplified}


def _png(image: Tensor) -> str:
    """``[C,H,W]`` from 0 to 1 as a PNG file in base64, shrunk where it is larger than ``LARGEST``."""
    from PIL import Image

    pixels: Pixels = (255 * image.clamp(0, 1)).round().byte().cpu().numpy()
    made = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    made.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    made.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


@without_latex()
def draw_images(path: Path, numbers: Mapping[str, Any]) -> None:
    """A column an example: clean, attacked, difference; its classes below."""
    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    kinds, count = ("clean", "attacked", "difference"), len(numbers["positions"])
    figure = Figure(figsize=(1.1 * count + 0.6, 4.2), dpi=120, layout="constrained")
    panels = figure.subplots(len(kinds), count, squeeze=False)
    for row, kind in zip(panels, kinds, strict=True):
        for axes, data in zip(row, numbers[kind], strict=True):
            axes.imshow(Image.open(io.BytesIO(base64.b64decode(data))), cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(kind if kind != "difference" else f"difference x {numbers['amplified']:.3g}", fontsize=8)
    predictions = zip(numbers["labels"], numbers["predicted"], numbers["predicted_attacked"], strict=True)
    for axes, (label, clean, attacked) in zip(panels[-1], predictions, strict=True):
        axes.set_xlabel(f"{label}: {clean} to {attacked}", fontsize=8)
    whose = f"{numbers['track']}, {numbers['checkpoint']} (epoch {numbers['epoch']})"
    figure.suptitle(f"{numbers['attack']}, {whose}; below: true class: predicted, clean to attacked", fontsize=9)
    write_with(path, lambda temporary: figure.savefig(temporary))
