"""The colours of curves: told apart in every kind of colour vision, and seen on white and on dark pages."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from buttress.analysis.figures import SHADES
from buttress.report.figures import DARK
from buttress.training.curves import COLOURS

Vector = NDArray[np.float64]

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009:
# linear RGB as it is seen without one kind of cone (severity 1.0).
VISIONS = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
DARK_COLOURS = tuple(DARK.get(colour.upper(), colour) for colour in COLOURS)


def linear(colour: str) -> Vector:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: Vector) -> Vector:
    """CIELAB of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, two: str) -> float:
    """WCAG's ratio of luminances."""
    luminances = sorted(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour) for colour in (one, two))
    return float((luminances[1] + 0.05) / (luminances[0] + 0.05))


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("colours", [COLOURS, DARK_COLOURS], ids=["light", "dark"])
def test_ten_colours_are_told_apart(colours: tuple[str, ...], vision: str):
    assert len(set(colours)) == 10
    seen = {colour: lab(VISIONS[vision] @ linear(colour)) for colour in colours}
    distances = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(colours, 2)}
    assert min(distances.values()) > 12, min(distances, key=lambda pair: distances[pair])


@pytest.mark.parametrize("colours", [COLOURS, SHADES], ids=["colours", "shades"])
def test_every_colour_is_seen_on_its_page(colours: tuple[str, ...]):
    for colour in colours:
        assert contrast(colour, "#FFFFFF") > 1.5
        assert contrast(DARK.get(colour.upper(), colour), DARK["#FFFFFF"]) > 2.9, colour


@pytest.mark.parametrize("ink", ["#222222", "#666666"])
def test_text_is_readable_on_a_dark_page(ink: str):
    assert contrast(DARK[ink], DARK["#FFFFFF"]) > 7
