"""The state of an optimizer in a checkpoint is compared with the optimizer that is to take it."""

from typing import Any

import pytest
import torch

from buttress.errors import CheckpointError
from buttress.training.checkpoint_state import expect_optimizer_state

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}),
    ("Adam", {"amsgrad": True}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Rprop", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("ASGD", {}),
    ("Adafactor", {}),
    ("Muon", {}),
]


def stepped(name: str, settings: dict[str, Any]) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    weight.grad = torch.ones(3, 2)
    made: torch.optim.Optimizer = vars(torch.optim)[name]([weight], lr=0.1, **settings)
    made.step()
    return made


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS, ids=[name for name, _ in OPTIMIZERS])
def test_a_tensor_of_another_shape_is_refused_before_the_next_step(name: str, settings: dict[str, Any]) -> None:
    optimizer = stepped(name, settings)
    expect_optimizer_state(optimizer, optimizer.state_dict())
    whole = [key for key, value in optimizer.state_dict()["state"][0].items() if getattr(value, "shape", ()) == (3, 2)]
    assert whole or name == "Adafactor"
    for key in whole:
        for wrong in (torch.ones(2, 3), torch.ones(()), torch.ones(2)):
            state = optimizer.state_dict()
            state["state"] = {0: {**state["state"][0], key: wrong}}
            with pytest.raises(CheckpointError, match=rf"{key} of parameter 0: expected shape \(3, 2\), got"):
                expect_optimizer_state(optimizer, state)
