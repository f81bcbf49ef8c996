"""The digits: sizes, label noise, splits and seeds."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from buttress import Data
from buttress.data import NO_LABEL, flip_labels
from buttress.errors import DataError
from buttress_plugins.data.digits import Digits

SOURCE = load_digits()
LOOKUP = {image.tobytes(): position for position, image in enumerate(SOURCE.images)}


def positions(x: torch.Tensor) -> list[int]:
    """Where in scikit-learn's array each image is; all 1,797 images differ."""
    return [LOOKUP[image.tobytes()] for image in (x[:, 0].double() * 16).numpy()]


@pytest.fixture(scope="module")
def noisy() -> Data:
    return Digits(label_noise=0.2).load(0)


def test_every_image_of_the_source_is_unique():
    assert len(LOOKUP) == 1797


def test_forty_training_images_of_each_class_by_true_label(noisy: Data):
    true = SOURCE.target[positions(noisy.train.x)]
    assert np.bincount(true).tolist() == [40] * 10
    assert noisy.num_classes == 10


def test_exactly_eighty_labels_are_moved_to_other_classes_and_noted(noisy: Data):
    true = SOURCE.target[positions(noisy.train.x)]
    moved = np.flatnonzero(noisy.train.y.numpy() != true)
    assert len(moved) == 80
    assert noisy.notes == {"flipped_labels": 80, "flipped_index": moved.tolist()}
    assert noisy.true_labels.tolist() == true.tolist()
    assert noisy.train.y.min() >= 0
    assert noisy.train.y.max() <= 9
    assert len(set(((noisy.train.y.numpy() - true) % 10)[moved])) == 9  # to every other class


@pytest.mark.parametrize("which", ["validation", "test"])
def test_validation_and_test_labels_are_clean(noisy: Data, which: str):
    split = noisy.splits()[which]
    assert split.y.numpy().tolist() == SOURCE.target[positions(split.x)].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("per_class", "validation"), [(40, 397), (100, 100), (10, 0)])
def test_the_splits_are_disjoint_and_cover_everything(per_class: int, validation: int, seed: int):
    data = Digits(train_per_class=per_class, validation=validation).load(seed)
    actual = [position for split in data.splits().values() for position in positions(split.x)]
    assert sorted(actual) == list(range(1797))
    assert len(data.train) == 10 * per_class
    assert (data.validation is None) == (validation == 0)
    assert len(data.test) == 1797 - 10 * per_class - validation


def test_the_validation_split_is_stratified(noisy: Data):
    rest = np.bincount(np.concatenate([noisy.validation.y, noisy.test.y]))
    share = 397 / 1397
    assert len(noisy.validation) == 397
    assert np.abs(np.bincount(noisy.validation.y) - share * rest).max() <= 1


def test_images_are_float32_in_the_unit_interval_with_one_channel(noisy: Data):
    for split in noisy.splits().values():
        assert split.x.dtype == torch.float32
        assert split.x.shape[1:] == (1, 8, 8)
        assert split.y.dtype == torch.int64
    assert noisy.train.x.min() == 0
    assert noisy.train.x.max() == 1


def same(a: Data, b: Data) -> bool:
    return all(
        torch.equal(a.splits()[name].x, b.splits()[name].x) and torch.equal(a.splits()[name].y, b.splits()[name].y)
        for name in a.splits()
    )


def test_the_seed_of_the_run_or_split_seed_fixes_everything():
    noise = {"label_noise": 0.2}
    assert same(Digits(**noise).load(3), Digits(**noise).load(3))
    assert not same(Digits(**noise).load(3), Digits(**noise).load(4))
    assert same(Digits(**noise, split_seed=3).load(8), Digits(**noise).load(3))
    assert same(Digits(**noise, split_seed=0).load(8), Digits(**noise).load(0))


def test_the_label_noise_does_not_change_the_split(noisy: Data):
    clean = Digits().load(0)
    assert torch.equal(clean.train.x, noisy.train.x)
    assert torch.equal(clean.test.x, noisy.test.x)
    assert clean.notes == {"flipped_labels": 0, "flipped_index": []}
    assert clean.true_labels is None


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.005, 2), (0.5, 200), (1.0, 400)])
def test_the_share_of_moved_labels_is_exact(share: float, count: int):
    y = torch.arange(400) % 10
    noisy, moved = flip_labels(y, share, 10, np.random.default_rng(0))
    assert int(moved.sum()) == count
    assert torch.equal(noisy != y, moved)
    assert torch.equal(y, torch.arange(400) % 10)


def test_too_few_images_for_the_test_are_refused():
    assert len(Digits(validation=1387).load(0).test) == 10
    message = "digits has 1797 images: 400 for training and 1388 for validation leave 9 for the test"
    with pytest.raises(ValueError, match=message):
        Digits(validation=1388).load(0)


def test_a_share_of_what_is_not_for_training_is_held_out():
    data = Digits(train_per_class=40, validation=0.25).load(0)
    assert (len(data.train), len(data.validation), len(data.test)) == (400, 349, 1048)
    with pytest.raises(ValueError, match="400 for training and 1396 for validation leave 1 for the test"):
        Digits(train_per_class=40, validation=0.9999).load(0)


def test_unlabelled_images_are_set_apart_and_move_no_others():
    plain, data = Digits(label_noise=0.2).load(0), Digits(label_noise=0.2, unlabelled_per_class=30).load(0)
    assert torch.equal(plain.train.x, data.train.x)
    assert plain.extra is None
    assert data.extra.y.tolist() == [NO_LABEL] * 300
    assert np.bincount(SOURCE.target[positions(data.extra.x)]).tolist() == [30] * 10
    actual = [position for split in data.splits().values() for position in positions(split.x)]
    assert sorted(actual) == list(range(1797))


def test_more_images_than_a_class_has_are_refused():
    assert len(Digits(train_per_class=100, unlabelled_per_class=74, validation=0).load(0).extra) == 740
    with pytest.raises(DataError, match="at most 174 together, which every class has, got 100 and 75"):
        Digits(train_per_class=100, unlabelled_per_class=75).load(0)
    with pytest.raises(ValueError, match="400 for training, 740 without labels and 650 for validation leave 7 for the"):
        Digits(unlabelled_per_class=74, validation=650).load(0)


def test_the_task_rotation_has_every_image_in_four_directions():
    digits, data = Digits(unlabelled_per_class=2).load(0), Digits(task="rotation", unlabelled_per_class=2).load(0)
    assert data.num_classes == 4
    assert data.extra.y.tolist() == [NO_LABEL] * 80
    for name, split in data.splits().items():
        upright = digits.splits()[name].x
        if name != "extra":
            assert torch.equal(split.y, torch.arange(4).repeat_interleave(len(upright)))
        for quarters, images in enumerate(split.x.chunk(4)):  # row i of an image is column i of it turned once
            expected = upright.numpy()
            for _ in range(quarters):
                expected = np.flip(expected.swapaxes(2, 3), axis=2)
            assert np.array_equal(images.numpy(), expected)


def test_the_label_noise_of_the_task_rotation_stays_among_its_classes():
    data = Digits(task="rotation", label_noise=1.0).load(0)
    assert data.notes["flipped_labels"] == 1600
    assert data.true_labels.tolist() == [quarters for quarters in range(4) for _ in range(400)]
    assert set(((data.train.y - data.true_labels) % 4).tolist()) == {1, 2, 3}
