"""Images of 8 bits in memory: to everyone outside, the float32 split of the same images."""

import pytest
import torch

from buttress import Split, ThreatModel
from buttress.data import EightBitSplit
from buttress.errors import DataError

IMAGES = torch.arange(256, dtype=torch.uint8).repeat(3).view(12, 1, 8, 8)
Y = torch.arange(12) % 4 - 1
EIGHT, WIDE = EightBitSplit(IMAGES, Y), Split(torch.from_numpy(IMAGES.numpy().astype("float32") / 255), Y)


def test_batches_are_those_of_float32_to_the_last_bit():
    order = torch.tensor([3, 0, 11, 5, 5, 2, 7])
    for start in (0, 1):
        for one, other in zip(EIGHT.batches(order, 3, start), WIDE.batches(order, 3, start), strict=True):
            assert one.x.dtype == torch.float32
            assert all(torch.equal(a, b) for a, b in ((one.x, other.x), (one.y, other.y), (one.index, other.index)))


def test_it_is_described_like_the_split_of_float32():
    assert len(EIGHT) == len(WIDE)
    assert (EIGHT.example_shape, EIGHT.dtype, EIGHT.extent()) == (WIDE.example_shape, WIDE.dtype, WIDE.extent())
    assert EIGHT.fingerprint() == WIDE.fingerprint()
    assert EIGHT.class_counts(3) == WIDE.class_counts(3)


def test_it_holds_one_byte_a_pixel_also_where_it_was_moved():
    moved = EIGHT.to(torch.device("cpu"), torch.channels_last)
    assert moved.memory_format == torch.channels_last
    held = [value for split in (EIGHT, moved) for value in vars(split).values() if isinstance(value, torch.Tensor)]
    assert sum(value.nbytes for value in held) == 2 * (IMAGES.numel() + 8 * len(Y))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 2.0), (0.0, 0.9), (0.1, 1.0)])
def test_it_is_checked_like_the_split_of_float32(low: float, high: float):
    problems = []
    for split in (EIGHT, WIDE):
        try:
            split.check("extra", 3, ThreatModel("linf", "1/10", (low, high)))
        except DataError as problem:
            problems.append(str(problem))
    assert len(problems) == (0 if low <= 0 and high >= 1 else 2)
    assert len(set(problems)) < 2
    with pytest.raises(DataError, match="label out of range at example 0: expected 0 to 2, got -1"):
        EIGHT.check("train", 3, ThreatModel("linf", "1/10"))


def test_all_inputs_can_be_asked_for():
    assert torch.equal(EIGHT.x, WIDE.x)
