"""Crops, flips, rotations and squares of whole batches, against one image at a time."""

import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from buttress import Batch, ThreatModel, load_plugins
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import HookError
from buttress_plugins.transforms.augment import Augment, crop, rotate
from buttress_plugins.transforms.cutout import Cutout

from ..models import ConvNet
from .conftest import batch_of, engine_of


def images(n: int = 5, size: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand((n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=dtype)


def transformed(plugin: Any, x: Tensor, name: str, draws: dict[str, Tensor] | None = None, seed: int = 0) -> Batch:
    state = RunState(ThreatModel("linf", "8/255"), torch.device("cpu"), seed=seed)
    state.draws = {f"{name}.{key}": value for key, value in (draws or {}).items()}
    y = torch.arange(len(x))
    return plugin.transform_batch(Batch(x, y, y), Context(state, name))


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_crops_are_slices_of_the_padded_image(padding: str):
    x, pad = images(9), 2
    offsets = torch.tensor([[i, j] for i in (0, 2, 4) for j in (0, 1, 4)])
    actual = crop(x, offsets, pad, padding)
    mode = "reflect" if padding == "reflect" else "constant"
    for image, (top, left), result in zip(x, offsets.tolist(), actual, strict=True):
        padded = F.pad(image[None], [pad] * 4, mode=mode)[0]
        assert torch.equal(result, padded[:, top : top + 6, left : left + 6])


def test_flips_mirror_left_and_right_where_asked():
    x = images()
    flip = torch.tensor([True, False, True, False, False])
    actual = transformed(Augment(pad=0), x, "augment", {"flip": flip}).x
    for image, mirrored, result in zip(x, flip, actual, strict=True):
        assert torch.equal(result, image.flip(2) if mirrored else image)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_images_are_mirrored_after_the_crop(padding: str):
    x, offsets, flip = images(3), torch.tensor([[0, 1], [4, 2], [3, 0]]), torch.tensor([True, False, True])
    cropped = crop(x, offsets, 2, padding)
    expected = torch.where(flip[:, None, None, None], cropped.flip(3), cropped)
    assert torch.equal(crop(x, offsets, 2, padding, flip), expected)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_quarter_turns_are_exact(quarter: int, size: int):
    x = images(2, size, torch.float64)
    assert torch.equal(rotate(x, torch.full((2,), 90.0 * quarter)), torch.rot90(x, quarter, (2, 3)))


def test_a_small_turn_moves_few_pixels_and_brings_in_zeros():
    x = 0.5 + images(1, 32) / 2
    actual = rotate(x, torch.tensor([15.0]))
    assert bool((actual[0, :, 0, 0] == 0).all())
    centre = slice(14, 18)
    assert set(actual[0, 0, centre, centre].flatten().tolist()) <= set(x[0, 0, 11:21, 11:21].flatten().tolist())


def test_draws_are_uniform_and_of_every_kind():
    x = torch.arange(4000.0).view(-1, 1, 1, 1).expand(-1, 1, 4, 4) / 4000
    x = x * 0 + torch.arange(16.0).view(4, 4) / 16 + 1 / 32
    actual = transformed(Augment(pad=1, padding="zeros", flip=False), x, "augment").x
    shifts = torch.unique(actual.flatten(1), dim=0, return_counts=True)[1]
    assert len(shifts) == 9
    assert int(shifts.min()) > 4000 / 9 * 0.8
    flipped = (transformed(Augment(pad=0), x, "augment").x != x).flatten(1).any(1).float().mean()
    assert 0.45 < float(flipped) < 0.55


def test_a_rotation_interpolates_between_the_four_pixels_around_each_point():
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actual = rotate(x, torch.tensor([30.0]), "bilinear")
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    for row, column in product(range(5), repeat=2):
        down, right = row - 2, column - 2
        v, u = 2 + sin * right + cos * down, 2 + cos * right - sin * down  # where the pixel came from
        expected = 0.0
        for r, c in product((math.floor(v), math.floor(v) + 1), (math.floor(u), math.floor(u) + 1)):
            if 0 <= r < 5 and 0 <= c < 5:
                expected += (1 - abs(v - r)) * (1 - abs(u - c)) * float(x[0, 0, r, c])
        assert float(actual[0, 0, row, column]) == pytest.approx(expected, abs=1e-12)


def test_an_interpolated_rotation_stays_inside_the_box():
    actual = transformed(
        Augment(pad=0, rotation=180.0, interpolation="bilinear"), torch.ones(500, 1, 9, 9), "augment"
    ).x
    assert float(actual.max()) <= 1.0
    assert float(actual.min()) >= 0.0


@pytest.mark.parametrize("plugin", [Augment(pad=2, rotation=15.0), Cutout(size=3)], ids=["augment", "cutout"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_dtype_layout_box_and_the_batch_itself_are_kept(plugin: Any, layout: Any, dtype: torch.dtype):
    x = images(dtype=dtype).contiguous(memory_format=layout)
    before = x.clone()
    batch = transformed(plugin, x, "p")
    assert torch.equal(x, before)
    assert batch.x.dtype == dtype
    assert batch.x.is_contiguous(memory_format=layout)
    assert batch.y.tolist() == batch.index.tolist() == [0, 1, 2, 3, 4]
    assert not torch.equal(batch.x, x)
    assert 0 <= float(batch.x.min()) <= float(batch.x.max()) <= 1
    assert torch.equal(transformed(plugin, x, "p").x, batch.x)
    assert not torch.equal(transformed(plugin, x, "p", seed=1).x, batch.x)


def test_cutout_blanks_its_square_alone():
    x = 0.5 + images() / 2
    positions = torch.tensor([[0, 0], [3, 3], [1, 2], [0, 3], [3, 0]])
    actual = transformed(Cutout(size=3, value=0.25), x, "cutout", {"position": positions}).x
    for image, (top, left), result in zip(x, positions.tolist(), actual, strict=True):
        expected = image.clone()
        expected[:, top : top + 3, left : left + 3] = 0.25
        assert torch.equal(result, expected)


def test_cutout_reaches_every_position_and_stays_inside():
    actual = transformed(Cutout(size=3), torch.ones(2000, 1, 5, 5), "cutout").x
    assert bool(((actual == 0).flatten(1).sum(1) == 9).all())
    assert len(torch.unique(actual.flatten(1), dim=0)) == 9


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"cutout": {"size": 5}}, r"expected images \[B,C,H,W\] of at least 5 pixels"),
        ({"augment": {"pad": 4}}, "reflection needs less than the image's 4 pixels"),
        ({"cutout": {"size": 2, "value": 2.0}}, r"value: expected one in threat.box \[0, 1\], got 2"),
    ],
)
def test_settings_that_the_images_do_not_allow_are_refused(entry: dict[str, Any], message: str):
    batch = batch_of()
    engine = engine_of(ConvNet(), "fgsm", *load_plugins([entry]))
    with pytest.raises(HookError, match=message):
        engine.step(batch.x, batch.y)
