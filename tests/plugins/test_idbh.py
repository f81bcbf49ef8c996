"""IDBH against its authors' pipeline of Pillow images, image by image, and the distribution of its draws."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, ThreatModel
from buttress.errors import HookError
from buttress_plugins.transforms.idbh import IDBH

from ..conformance.references_pillow import idbh_images
from ..models import ConvNet
from .conftest import batch_of, context, engine_of


def made(plugin: IDBH, x: Tensor, draws: dict[str, Tensor] | None = None, seed: int = 0) -> Tensor:
    y = torch.zeros(len(x), dtype=torch.int64)
    return plugin.transform_batch(Batch(x, y), context(plugin="idbh", draws=draws, seed=seed)).x


def images(n: int, size: int = 32, channels: int = 3) -> Tensor:
    numbers = torch.randint(256, (n, channels, size, size), generator=torch.Generator().manual_seed(0))
    return numbers.float() / 255


def draws_of(n: int, size: int, max_shift: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cut = torch.randint(max_shift // 2 + 1, (n, 2), generator=generator)
    inside = (torch.rand((2, n, 2), generator=generator) * (cut + 1)).long()
    shape = torch.randint(size // 2, (n, 2), generator=generator)
    corner = torch.randint(size // 2, (n, 2), generator=generator)
    coins = torch.rand((3, n), generator=generator) < 0.5
    return {
        "idbh.flip": coins[0],
        "idbh.cut": cut,
        "idbh.start": inside[0],
        "idbh.end": inside[1],
        "idbh.operation": torch.arange(n) % 8,
        "idbh.strength": torch.rand(n, generator=generator),
        "idbh.axis": coins[1],
        "idbh.sign": coins[2],
        "idbh.rectangle": torch.cat([corner, shape], 1),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("variant", ["weak", "svhn"])
def test_every_image_is_that_of_the_pipeline_on_pillow_images(variant: Any, channels: int):
    x, draws = images(64, channels=channels), draws_of(64, 32, 8, seed=1)
    assert torch.equal(made(IDBH(variant=variant), x, draws), idbh_images(x, draws, variant))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_dtype_layout_box_and_the_batch_itself_are_kept(layout: Any, dtype: torch.dtype):
    x = images(9).to(dtype).contiguous(memory_format=layout)
    before, actual = x.clone(), made(IDBH(), x)
    assert torch.equal(x, before)
    assert actual.dtype == dtype
    assert actual.is_contiguous(memory_format=layout)
    assert 0 <= float(actual.min()) <= float(actual.max()) <= 1
    assert torch.equal(made(IDBH(), x), actual)
    assert not torch.equal(made(IDBH(), x, seed=1), actual)


def test_in_another_box_the_images_are_the_same():
    x, draws, wide = images(16), draws_of(16, 32, 8, seed=1), ThreatModel("linf", "8/255", (-1, 1))
    ctx = context(threat=wide, plugin="idbh", draws=draws)
    actual = IDBH().transform_batch(Batch(2 * x - 1, torch.zeros(16, dtype=torch.int64)), ctx).x
    assert torch.allclose(actual, 2 * made(IDBH(), x, draws) - 1, atol=1e-6)


def test_flips_are_left_out_where_asked():
    x = torch.linspace(0, 1, 32).expand(64, 1, 32, 32).contiguous()
    still = made(IDBH(flip=False, max_shift=0, erase=0.0), x)
    assert bool((still[:, 0, 16, 24] > still[:, 0, 16, 8]).all())


@pytest.mark.parametrize(
    ("variant", "erase", "largest"), [("weak", 0.5, 0.33), ("strong", 1.0, 0.33), ("svhn", 1.0, 0.5)]
)
def test_rectangles_have_the_shares_of_the_variant(variant: Any, erase: float, largest: float):
    rectangles = IDBH(variant=variant)._rectangles(4000, 32, 32, torch.Generator().manual_seed(0))
    corner, size = rectangles.split(2, 1)
    area = size.prod(1) / 1024
    assert float((area > 0).float().mean()) == pytest.approx(erase, abs=0.03)
    assert bool((corner + size <= 32).all())
    assert 0.01 < float(area[area > 0].min()) < 0.03
    assert largest - 0.03 < float(area.max()) < largest + 0.03


@pytest.mark.parametrize(
    ("settings", "x", "box", "message"),
    [
        ({"max_shift": 1}, torch.rand(6, 16), (0, 1), r"expected images \[B,C,H,W\] with C 1 or 3, got x of shape"),
        ({"max_shift": 1}, batch_of().x, None, "expected a threat.box with two bounds, .* got None"),
        ({}, batch_of().x, (0, 1), "max_shift: expected less than the image's 4 pixels, got 10"),
    ],
)
def test_inputs_that_it_cannot_take_are_refused(settings: dict[str, Any], x: Tensor, box: Any, message: str):
    engine = engine_of(ConvNet(), "fgsm", {"idbh": settings}, threat=ThreatModel("linf", "8/255", box))
    with pytest.raises(HookError, match=message):
        engine.step(x, batch_of().y)
