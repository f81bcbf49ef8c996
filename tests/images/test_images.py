"""Operations on 8-bit images, against Pillow and torchvision, image by image and bit for bit."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as official

from buttress.images import (
    OPERATIONS,
    Edit,
    Edits,
    crop_shift,
    edited,
    from_8bit,
    on_device,
    pixels_at,
    rotation,
    shear,
    to_8bit,
    translation,
    window,
)

SIZES = [(1, 1), (2, 5), (8, 8), (17, 15), (32, 32), (40, 33)]


def pixels(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """An image of uint8: noise, few levels, one level, or a dark ramp."""
    rng = np.random.default_rng(seed)
    shape = (height, width, channels)
    kinds = [
        lambda: rng.integers(0, 256, shape),
        lambda: rng.integers(90, 97, shape),
        lambda: np.broadcast_to(rng.integers(0, 256), shape),
        lambda: np.clip(255 * rng.random((height, width, 1)) ** 3 + 30 * rng.random(channels), 0, 255),
    ]
    return np.ascontiguousarray(kinds[seed % len(kinds)]().astype(np.uint8))


def picture(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def numbers(image: Image.Image) -> Tensor:
    """``[C,H,W]`` int32."""
    array = np.array(image)
    return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1).to(torch.int32)


def case(name: str, number: float) -> tuple[Edit, Callable[[Image.Image], Image.Image]]:
    """An edit with a number from 0 to 2, and the same on an image of Pillow."""
    blends = {"brightness", "contrast", "saturation", "sharpness"}
    if name in blends:
        return (name, number), lambda image: getattr(official, f"adjust_{name}")(image, number)
    if name == "posterize":
        bits = 1 + int(3.99 * number)
        return (name, bits), lambda image: official.posterize(image, bits)
    if name == "solarize":
        return (name, 128 * number), lambda image: official.solarize(image, 128 * number)
    if name == "identity":
        return (name,), lambda image: image
    return (name,), getattr(official, name)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"affine"}))
def test_an_operation_on_colour_is_pillow_s(name: str, channels: int):
    generator = torch.Generator().manual_seed(0)
    for height, width in SIZES:
        arrays = [pixels(height, width, channels, seed) for seed in range(12)]
        cases = [case(name, float(2 * torch.rand((), generator=generator))) for _ in arrays]
        actual = edited(torch.stack([numbers(picture(array)) for array in arrays]), [edit for edit, _ in cases])
        for array, (_, apply), result in zip(arrays, cases, actual, strict=True):
            assert torch.equal(result, numbers(apply(picture(array))))


def moves(height: int, width: int) -> list[tuple[Edit, Callable[[Image.Image], Image.Image]]]:
    """Shears, turns and translations, each with the same on an image of Pillow."""
    still = partial(official.affine, angle=0.0, scale=1.0, fill=0)
    cases: list[tuple[Edit, Callable[[Image.Image], Image.Image]]] = []
    for degrees, centre in product((-30, -11, -1, 1, 7, 30, 45), ((width / 2, height / 2), (0.0, 0.0))):
        slope, sheared = math.tan(math.radians(degrees)), partial(still, translate=[0, 0], center=list(centre))
        cases += [
            (("affine", *shear(slope, True, centre)), partial(sheared, shear=[float(degrees), 0.0])),
            (("affine", *shear(slope, False, centre)), partial(sheared, shear=[0.0, float(degrees)])),
        ]
    for degrees in (-30, -1, 1, 7, 45):
        turn = rotation(degrees, (width / 2, height / 2))
        cases.append((("affine", *turn), partial(official.rotate, angle=degrees)))
    for right, down in ((0, 0), (3, 0), (0, -2), (-1, 1), (50, 50)):
        cases.append((("affine", *translation(right, down)), partial(still, translate=[right, down], shear=[0.0, 0.0])))
    return cases


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resampling_is_pillow_s(size: tuple[int, int], channels: int):
    cases = moves(*size)
    array = pixels(*size, channels, 0)
    actual = edited(numbers(picture(array)).expand(len(cases), -1, -1, -1), [edit for edit, _ in cases])
    for (edit, apply), result in zip(cases, actual, strict=True):
        assert torch.equal(result, numbers(apply(picture(array)))), edit


def test_images_of_several_operations_come_back_in_their_places():
    arrays = [pixels(9, 7, 3, seed) for seed in range(6)]
    names = ["invert", "equalize", "identity", "invert", "autocontrast", "equalize"]
    cases = [case(name, 0.0) for name in names]
    actual = edited(torch.stack([numbers(picture(array)) for array in arrays]), [edit for edit, _ in cases])
    for array, (_, apply), result in zip(arrays, cases, actual, strict=True):
        assert torch.equal(result, numbers(apply(picture(array))))


def test_edits_are_chosen_from_a_table_by_position():
    table: list[Edit] = [("identity",), ("contrast", 1.7), ("affine", *translation(2, 1)), ("solarize", 99.0)]
    rows = torch.tensor([3, 2, 2, 0, 1, 3])
    image = torch.stack([numbers(picture(pixels(9, 7, 3, seed))) for seed in range(6)])
    assert torch.equal(edited(image, Edits.of(table)[rows]), edited(image, [table[k] for k in rows.tolist()]))


def test_no_images_are_edited_to_no_images():
    assert edited(torch.zeros(0, 3, 4, 4, dtype=torch.int32), []).shape == (0, 3, 4, 4)


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match=r"expected operations among identity, .* got equalise"):
        edited(torch.zeros(1, 1, 2, 2, dtype=torch.int32), [("equalise",)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_8_bit_inputs_survive_the_way_to_numbers_and_back(dtype: torch.dtype, layout: torch.memory_format):
    x = (torch.arange(768, dtype=torch.int32) % 256).view(1, 3, 16, 16).to(dtype).div_(255)
    x = x.contiguous(memory_format=layout)
    back = from_8bit(to_8bit(x), x)
    assert back.dtype == dtype
    assert back.is_contiguous(memory_format=layout)
    assert torch.equal(back, x)


def test_inputs_between_8_bit_numbers_go_to_the_nearest():
    x = torch.tensor([0.0, 0.49, 0.51, 254.49, 254.51, 255.0]).view(1, 1, 1, -1) / 255
    assert to_8bit(x).flatten().tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("box", [(-1.0, 1.0), (-1.0, 2.0), (0.1, 0.7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_black_and_white_are_the_ends_of_the_box(dtype: torch.dtype, box: tuple[float, float]):
    image = torch.arange(256, dtype=torch.int32).view(1, 1, 16, 16)
    x = from_8bit(image, torch.zeros(1, 1, 16, 16, dtype=dtype), box)
    low, high = torch.tensor(box, dtype=dtype)
    assert (x[0, 0, 0, 0], x[0, 0, 15, 15], x.amin(), x.amax()) == (low, high, low, high)
    assert torch.equal(to_8bit(x, box), image)


@pytest.mark.parametrize("box", [None, (0.0, math.inf)])
def test_without_bounds_there_is_no_black_and_white(box: tuple[float, float] | None):
    with pytest.raises(ValueError, match=r"expected a threat\.box with two bounds, which are black and white"):
        to_8bit(torch.zeros(1, 1, 2, 2), box)


def test_a_window_has_its_corner_and_size_and_ends_at_the_border():
    start, size = torch.tensor([[1, 2], [-1, 3], [0, 0]]), torch.tensor([[2, 1], [3, 9], [0, 5]])
    inside = window(start, size, 4, 5)
    expected = torch.zeros(3, 1, 4, 5, dtype=torch.bool)
    expected[0, 0, 1:3, 2:3] = True
    expected[1, 0, 0:2, 3:5] = True
    assert torch.equal(inside, expected)


def test_a_crop_moves_to_its_place_over_black():
    image = torch.arange(1, 41, dtype=torch.int32).view(2, 1, 4, 5)
    size, start, end = torch.tensor([[2, 3], [4, 1]]), torch.tensor([[1, 0], [0, 4]]), torch.tensor([[2, 2], [0, 1]])
    actual = crop_shift(image, size, start, end)
    expected = torch.zeros_like(image)
    expected[0, :, 2:4, 2:5] = image[0, :, 1:3, 0:3]
    expected[1, :, :, 1:2] = image[1, :, :, 4:5]
    assert torch.equal(actual, expected)


def test_images_may_be_turned_left_to_right_before_they_are_moved():
    image = torch.arange(1, 41, dtype=torch.int32).view(2, 1, 4, 5)
    size, start, end = (torch.tensor(each) for each in ([[3, 4], [2, 2]], [[1, 0], [2, 3]], [[0, 1], [1, 0]]))
    turned = torch.stack([image[0].flip(2), image[1]])
    expected = crop_shift(turned, size, start, end)
    assert torch.equal(crop_shift(image, size, start, end, torch.tensor([True, False])), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_are_taken_from_rows_and_columns_and_the_layout_stays(layout: torch.memory_format, channels: int):
    image = torch.rand(2, channels, 4, 5).contiguous(memory_format=layout)
    row, column = torch.randint(4, (2, 4, 5)), torch.randint(5, (2, 1, 5))
    taken = pixels_at(image, row, column)
    assert taken.is_contiguous(memory_format=layout)
    for b, c, v, u in product(range(2), range(channels), range(4), range(5)):
        assert taken[b, c, v, u] == image[b, c, row[b, v, u], column[b, 0, u]]


def test_values_for_the_host_s_own_device_stay_where_they_are():
    values = torch.arange(3)
    assert on_device(values, torch.device("cpu")) is values
