"""The parts of ``buttress analyze``: one question, one file, with its numbers, its picture and its figure."""

from buttress.analysis.part import Part
from buttress.analysis.parts import (
    classes,
    distance,
    gap,
    histogram,
    images,
    label_noise,
    landscape,
    loss_groups,
    surface,
)

PARTS: dict[str, Part] = {
    "gap": gap.PART,
    "landscape": landscape.PART,
    "surface": surface.PART,
    "histogram": histogram.PART,
    "loss_groups": loss_groups.PART,
    "label_noise": label_noise.PART,
    "distance": distance.PART,
    "classes": classes.PART,
    "images": images.PART,
}
"""Every part by its name on the command line."""
