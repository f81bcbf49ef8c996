"""Several sources of extra examples, draws without replacement, and the permutation that these are made of."""

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import Batch, Data, Split
from buttress.data import NO_LABEL, check_data
from buttress.data.extra_source import ExtraSource, uniform
from buttress.data.joined import JoinedSplit, has_unlabelled
from buttress.data.permutation import permuted
from buttress.data.training_set import TrainingSet
from buttress.engine.split import part_of
from buttress.errors import ConfigError, DataError
from buttress.types import Rows

from ..core.helpers import LINF
from .test_training_set import HALF, Read, same, split

THIRD, QUARTER = Fraction(1, 3), Fraction(1, 4)


def examples(*sources: ExtraSource, n: int = 30, batch_size: int = 12) -> TrainingSet:
    return TrainingSet(split(n), batch_size, False, 3, sources)


def drawn(batch: Batch, n: int = 30) -> list[int]:
    return (batch.index[batch.aux["extra"]] - n).tolist()


# The permutation


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 1000, 4097, 65_537])
def test_every_element_occurs_once(n: int):
    whole = permuted(np.arange(n), n, 7, "key")
    assert np.array_equal(np.sort(whole), np.arange(n))
    part = np.arange(n)[:: max(1, n // 7)]
    assert np.array_equal(permuted(part, n, 7, "key"), whole[part])


def test_all_orders_of_four_elements_are_equally_likely():
    orders = Counter(tuple(permuted(np.arange(4), 4, key).tolist()) for key in range(12_000))
    expected = 12_000 / math.factorial(4)
    assert sum((orders[each] - expected) ** 2 / expected for each in permutations(range(4))) < 49.7  # 0.1 %, 23 degrees


def test_every_element_is_equally_likely_at_every_place():
    counts = np.zeros((37, 37))
    for key in range(5000):
        counts[np.arange(37), permuted(np.arange(37), 37, key)] += 1
    expected = 5000 / 37
    assert ((counts - expected) ** 2 / expected).sum() < 1459  # 0.1 %, 36 * 36 degrees


# Draws


def test_draws_of_many_examples_are_uniform():
    # The remainder of 32 random bits by n is below 2**32 % n 1 % more often than it should be.
    n, count = 241_591_910, 300_000
    share = 2**32 % n / n
    below = (uniform(n, count, torch.Generator().manual_seed(0)) < 2**32 % n).double().mean()
    assert abs(float(below) - share) < 5 * math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("n", [11, 40, 100])
def test_without_replacement_every_example_comes_once_before_any_comes_again(n: int):
    source = ExtraSource(split(n, 100), HALF, replacement=False)
    sequence = [each for epoch in range(9) for batch in examples(source).batches(epoch) for each in drawn(batch)]
    assert len(sequence) == 9 * 3 * 6
    passes = [sequence[first : first + n] for first in range(0, len(sequence), n)]
    assert all(sorted(each) == list(range(n)) for each in passes[:-1])
    assert len(set(passes[-1])) == len(passes[-1])
    assert len(set(map(tuple, passes))) == len(passes)


@pytest.mark.parametrize("start", [1, 2, 3])
@pytest.mark.parametrize("replacement", [False, True])
def test_an_epoch_of_several_sources_continues_at_any_batch(start: int, replacement: bool):
    several = examples(
        ExtraSource(split(7, 100), THIRD, replacement=not replacement),
        ExtraSource(split(50, 200), QUARTER, replacement=replacement),
    )
    whole, rest = list(several.batches(4)), list(several.batches(4, start))
    assert len(rest) == len(whole) - start
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_sources_of_one_size_are_drawn_from_independently():
    for replacement in (True, False):
        twice = [ExtraSource(split(40, first), THIRD, replacement) for first in (100, 200)]
        for batch in examples(*twice).batches(0):
            one, other = np.split(np.array(drawn(batch)), 2)
            assert one.tolist() != (other - 40).tolist()


def test_another_source_leaves_the_draws_of_the_first_as_they_were():
    first = ExtraSource(split(40, 100), THIRD)
    several = examples(first, ExtraSource(split(9, 200), THIRD)).batches(1)
    for batch, other in zip(examples(first).batches(1), several, strict=True):
        assert drawn(batch) == drawn(other)[:4]


# Several sources


def test_a_batch_has_the_share_of_every_source_and_counts_them_one_after_the_other():
    several = examples(ExtraSource(split(7, 100), THIRD), ExtraSource(split(5, 200), QUARTER))
    assert (several.examples, several.extra_per_batch, several.batches_per_epoch) == (42, 7, 3)
    assert several.class_counts(3) == [14, 14, 14]
    for batch in several.batches(0):
        assert batch.aux["extra"].tolist() == [False] * 5 + [True] * 7
        positions = drawn(batch)
        assert all(each < 7 for each in positions[:4])
        assert all(7 <= each < 12 for each in positions[4:])
        numbers = [100 + each if each < 7 else 193 + each for each in positions]
        assert torch.equal(batch.x[5:, 0], torch.tensor(numbers) / 1000)
        assert torch.equal(batch.y[5:], torch.tensor(numbers) % 3)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("by_rows", [False, True])
def test_each_process_reads_its_rows_of_several_sources(ranks: int, by_rows: bool):
    def several(wrapped: type) -> TrainingSet:
        sources = [
            ExtraSource(split(7, 100), THIRD),
            ExtraSource(wrapped(split(5, 200)) if wrapped else split(5, 200), QUARTER),
        ]
        return TrainingSet(Read(split(23)), 12, False, 3, sources)

    whole = list(several(None).batches(1))
    for rank in range(ranks):
        own = several(Read if by_rows else None).own_batches(1, 0, lambda total, rank=rank: Rows(total, rank, ranks))
        for (batch, rows), full in zip(own, whole, strict=True):
            assert same(batch, part_of(full, rows))


class Marked(Split):
    """A split in memory whose batches have one more name in ``aux``."""

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        for batch in super().batches(order, batch_size, start):
            yield Batch(batch.x, batch.y, batch.index, {"z": batch.y})


def test_a_joined_split_is_its_parts_one_after_the_other():
    one, other = split(7, 100), split(5, 200)
    joined = JoinedSplit([one, other])
    whole = Split(torch.cat([one.x, other.x]), torch.cat([one.y, other.y]))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for start in (0, 1):
        for a, b in zip(joined.batches(order, 5, start), whole.batches(order, 5, start), strict=True):
            assert same(a, b)
    assert (len(joined), joined.example_shape, joined.dtype) == (12, (1,), torch.float32)
    assert joined.extent() == whole.extent()
    assert joined.label_range() == (0, 2)
    assert not has_unlabelled(joined)
    other.y[2] = NO_LABEL
    assert has_unlabelled(joined)
    record = joined.fingerprint()
    assert record["sizes"] == [7, 5]
    assert record["labels"] == [part.fingerprint()["labels"] for part in (one, other)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Split(torch.rand(4, 2), torch.zeros(4).long()), r"source 2: expected inputs of shape \(1,\), .* got \(2,\)"),
        (Split(torch.rand(4, 1).double(), torch.zeros(4).long()), "source 2: expected inputs of torch.float32, as in"),
    ],
)
def test_sources_of_different_inputs_are_refused(other: Split, message: str):
    with pytest.raises(DataError, match=f"data, split extra, {message}"):
        JoinedSplit([split(3), other])


def test_a_wrong_example_is_named_with_its_source():
    wrong = Split(torch.rand(3, 1), torch.tensor([0, NO_LABEL, 3]))
    with pytest.raises(
        DataError, match="split extra, source 2: label out of range at example 2: expected -1 to 2, got"
    ):
        check_data(Data(split(9), split(9), 3, extra=JoinedSplit([split(3), wrong])), LINF)
    joined = JoinedSplit([split(3), Marked(torch.rand(3, 1), torch.arange(3))])
    with pytest.raises(DataError, match=r"the same aux in the batches of all sources, got \[\[\], \['z'\]\]"):
        list(joined.batches(torch.arange(6), 6))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (
            [HALF, Fraction(1, 100)],
            "expected 1 to 11 extra examples in a batch of 12, got 0, which is a share of 1/100",
        ),
        ([HALF, Fraction(49, 100)], "expected 1 to 11 .* got 12, which is a share of 1/2 \\+ 49/100; change it"),
    ],
)
def test_shares_that_leave_a_source_or_the_real_examples_out_are_refused(shares: list[Fraction], message: str):
    with pytest.raises(ConfigError, match=message):
        examples(*(ExtraSource(split(9), share) for share in shares))
