"""A forward in parts: gradients of any order, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.errors import ModelError
from buttress.nn.in_parts import InParts
from buttress.nn.modes import Modes

from ..models import MLP


def parts_of(model: nn.Module) -> InParts:
    return InParts(model, Modes(model))


def numbers(model: nn.Module, forward: Any, x: Tensor) -> list[Tensor]:
    """An output, its gradient, and the gradient of the gradient's square."""
    x = x.clone().requires_grad_()
    output = forward(x)
    (grad,) = torch.autograd.grad(output.sin().sum(), x, create_graph=True)
    grads = torch.autograd.grad((grad**2).sum() + output.sum(), [x, *model.parameters()])
    return [output.detach(), grad.detach(), *grads]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_gradients_of_gradients_are_those_of_the_whole(count: int):
    model = MLP().double()
    x = torch.rand((7, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = numbers(model, model, x)
    made = numbers(model, lambda rows: parts_of(model)(model, rows, count), x)
    for one, other in zip(whole, made, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-14)


def test_weights_that_were_written_into_are_noticed_in_the_backward():
    model = MLP()
    output = parts_of(model)(model, torch.rand(4, 1, 4, 4), 2)
    with torch.no_grad():
        model.first.weight.mul_(2)
    with pytest.raises(ModelError, match="weights or buffers were written into between a forward and its backward"):
        output.sum().backward()


def test_an_output_without_a_row_for_each_input_is_refused():
    model = MLP()
    for wrong in (lambda x: model(x).sum(), lambda x: (model(x),), lambda x: model(x)[:1]):
        with pytest.raises(ModelError, match=r"gives an output for each row, \[2,\*\]"):
            parts_of(model)(wrong, torch.rand(4, 1, 4, 4), 2)


def test_what_a_part_keeps_is_dropped_after_its_forward():
    """Before the backward, no hidden activations are held: a tenth of what a whole forward keeps."""
    model = nn.Sequential(nn.Linear(8, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 2))
    x, kept = torch.rand(64, 8), []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() if not isinstance(tensor, nn.Parameter) else 0)
        return tensor

    sizes = []
    for forward in (model, lambda rows: parts_of(model)(model, rows, 4)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward(x)
        sizes.append(sum(kept))
    assert sizes[1] < sizes[0] / 10
