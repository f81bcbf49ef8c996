"""Data on its way into a run, batch by batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import Data, Split, ThreatModel
from buttress.data import check_data, count_classes
from buttress.data.order import batches_per_epoch, epoch_order, fixed_order, replayed
from buttress.errors import DataError

from ..core.helpers import LINF, batch_of


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


X, Y = torch.rand(6, 3), torch.arange(6) % 3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(100, 4), torch.zeros(80).long(), "expected a label for each input, got 100 inputs and 80 labels"),
        (torch.rand(80, 4), torch.zeros(100).long(), "expected a label for each input, got 80 inputs and 100 labels"),
        (X, Y.tolist(), "expected y to be a dense tensor .*, got a list"),
        (X, Y.numpy(), "expected y to be a dense tensor .*, got a ndarray"),
        (X.numpy(), Y, "expected x to be a dense tensor .*, got a ndarray"),
        (X.to_sparse(), Y, r"expected x to be a dense tensor .*, got a sparse float32 tensor of shape \(6, 3\)"),
        (None, Y, "expected x to be a dense tensor .*, got a NoneType"),
        (X, torch.tensor(3), r"expected y to be a dense tensor \[n,\*\], got an int64 tensor of shape \(\)"),
    ],
)
def test_inputs_and_labels_that_are_no_pairs_are_no_split(x: Any, y: Any, message: str):
    with pytest.raises(DataError, match=f"^Split: {message}$"):
        Split(x, y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            X[:, 0],
            Y,
            r"expected inputs \[n,\*\] in a dense .*, got a float32 tensor of shape \(6,\)",
        ),
        (X.to(torch.complex64), Y, r"expected inputs .*, got a complex64 tensor of shape \(6, 3\)"),
        ((255 * X).byte(), Y, "expected inputs .*, got a uint8 tensor .*; divide images by 255"),
        (X.long(), Y, "expected inputs .*, got an int64 tensor"),
        (X.bool(), Y, "expected inputs .*, got a bool tensor"),
        (X[:, :0], Y, r"expected inputs .*, got a float32 tensor of shape \(6, 0\)"),
        (X, Y.float(), r"expected labels \[n\] in an int64 tensor, got a float32 tensor of shape \(6,\)"),
        (X, Y.int(), "expected labels .*, got an int32 tensor"),
        (X, Y.bool(), "expected labels .*, got a bool tensor"),
        (X, Y[:, None], r"expected labels .*, got an int64 tensor of shape \(6, 1\)"),
        (X, torch.eye(3)[Y], r"expected labels .*, got a float32 tensor of shape \(6, 3\)"),
        (X, Y - 100, "label out of range at example 0: expected 0 to 2, got -100"),
        (X, Y + 1, "label out of range at example 2: expected 0 to 2, got 3"),
    ],
)
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_examples_of_a_wrong_kind_are_refused_by_name(x: Any, y: Any, message: str, name: str):
    splits: dict[str, Any] = {each: Split(X, Y) for each in ("train", "validation", "test")}
    splits[name] = Split(x, y)
    if x.shape[1:] != X.shape[1:]:
        splits = dict.fromkeys(splits, splits[name])
        name = "train"
    with pytest.raises(DataError, match=f"^data, split {name}: {message}"):
        check_data(data(**splits), ThreatModel("linf", "1/10"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": (X, Y)}, "split train: expected a buttress.Split, got a tuple"),
        ({"test": None}, "split test: expected a buttress.Split, got a NoneType"),
        ({"validation": [X, Y]}, "split validation: expected a buttress.Split, got a list"),
        ({"test": Split(X.double(), Y)}, "split test: expected inputs of torch.float32, .* got torch.float64"),
        ({"num_classes": 1}, "expected num_classes to be an int >= 2, got 1"),
        ({"num_classes": True}, "expected num_classes to be an int >= 2, got 1"),
        ({"num_classes": 3.0}, "expected num_classes to be an int >= 2, got 3.0"),
        ({"num_classes": "3"}, "expected num_classes to be an int >= 2, got '3'"),
        ({"notes": {"mean": X.mean()}}, "notes go into a JSON file, and hold what does not: .*Tensor"),
        ({"notes": 3}, "notes go into a JSON file"),
        ({"true_labels": Y[:4]}, r"expected true_labels of shape \(6,\), got an int64 tensor of shape \(4,\)"),
        ({"true_labels": Y.tolist()}, r"expected true_labels of shape \(6,\), got a list"),
        ({"true_labels": Y + 3}, "true_labels: label out of range at example 0: expected 0 to 2, got 3"),
    ],
)
def test_a_wrong_field_of_the_data_is_refused_by_name(fields: dict[str, Any], message: str):
    with pytest.raises(DataError, match=rf"^data(:|,) {message}"):
        check_data(Data(**{"train": Split(X, Y), "test": Split(X, Y), "num_classes": 3, **fields}), LINF)


@pytest.mark.parametrize("three", [3, np.int64(3), torch.tensor(3)])
def test_any_integer_is_a_number_of_classes(three: Any):
    found = Data(Split(X, Y), Split(X, Y), three)
    check_data(found, LINF)
    assert type(found.num_classes) is int


def test_classes_are_counted_where_there_is_no_gap():
    assert count_classes("y", torch.tensor([2, 0, 1, 1])) == 3
    assert count_classes("y", torch.tensor([2, -1, 1, 1])) == 3  # check_labels names the example
    for labels, expected in (
        ([1, 2, 3, 4], "expected labels from 0 to 3 for 4 classes, got 1, 2, 3, 4; renumber them, or"),
        ([0, 10, 20, 30], "expected labels from 0 to 3 for 4 classes, got 0, 10, 20, 30;"),
        ([*range(9), 99], r"expected labels from 0 to 9 for 10 classes, got 0, 1, 2, 3, 4 \.\.\. 99;"),
    ):
        with pytest.raises(DataError, match=f"^y: {expected}"):
            count_classes("y", torch.tensor(labels))


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
def test_batches_per_epoch_count_the_incomplete_batch_unless_it_is_dropped(
    n: int, batch_size: int, drop_last: bool, steps: int
):
    assert batches_per_epoch(Split(torch.zeros(n, 1), torch.zeros(n)), batch_size, drop_last) == steps


@pytest.mark.parametrize("done", [0, 1, 2])
def test_batches_are_replayed_in_a_row_from_where_a_run_stopped(done: int):
    batches = list(Split(torch.zeros(5, 1), torch.arange(5)).batches(torch.arange(5), 2))
    expected = [batch for batch in batches for _ in range(3)][done:]
    assert list(map(id, replayed(iter(batches), 3, done))) == list(map(id, expected))


def test_a_batch_larger_than_the_data_is_refused_when_incomplete_ones_are_dropped():
    with pytest.raises(DataError, match=r"data\.batch_size: 5 is more than the 3 training examples, with drop_last"):
        batches_per_epoch(Split(torch.zeros(3, 1), torch.zeros(3)), 5, True)


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


def test_the_extent_of_inputs_with_a_graph_is_plain_numbers():
    assert Split(X.clone().requires_grad_(), Y).extent() == Split(X, Y).extent()
