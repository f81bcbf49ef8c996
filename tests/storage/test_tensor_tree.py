"""States come back through JSON and safetensors as they were, or are refused."""

import json
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress.storage.files import write_tensors
from buttress.storage.reading import read_tensors
from buttress.storage.tensor_tree import StateError, join_tensors, split_tensors


def roundtrip(tree: Any, tmp_path: Path) -> Any:
    plain, tensors = split_tensors(tree)
    write_tensors(tmp_path / "t", tensors)
    return join_tensors(json.loads(json.dumps(plain)), read_tensors(tmp_path / "t"))


def assert_tree(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor)
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        assert a.stride() == b.stride()
    elif isinstance(a, dict):
        assert type(a) is type(b)
        assert [(type(key), key) for key in a] == [(type(key), key) for key in b]
        for key in a:
            assert_tree(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_tree(one, other)
    else:
        assert type(a) is type(b)
        assert a == b


ONE, TWO = torch.tensor([1.0]), torch.tensor([2, 2])


@pytest.mark.parametrize(
    "tree",
    [
        {"a": ONE, "b": [1, 2.5, None, True, "text", TWO], "c": {}},
        {
            "state": {0: {"momentum_buffer": ONE}, 1: {"momentum_buffer": TWO}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
        {"$tensor": "not one", "$items": 3},
        {"tuple": (ONE, (1, 2))},
        {"float": 0.1 + 0.2, "small": 5e-324, "big": 2**60},
        {"nested": {"deep": {"er": [{"x": ONE}]}}},
        {"1": ONE, 2: TWO},
        {"dotted.name": ONE, "dotted": {"other": TWO}},
        {None: ONE, True: 3},
        {"z": 1, "a": {"y": ONE, "b": TWO}},
        {10: ONE, 9: TWO, "8": 1},
        OrderedDict(z=ONE, a=1),
        {
            "matrix": torch.arange(6.0).view(2, 3).T,
            "images": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
        },
        {"parameter": torch.nn.Parameter(ONE), "nothing": torch.zeros(0, 3), "one": torch.tensor(3)},
    ],
)
def test_a_tree_comes_back_through_json_and_safetensors(tree: Any, tmp_path: Path):
    assert_tree(tree, roundtrip(tree, tmp_path))


@pytest.mark.parametrize(
    "tree",
    [
        {"a.b": ONE, "a": {"b": TWO}},
        {"a": {1: ONE, "1": TWO}},
        {"a": [ONE], "a.0": TWO},
        pytest.param(
            {"a.b#2": ONE, "a.b": TWO, "a": {"b": torch.zeros(3)}},
        ),
    ],
)
def test_names_that_spell_the_same_path_keep_their_own_tensors(tree: Any, tmp_path: Path):
    assert_tree(tree, roundtrip(tree, tmp_path))


def test_not_a_number_comes_back(tmp_path: Path):
    found = roundtrip({"nan": float("nan"), "inf": float("inf")}, tmp_path)
    assert found["nan"] != found["nan"]
    assert found["inf"] == float("inf")


Pair = namedtuple("Pair", "one two")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "object"),
        (print, "builtin_function_or_method"),
        ({1, 2}, "set; use sorted(value), a list"),
        (b"bytes", "bytes; use list(value), or a tensor of uint8"),
        (Counter("ab"), "collections.Counter; use dict(value)"),
        (defaultdict(list), "collections.defaultdict; use dict(value)"),
        (Pair(1, 2), f"{__name__}.Pair; use tuple(value)"),
        (torch.zeros(2).shape, "torch.Size; use tuple(value)"),
        (np.float64(1), "numpy.float64; use value.item()"),
        (np.zeros(2), "numpy.ndarray; use torch.from_numpy(value)"),
        (1j, "complex; use [value.real, value.imag]"),
    ],
    ids=[
        "object",
        "function",
        "set",
        "bytes",
        "counter",
        "defaultdict",
        "namedtuple",
        "size",
        "numpy",
        "array",
        "complex",
    ],
)
def test_a_leaf_that_would_come_back_as_something_else_is_refused_with_its_place(value: Any, reason: str):
    with pytest.raises(StateError) as found:
        split_tensors({"a": [1, value]})
    assert found.value.place == ("a", "1")
    assert str(found.value) == f"state at state.a.1: expected tensors and plain values, got {reason}"


def itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (10**5000, "at most 4,000 digits"),
        ("\ud800", "text that UTF-8 can hold"),
        ({"\ud800": ONE}, "text that UTF-8 can hold"),
        ({(1, 2): ONE}, r"plain values as keys, got \(1, 2\); use a list of pairs"),
        (torch.eye(2).to_sparse(), "a dense tensor with values"),
        (torch.empty(2, device="meta"), "a dense tensor with values"),
        (torch.zeros(2, dtype=torch.complex128), r"a dtype that safetensors files hold, got torch\.complex128"),
        (itself(), "at most 100 levels; it is nested deeper, or holds itself"),
    ],
    ids=["digits", "surrogate", "key", "tuple", "sparse", "meta", "complex", "itself"],
)
def test_what_no_file_can_hold_is_refused(value: Any, reason: str):
    with pytest.raises(StateError, match=f"^state at state\\.a.*: expected {reason}"):
        split_tensors({"a": value})


def test_a_tensor_in_two_places_comes_back_as_one(tmp_path: Path):
    shared = torch.ones(2)
    found = roundtrip({"a": shared, "b": [shared], "c": torch.ones(2)}, tmp_path)
    assert found["a"] is found["b"][0]
    assert found["a"] is not found["c"]


def test_a_sliced_or_expanded_tensor_comes_back_with_its_values(tmp_path: Path):
    tree = {"slice": torch.arange(12.0).view(3, 4)[:, 1::2], "row": torch.ones(1, 3).expand(2, 3)}
    found = roundtrip(tree, tmp_path)
    assert all(torch.equal(found[name], tree[name]) for name in tree)


def test_the_state_of_an_optimizer_comes_back(tmp_path: Path):
    def trained() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.random.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return layer, optimizer

    layer, optimizer = trained()
    other, fresh = trained()
    fresh.load_state_dict(roundtrip(optimizer.state_dict(), tmp_path))
    for one, instance in ((layer, optimizer), (other, fresh)):
        one(torch.full((1, 3), 2.0)).sum().backward()
        instance.step()
    assert torch.equal(layer.weight, other.weight)
