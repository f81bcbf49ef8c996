"""AutoAugment against torchvision on Pillow images, image by image, and the epoch from which it works."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch
from buttress.errors import HookError
from buttress_plugins.transforms.autoaugment import AutoAugment

from ..conformance.references_pillow import autoaugment_images
from ..models import MLP
from .conftest import context, engine_of


def made(plugin: AutoAugment, x: Tensor, draws: dict[str, Tensor] | None = None, epoch: int = 0, **run: Any) -> Tensor:
    ctx = context(plugin="autoaugment", draws=draws, **run)
    ctx._state.epoch = epoch
    return plugin.transform_batch(Batch(x, torch.zeros(len(x), dtype=torch.int64)), ctx).x


def images(n: int, channels: int = 3) -> Tensor:
    numbers = torch.randint(256, (n, channels, 32, 32), generator=torch.Generator().manual_seed(0))
    return numbers.float() / 255


def draws_of(n: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "autoaugment.policy": torch.arange(n) % 25,
        "autoaugment.chance": torch.rand((n, 2), generator=generator),
        "autoaugment.sign": torch.rand((n, 2), generator=generator) < 0.5,
        "autoaugment.centre": torch.randint(32, (n, 2), generator=generator),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", ["cifar10", "svhn"])
def test_every_image_is_that_of_torchvision_and_has_its_blank_square(policy: Any, channels: int):
    x, draws = images(100, channels), draws_of(100, seed=1)
    assert torch.equal(made(AutoAugment(policy=policy, start=0), x, draws), autoaugment_images(x, draws, policy))


def test_it_works_from_its_first_epoch_on():
    x = images(4)
    assert made(AutoAugment(), x, epoch=4, epochs=10) is x
    assert not torch.equal(made(AutoAugment(), x, epoch=5, epochs=10), x)


def test_equal_seeds_make_equal_images_and_the_batch_itself_is_kept():
    x = images(8).double()
    before, plugin = x.clone(), AutoAugment(start=0)
    actual = made(plugin, x)
    assert torch.equal(x, before)
    assert actual.dtype == torch.float64
    assert torch.equal(made(plugin, x), actual)
    assert not torch.equal(made(plugin, x, seed=1), actual)


def test_inputs_that_are_no_images_are_refused():
    engine = engine_of(MLP(), "fgsm", {"autoaugment": {"start": 0}})
    with pytest.raises(HookError, match=r"expected images \[B,C,H,W\] with C 1 or 3, got x of shape \(6, 16\)"):
        engine.step(torch.rand(6, 16), torch.arange(6) % 3)
