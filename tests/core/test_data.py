"""Data on its way into a run, batch by batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Data, Split, ThreatModel
from buttress.data import check_data, epoch_order, fixed_order, steps_per_epoch
from buttress.errors import DataError

from .helpers import LINF, batch_of


def data(**splits: Any) -> Data:
    sizes = {"train": 12, "validation": 5, "test": 7}
    parts = {name: Split(batch_of(n, n).x, batch_of(n, n).y) for name, n in sizes.items()}
    return Data(**{**parts, **splits}, num_classes=3)


def changed(x: Any = None, y: Any = None) -> Split:
    batch = batch_of(7, 7)
    if x is not None:
        batch.x[4, 0, 1, 2] = x
    if y is not None:
        batch.y[3] = y
    return Split(batch.x, batch.y)


def test_good_data_passes():
    check_data(data(), LINF)
    check_data(data(validation=None), LINF)
    check_data(data(test=changed(x=7.0)), ThreatModel("linf", 1, None))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.nan}, "NaN or infinity in example 4; remove or repair it"),
        ({"x": torch.inf}, "NaN or infinity in example 4"),
        ({"x": 1.5}, r"example 4 lies outside of the box: expected values in \[0, 1\], got \[.*, 1\.5\]; scale the"),
        ({"x": -0.25}, r"example 4 lies outside of the box: .*got \[-0\.25, "),
        ({"y": 3}, "label out of range at example 3: expected 0 to 2, got 3; renumber the labels"),
        ({"y": -1}, "label out of range at example 3: expected 0 to 2, got -1"),
    ],
)
def test_a_bad_example_is_named_with_split_and_position(split: str, change: dict[str, Any], message: str):
    with pytest.raises(DataError, match=rf"^data, split {split}: {message}"):
        check_data(data(**{split: changed(**change)}), LINF)


def test_an_empty_split_and_other_shapes_are_refused():
    batch = batch_of()
    with pytest.raises(DataError, match="data, split test: expected at least one example, got none"):
        check_data(data(test=Split(batch.x[:0], batch.y[:0])), LINF)
    with pytest.raises(DataError, match=r"split test: expected inputs of shape \(1, 4, 4\), got \(1, 4, 3\)"):
        check_data(data(test=Split(batch.x[..., :3], batch.y)), LINF)


# Order


def test_the_order_of_an_epoch_is_fixed_by_seed_and_epoch():
    torch.random.manual_seed(0)
    first = epoch_order(50, 3, 7)
    torch.random.manual_seed(1)
    assert torch.equal(first, epoch_order(50, 3, 7))
    assert sorted(first.tolist()) == list(range(50))
    others = [epoch_order(50, 3, 8), epoch_order(50, 4, 7), fixed_order(50, 3), torch.arange(50)]
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "steps"),
    [(10, 5, False, 2), (11, 5, False, 3), (11, 5, True, 2), (3, 5, False, 1)],
)
def test_steps_per_epoch_count_the_incomplete_batch_unless_it_is_dropped(
    n: int, batch_size: int, drop_last: bool, steps: int
):
    assert steps_per_epoch(Split(torch.zeros(n, 1), torch.zeros(n)), batch_size, drop_last) == steps


def test_a_batch_larger_than_the_data_is_refused_when_incomplete_ones_are_dropped():
    with pytest.raises(DataError, match=r"data\.batch_size: 5 is more than the 3 training examples, with drop_last"):
        steps_per_epoch(Split(torch.zeros(3, 1), torch.zeros(3)), 5, True)


# Splits


def collected(split: Split, order: Tensor, size: int, start: int = 0) -> list[tuple[list[int], list[int]]]:
    batches = list(split.batches(order, size, start))
    assert all(torch.equal(batch.x, split.x[batch.index]) for batch in batches)
    return [(batch.index.tolist(), batch.y.tolist()) for batch in batches]


def test_batches_follow_the_order_and_carry_their_positions():
    split = Split(torch.arange(14.0).view(7, 2), torch.arange(7) * 10)
    order = torch.tensor([6, 0, 5, 1, 4, 2, 3])
    found = collected(split, order, 3)
    assert found == [([6, 0, 5], [60, 0, 50]), ([1, 4, 2], [10, 40, 20]), ([3], [30])]
    assert collected(split, order, 3, start=1) == found[1:]
    assert collected(split, order, 3, start=3) == []


def test_batches_keep_the_memory_format():
    x = torch.rand(4, 3, 5, 5)
    split = Split(x, torch.zeros(4, dtype=torch.int64)).to(torch.device("cpu"), torch.channels_last)
    (batch,) = split.batches(torch.arange(4), 4)
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.x, x)


def test_splits_are_listed_in_order_without_a_missing_validation_split():
    assert list(data().splits()) == ["train", "validation", "test"]
    assert list(data(validation=None).splits()) == ["train", "test"]
