"""``Waits`` finds what would make the host wait for a device, and nothing else."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from buttress import Batch, hookimpl
from buttress.images import on_device
from buttress.testing import Waits

from ..models import ConvNet
from ..plugins.conftest import batch_of, engine_of


class Reads(torch.autograd.Function):
    """The identity, whose backward reads a value."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float(grad[0])


WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool(x[0] > 0),
    "if": lambda x: 1 if (x > 0).any() else 0,
    "the larger of two": lambda x: max(x[0], x[1]),
    "in": lambda x: 1.0 in x,
    "a position in a list": lambda x: [1, 2, 3][x.argmax()],
    "text": lambda x: f"{x[0]:.2f}",
    "the text of a tensor": lambda x: str(x),
    "a move of numbers of the host": lambda x: torch.rand(3).to(x.device),
    "a number put at positions of a list": lambda x: x.clone().__setitem__([0, 1], 0.0),
    "positions on the host": lambda x: x[torch.randperm(3)],
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "equal": lambda x: torch.equal(x, x + 1),
    "allclose": lambda x: torch.allclose(x, x + 1),
    "nonzero": lambda x: x.nonzero(),
    "where with one argument": lambda x: torch.where(x > 0),
    "index by a mask": lambda x: x[x > 0],
    "put tensors at a mask": lambda x: x.clone().index_put_((x > 0,), x),
    "masked_select": lambda x: x.masked_select(x > 0),
    "index by a list": lambda x: x[[0, 1]],
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "bincount": lambda x: x.long().bincount(),
    "multinomial": lambda x: x.multinomial(2),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "one_hot of unknown classes": lambda x: F.one_hot(x.long()),
    "a tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "a tensor of a number": lambda x: torch.as_tensor(0.5, device=x.device),
    "a new tensor": lambda x: x.new_tensor([1.0]),
    "in a backward": lambda x: torch.autograd.grad(Reads.apply(x.requires_grad_()).sum(), x),
}


FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2 + 1).clamp_(0, 1).mean(),
    "choices": lambda x: torch.where(x > 0, x, 1.0),
    "a mask that is filled": lambda x: x.clone().masked_fill_(x > 0, 0.0),
    "a number put at a mask": lambda x: x.clone().__setitem__(x > 0, 0.0),
    "a number put at a position": lambda x: x.clone().__setitem__(0, 1.0),
    "index by positions": lambda x: x[x.argsort()],
    "one_hot": lambda x: F.one_hot(x.long(), 3) + F.one_hot(x.long(), num_classes=3),
    "slices": lambda x: x[1:, None],
    "constants": lambda x: torch.full((2,), 0.5, device=x.device) + torch.arange(2, device=x.device),
    "draws on the device": lambda x: torch.rand(3, device=x.device) + torch.randperm(3, device=x.device),
    "shapes": lambda x: list(range(len(x))) + list(x.shape),
    "repeat_interleave by a number": lambda x: x.repeat_interleave(2),
    "numbers on the host": lambda x: [each * 2 for each in torch.rand(3).tolist()],
    "choices on the host": lambda x: torch.arange(6)[torch.rand(6) < 0.5].sum().item(),
    "numbers of the host that move": lambda x: x + on_device(torch.rand(3), x.device),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_found_with_its_place(name: str):
    x = torch.tensor([0.5, 1.0, 2.0])
    with Waits() as waits:
        WAITING[name](x)
    assert waits.places
    assert all(place.startswith("test_waiting.py:") for place in waits.places)


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_not_found(name: str):
    x = torch.tensor([0.5, 1.0, 2.0])
    with Waits() as waits:
        FREE[name](x)
    assert not waits.places


def test_numbers_that_have_moved_to_the_device_are_not_read_again():
    x = torch.ones(3)
    with Waits() as waits:
        moved = torch.rand(3).to(x.device, non_blocking=True)
        moved.sum().item()
    assert len(waits.places) == 1


def test_a_step_names_the_line_of_the_plugin_that_waits():
    class Counts:
        @hookimpl
        def transform_batch(self, batch: Batch) -> Batch:
            assert int((batch.y == 0).sum()) >= 0
            return batch

    batch = batch_of()
    with Waits() as waits:
        engine = engine_of(ConvNet(), "fgsm", Counts(), checks="interval")
        engine.step(batch.x, batch.y)
        waits.places.clear()
        for _ in range(2):
            engine.step(batch.x, batch.y)
    line = Counts.transform_batch.__code__.co_firstlineno + 2
    assert waits.places == [f"test_waiting.py:{line}: _local_scalar_dense"]


def test_the_checks_of_every_step_wait_and_those_of_an_interval_do_not():
    batch, places = batch_of(), {}
    for level in ("always", "interval", "off"):
        with Waits() as waits:
            engine = engine_of(ConvNet(), "fgsm", checks=level)
            engine.step(batch.x, batch.y)
        places[level] = waits.places
    assert places["always"]
    assert not places["interval"] + places["off"]


def test_a_block_that_waits_is_no_change_of_the_process_and_ends_with_the_block():
    batch = batch_of()
    with Waits():
        engine = engine_of(ConvNet(), "fgsm", checks="always")
        engine.step(batch.x, batch.y)  # its watch would name a change
    with Waits() as waits:
        pass
    float(batch.x.sum())
    assert not waits.places
