"""Random choices while a data set is made: parts drawn by class, label noise in a ``Data``."""

import numpy as np
import pytest
import torch

from buttress import Data, Split
from buttress.data import EightBitSplit, add_label_noise, draw_parts
from buttress.errors import DataError

Y = torch.tensor([0] * 5 + [1] * 7 + [2] * 6)[torch.randperm(18, generator=torch.Generator().manual_seed(0))]


def test_parts_have_as_many_examples_of_every_class_and_share_none():
    (a, b), rest = draw_parts(Y, 3, {"a": 2, "b": 3}, np.random.default_rng(0))
    assert Y[a].bincount().tolist() == [2, 2, 2]
    assert Y[b].bincount().tolist() == [3, 3, 3]
    assert Y[rest].bincount(minlength=3).tolist() == [0, 2, 1]
    assert sorted([*a, *b, *rest]) == list(range(18))
    assert all(np.array_equal(part, np.sort(part)) for part in (a, b, rest))


def test_a_part_does_not_depend_on_those_after_it_and_differs_with_the_seed():
    (a, _), _ = draw_parts(Y, 3, {"a": 2, "b": 3}, np.random.default_rng(0))
    (alone,), _ = draw_parts(Y, 3, {"a": 2}, np.random.default_rng(0))
    (other,), _ = draw_parts(Y, 3, {"a": 2}, np.random.default_rng(1))
    assert np.array_equal(a, alone)
    assert not np.array_equal(a, other)


@pytest.mark.parametrize(
    ("classes", "parts", "message"),
    [
        (3, {"train_per_class": 6}, "expected train_per_class of at most 5, which every class has, got 6"),
        (
            3,
            {"train": 3, "extra": 3},
            "expected train and extra of at most 5 together, which every class has, got 3 and",
        ),
        (4, {"train_per_class": 1}, "expected train_per_class of at most 0, which every class has, got 1"),
    ],
)
def test_more_than_the_smallest_class_has_is_refused(classes: int, parts: dict[str, int], message: str):
    with pytest.raises(DataError, match=f"^{message}"):
        draw_parts(Y, classes, parts, np.random.default_rng(0))


@pytest.mark.parametrize("kind", [Split, EightBitSplit])
def test_noise_moves_training_labels_alone_and_keeps_the_true_ones(kind: type[Split]):
    x = torch.arange(72, dtype=torch.uint8 if kind is EightBitSplit else torch.float32).view(18, 4)
    clean = Data(kind(x, Y), kind(x, Y), 3, notes={"classes": ["a", "b", "c"]})
    noisy = add_label_noise(clean, 0.5, np.random.default_rng(0))
    moved = (noisy.train.y != Y).nonzero()[:, 0].tolist()
    assert len(moved) == 9
    assert noisy.notes == {"classes": ["a", "b", "c"], "flipped_labels": 9, "flipped_index": moved}
    assert torch.equal(noisy.true_labels, Y)
    assert noisy.test is clean.test
    assert isinstance(noisy.train, kind)
    assert torch.equal(noisy.train.x, clean.train.x)
    assert torch.equal(clean.train.y, Y)
    assert add_label_noise(clean, 0.0, np.random.default_rng(0)).true_labels is None
