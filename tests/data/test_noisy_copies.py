"""``scripts/noisy_copies.py``: copies of training images alone, shifted by whole pixels, with noise of the size set."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from noisy_copies import main, noisy_copies

from buttress.config.file import load_config
from buttress.training.dataset import load_data

TRADES = Path(__file__).parents[2] / "configs" / "digits" / "trades.yaml"
SMALL = ["data.split_seed=3", "data.train_per_class=5", "data.validation=100"]


def pixels(x: torch.Tensor) -> set[bytes]:
    """Images ``[n,1,H,W]`` in [0, 1] as bytes."""
    return {np.rint(image * 255).astype(np.uint8).tobytes() for image in x[:, 0].numpy()}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arrays of the file that the script writes with these options."""

    def write(*options: str) -> dict[str, np.ndarray]:
        path = tmp_path / "new" / "copies.npz"
        monkeypatch.setattr(sys, "argv", ["noisy_copies.py", str(TRADES), *SMALL, "--output", str(path), *options])
        main()
        with np.load(path) as file:
            return dict(file)

    return write


def test_copies_are_of_the_training_images_alone_with_the_labels_of_training(written):
    data, _ = load_data(load_config(TRADES, SMALL))
    arrays = written("--copies", "3", "--shift", "0", "--sigma", "0")
    image, label = arrays["image"], arrays["label"]
    assert (image.shape, image.dtype) == ((150, 8, 8, 1), np.uint8)
    assert np.array_equal(label, np.tile(data.train.y.numpy(), 3))  # a fifth of them wrong, as in training
    copied = {one.tobytes() for one in image}
    assert copied == pixels(data.train.x)
    assert data.validation is not None
    assert not copied & (pixels(data.validation.x) | pixels(data.test.x))


def test_a_copy_is_shifted_by_whole_pixels_and_all_shifts_come():
    image = torch.linspace(0.1, 1, 20).reshape(1, 1, 4, 5)
    grey = np.rint(image[0, 0].numpy() * 255)
    shifted = set()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            expected = np.zeros((4, 5))
            for row in range(4):
                for column in range(5):
                    if 0 <= row - down < 4 and 0 <= column - right < 5:
                        expected[row, column] = grey[row - down, column - right]
            shifted.add(expected.astype(np.uint8).tobytes())
    copies = noisy_copies(image, copies=200, shift=1, sigma=0.0, seed=0)
    assert len(shifted) == 9
    assert {copy.numpy().tobytes() for copy in copies} == shifted


def test_the_noise_has_the_size_that_is_set_and_depends_on_the_seed():
    grey = torch.full((50, 1, 8, 8), 0.5)
    first, again, other = (noisy_copies(grey, copies=4, shift=0, sigma=0.05, seed=seed) for seed in (0, 0, 1))
    values = first.double() / 255
    assert float(values.mean()) == pytest.approx(0.5, abs=0.002)  # 4.5 standard errors of 12,800 values
    assert float(values.std()) == pytest.approx(0.05, rel=0.03)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
