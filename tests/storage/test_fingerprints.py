"""What a split is known by: every difference of the examples, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from buttress import Data, Split
from buttress.storage.fingerprints import fingerprint_differences, sha256_of_tensor, sha256_of_values

X, Y = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3

CHANGES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "one value": lambda x, y: (x.index_fill(0, torch.tensor([4]), 0.25), y),
    "the last bit of one value": lambda x, y: (x.view(torch.int32).add(1).view(torch.float32), y),
    "one label": lambda x, y: (x, y.index_fill(0, torch.tensor([5]), 0)),
    "every label moved by one": lambda x, y: (x, (y + 1) % 3),
    "the order": lambda x, y: (x.flip(0), y.flip(0)),
    "one example fewer": lambda x, y: (x[:5], y[:5]),
    "the shape": lambda x, y: (x.view(6, 3, 2), y),
    "the dtype": lambda x, y: (x.double(), y),
    "the dtype of the labels": lambda x, y: (x, y.int()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_examples_changes_the_fingerprint(change: str):
    assert Split(X, Y).fingerprint() != Split(*CHANGES[change](X.clone(), Y.clone())).fingerprint()


def test_where_and_how_the_examples_lie_in_memory_changes_nothing():
    expected = Split(X, Y).fingerprint()
    doubled = torch.stack([X, X], dim=-1)[..., 0]  # equal values, other strides
    assert not doubled.is_contiguous()
    assert Split(doubled, Y).fingerprint() == expected
    assert Split(X, Y, torch.channels_last).fingerprint() == expected
    assert Split(X, Y).to(torch.device("cpu")).fingerprint() == expected
    assert Split(X.clone().requires_grad_(), Y).fingerprint() == expected
    assert expected["n"] == 6
    assert expected["shape"] == [2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_every_dtype_has_a_hash(dtype: torch.dtype):
    zeros, ones = torch.zeros(2, 3, dtype=dtype), torch.ones(2, 3, dtype=dtype)
    assert sha256_of_tensor(zeros) == sha256_of_tensor(zeros.clone()) != sha256_of_tensor(ones)
    assert sha256_of_tensor(zeros[:0]) != sha256_of_tensor(zeros)


def test_values_do_not_run_into_each_other():
    assert sha256_of_values(["ab", "c"]) != sha256_of_values(["a", "bc"])
    assert sha256_of_values([1, 23]) != sha256_of_values([12, 3])


def test_a_split_of_ones_own_without_tensors_is_known_by_its_size():
    class Lazy(Split):
        def __init__(self, n: int) -> None:
            self.n = n

        def __len__(self) -> int:
            return self.n

        @property
        def example_shape(self) -> tuple[int, ...]:
            return (3, 8, 8)

    assert Lazy(5).fingerprint() == {"n": 5, "shape": [3, 8, 8]}


def test_data_are_known_by_the_fingerprint_of_every_split():
    data = Data(train=Split(X, Y), test=Split(X[:3], Y[:3]), num_classes=3)
    assert data.fingerprint == {"train": data.train.fingerprint(), "test": data.test.fingerprint()}


def test_differences_are_named_split_by_split():
    one = {"n": 4, "shape": [2], "inputs": "a", "labels": "b"}
    before = {"train": one, "validation": one, "test": one}
    now = {"train": {**one, "n": 3, "inputs": "c"}, "test": {**one, "inputs": "c", "labels": "d"}, "extra": one}
    assert fingerprint_differences(before, before) == []
    assert fingerprint_differences(before, now) == [
        "train has 3 examples and had 4",
        "there is no validation split any more",
        "test has other inputs and labels",
        "there was no extra split",
    ]
    assert fingerprint_differences({"test": one}, {"test": {**one, "shape": [3]}}) == ["test has other shape"]
