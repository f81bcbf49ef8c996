"""Adversarial images beside clean ones, and accuracies by class: the pixels and the counts are what they say."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from buttress.analysis.parts.classes import MOST_SHOWN, hardest, right_by_class
from buttress.analysis.parts.images import LARGEST, pictures
from buttress.threat import ThreatModel


def pixels(data: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("box", [(0, 1), (-1, 3)])
def test_pictures_show_the_inputs_and_their_differences(channels: int, box: tuple[int, int]):
    low, high = box
    clean = torch.full((2, channels, 4, 4), (low + high) / 2)
    clean[0, :, 0, 0], clean[0, :, 0, 1] = low, high
    attacked = clean.clone()
    attacked[1, :, 2, 2] += 0.1
    attacked[1, :, 3, 3] -= 0.05
    made = pictures(clean, attacked, ThreatModel("linf", 0.1, box))
    first, second = pixels(made["clean"][0]), pixels(made["difference"][1])
    assert first.shape == ((4, 4) if channels == 1 else (4, 4, 3))
    assert (first[0, 0] == 0).all()
    assert (first[0, 1] == 255).all()
    assert (first[1, 1] == 128).all()
    assert made["amplified"] == pytest.approx((high - low) / 2 / 0.1, rel=1e-5)
    assert (second[2, 2] == 255).all()  # the largest difference
    assert (second[3, 3] == 64).all()
    assert (second[0, 0] == 128).all()  # grey: nothing has changed


def test_an_attack_that_does_nothing_leaves_grey():
    x = torch.rand(1, 1, 4, 4)
    made = pictures(x, x, ThreatModel("linf", 0.1))
    assert made["amplified"] == 1.0
    assert (pixels(made["difference"][0]) == 128).all()


def test_large_images_are_shrunk():
    x = torch.rand(1, 3, 224, 112)
    made = pictures(x, x, ThreatModel("linf", 0.1))
    assert pixels(made["clean"][0]).shape == (LARGEST, LARGEST // 2, 3)


def test_right_predictions_are_counted_by_class():
    labels, predicted = torch.tensor([0, 0, 1, 3, 3, 3]), torch.tensor([0, 1, 1, 3, 3, 0])
    assert right_by_class(predicted, labels, 5) == [1, 1, 0, 2, 0]


def test_of_many_classes_the_hardest_are_shown_in_their_order():
    numbers = {"sizes": [10] * 99 + [0], "rows": [{"attacked": [(7 * k) % 100 / 10 for k in range(100)]}]}
    shown = hardest(numbers)
    assert len(shown) == MOST_SHOWN
    assert shown == sorted(shown)
    assert 0 in shown  # nothing right
    assert 99 not in shown  # no example of it
    few = {"sizes": [3, 0, 2], "rows": [{"attacked": [1, 0, 2]}]}
    assert hardest(few) == [0, 2]
