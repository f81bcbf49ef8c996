"""Adversarial images beside the clean images that they were made from."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from buttress.analysis.answers import Png, WeightsAnswer, expect_consistent
from buttress.analysis.part import Missing, NamedAnswer, Options, Part, chosen_tracks
from buttress.analysis.study import Study
from buttress.console.drawing import without_latex
from buttress.storage.files import write_with
from buttress.storage.shapes import Count, Number
from buttress.threat import ThreatModel

# Number of examples that are shown.
SHOWN = 8
# Pixels along the longer side of a picture; larger images are shrunk.
LARGEST = 64

Pixels = NDArray[np.uint8]


def pictures(clean: Tensor, attacked: Tensor, threat: ThreatModel) -> dict[str, Any]:
    """Clean images, attacked images and their differences, as PNG files in base64.

    Args:
        clean: ``[n,C,H,W]`` inputs in the threat model's box, C 1 or 3.
        attacked: ``[n,C,H,W]`` attacked inputs.
        threat: threat model with a box.

    Returns:
        ``clean``, ``attacked`` and ``difference``, n pictures each; and ``amplified``, the factor on the differences.
        They are drawn around grey, and the largest difference becomes black or white.
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


class Answer(WeightsAnswer):
    threat: str
    positions: list[Count]
    labels: list[Count]
    predicted: list[Count]
    predicted_attacked: list[Count]
    clean: list[Png]
    attacked: list[Png]
    difference: list[Png]
    amplified: Number

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        lists = (self.labels, self.predicted, self.predicted_attacked, self.clean, self.attacked, self.difference)
        expect_consistent(
            all(len(each) == len(self.positions) for each in lists), "the same number of examples everywhere"
        )
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """The first test images of a fixed order, clean and attacked, of every track."""
    shape, threat = study.data.test.example_shape, study.threat
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise Missing(f"examples of shape {list(shape)} are no images: expected [C,H,W] with 1 or 3 channels")
    if threat.box is None:
        raise Missing("threat.box is none: where black and white lie is not known")
    positions = study.test_examples[:SHOWN]
    for track in chosen_tracks(study, options):
        epoch = study.load(track)
        clean = [batch.x for batch in study.batches(positions, "test")]
        attacked = study.attacked(positions, "test")
        inputs = [x for x, _ in attacked]
        numbers = {
            "track": track,
            "checkpoint": study.checkpoint,
            "epoch": epoch,
            "attack": study.attack,
            "threat": str(threat),
            "split": "test",
            "positions": positions,
            "labels": torch.cat([y for _, y in attacked]),
            "predicted": study.predicted(clean),
            "predicted_attacked": study.predicted(inputs),
            **pictures(torch.cat(clean), torch.cat(inputs), threat),
        }
        yield NamedAnswer(f"images-{track}-{study.checkpoint}", numbers)


@without_latex()
def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """One column for each example: clean, attacked, difference; its classes below."""
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


PART = Part("images-", Answer, ask, draw)
