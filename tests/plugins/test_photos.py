"""Crops of photographs: where they lie, splits that share no pixel, settings, and a package that is missing."""

import sys
from typing import Any

import pytest
import skimage.data
import torch

from buttress import Data
from buttress.components.construct import choose
from buttress.components.place import Place
from buttress.data import EightBitSplit
from buttress.errors import ConfigError, DataError
from buttress_plugins.data import photos
from buttress_plugins.data.photos import TEST, TRAIN, VALIDATION, Photos, crops_of

SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
# By the package's own functions, in the order of the classes.
PHOTOGRAPHS = [
    getattr(skimage.data, name)()
    for name in ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
]


def load(seed: int = 0, **settings: Any) -> Data:
    return Photos(**{"train_per_class": 14, "test_per_class": 7, "validation": 12, **settings}).load(seed)


def images(split: EightBitSplit) -> list[bytes]:
    return [image.tobytes() for image in (split.x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize("name", SPLITS)
def test_every_crop_lies_where_its_split_has_a_square(name: str):
    split = load(stride=32).splits()[name]
    for number, photograph in enumerate(PHOTOGRAPHS):
        top, left = (photograph.shape[0] - 256) // 2, (photograph.shape[1] - 448) // 2
        places = [
            (y, x) for y in range(0, 256, 32) for x in range(0, 448, 32) if (y // 64 + x // 64) % 4 in SPLITS[name]
        ]
        all_crops = {photograph[top + y :, left + x :][:32, :32].tobytes() for y, x in places}
        drawn = [image for image, label in zip(images(split), split.y.tolist(), strict=True) if label == number]
        assert len(drawn) == len(split) / 6
        assert set(drawn) <= all_crops


@pytest.mark.parametrize(("size", "stride", "each"), [(32, 8, 25), (32, 32, 4), (33, 32, 1), (64, 1, 1), (5, 64, 1)])
def test_no_pixel_is_in_two_splits(size: int, stride: int, each: int):
    pixels = torch.arange(256 * 448).expand(3, -1).view(3, 256, 448)
    crops = {name: crops_of(pixels, squares, size, stride) for name, squares in SPLITS.items()}
    assert {name: len(some) for name, some in crops.items()} == {
        "train": 14 * each,
        "validation": 7 * each,
        "test": 7 * each,
    }
    assert all(some.shape[1:] == (3, size, size) for some in crops.values())
    seen = [set(some.flatten().tolist()) for some in crops.values()]
    together = set.union(*seen)
    assert sum(map(len, seen)) == len(together)
    assert size < 64 or len(together) == 256 * 448


def test_the_splits_have_as_many_crops_of_every_photograph_in_eight_bits():
    data = load(train_per_class=50, validation=0.1)
    assert data.num_classes == 6
    assert data.notes["classes"] == ["astronaut", "cat", "coffee", "galaxies", "retina", "rocket"]
    assert [data.train.y.bincount().tolist(), data.test.y.bincount().tolist()] == [[50] * 6, [7] * 6]
    assert len(data.validation) == 105  # a tenth of 6 x 7 x 25, stratified
    assert set(data.validation.y.bincount().tolist()) == {17, 18}
    assert all(isinstance(split, EightBitSplit) for split in data.splits().values())
    assert load(validation=0).validation is None


def test_the_seed_fixes_the_draws_and_no_setting_of_training_moves_the_test():
    first = load(3, label_noise=0.25)
    assert load(8, split_seed=3, label_noise=0.25).fingerprint == first.fingerprint
    assert load(4, label_noise=0.25).fingerprint["train"] != first.fingerprint["train"]
    assert load(3, train_per_class=20, validation=0).fingerprint["test"] == first.fingerprint["test"]
    assert first.notes["flipped_labels"] == int((first.train.y != first.true_labels).sum()) == 21


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_per_class": 351}, "expected train_per_class of at most 350, which every class has, got 351"),
        ({"test_per_class": 8, "size": 64}, "expected test_per_class of at most 7, which every class has, got 8"),
        ({"validation": 1050}, "validation: expected less than 1050 examples, got 1050"),
    ],
)
def test_more_crops_than_there_are_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        load(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 65}, "data.size: .*less than or equal to 64"),
        ({"size": 32.5}, "data.size: .*integer"),
        ({"size": "big"}, "data.size: .*integer"),
        ({"stride": 0}, "data.stride: .*greater than or equal to 1"),
        ({"label_noise": 1.5}, "data.label_noise: .*less than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_refused_before_the_package_is_asked_for(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        choose("dataset", "photos", Place("data", "name")).make(settings, Place("data"))


def test_without_the_package_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    photos._photographs.cache_clear()
    with pytest.raises(DataError, match=r"^photos: .*; pip install scikit-image, or pip install 'buttress\[demo\]'$"):
        load()
