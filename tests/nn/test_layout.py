"""Layouts in memory with which torch damages the heap on the CPU: none comes from us, and the others are refused."""

from functools import partial

import pytest
import torch
from torch import nn

from buttress import Adv, Engine, ModelError, ThreatModel, hookimpl
from buttress.nn.layout import plain_strides
from buttress_plugins.models.preact_resnet import preact_tiny


def permuted(x: torch.Tensor) -> torch.Tensor:
    """Equal images of one channel, with the strides that a ``permute`` of images ``[B,H,W,1]`` leaves."""
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


class Seen(nn.Module):
    """A linear model that remembers the strides of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.strides = nn.Linear(16, 3), set[tuple[int, ...]]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.strides.add(x.stride())
        return self.linear(x.flatten(1))


class Copied:
    """Clean examples, as an attack gives them that permutes."""

    @hookimpl
    def generate_adv(self, batch):
        return Adv(permuted(batch.x))


def engine_of(model: nn.Module, *plugins: object) -> Engine:
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return Engine(model, optimizer, [Copied(), *plugins], ThreatModel("linf", "8/255"))


def test_images_of_one_channel_have_the_strides_of_the_contiguous_layout():
    x = torch.rand(5, 1, 4, 4)
    assert permuted(x).stride() == (16, 1, 4, 1)
    assert plain_strides(permuted(x)).stride() == x.stride()
    assert torch.equal(plain_strides(permuted(x)), x)
    assert plain_strides(x) is x


@pytest.mark.parametrize("plugins", [[], [{"augment": {"pad": 1, "padding": "zeros"}}]])
def test_no_plugin_and_no_caller_brings_another_layout_into_a_step(plugins):
    model, x = Seen(), torch.rand(5, 1, 4, 4)
    engine_of(model, *plugins).step(permuted(x), torch.arange(5) % 3)
    assert model.strides == {x.stride()}


@pytest.mark.parametrize("part", ["model", "inputs"])
def test_the_layout_that_damages_memory_is_refused(part):
    model, x = preact_tiny(num_classes=3, in_channels=3, width=4), torch.rand(5, 3, 8, 8)
    if part == "model":
        model.to(memory_format=torch.channels_last)
    else:
        x = x.contiguous(memory_format=torch.channels_last)
    with pytest.raises(ModelError, match=r"channels-last layout is not safe .*1x1, strided, 4 channels"):
        engine_of(model).step(x, torch.arange(5) % 3)


def test_wide_networks_take_the_layout():
    model = preact_tiny(num_classes=3, in_channels=3, width=16).to(memory_format=torch.channels_last)
    engine_of(model).step(torch.rand(5, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.arange(5) % 3)
