"""Batches of real and extra examples: their numbers, marks, streams, and what is refused."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from buttress import Batch, Data, Split
from buttress.data import NO_LABEL, check_data
from buttress.data.double import DoubleSplit
from buttress.data.extra_source import ExtraSource
from buttress.data.order import epoch_order
from buttress.data.training_set import TrainingSet, mixed
from buttress.engine.split import part_of
from buttress.errors import ConfigError, DataError
from buttress.types import Rows

from ..core.helpers import LINF

HALF = Fraction(1, 2)


class Lazy(Split):
    """A split without tensors, which makes its examples when they are asked for."""

    def __init__(self, of: Split) -> None:
        self._of = of

    def __len__(self) -> int:
        return len(self._of)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self._of.example_shape

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        return self._of.batches(order, batch_size, start)


def split(n: int, first: int = 0) -> Split:
    """Examples whose input is their own number, in thousandths."""
    numbers = torch.arange(first, first + n)
    return Split(numbers[:, None] / 1000, numbers % 3)


def training_set(n: int = 20, batch_size: int = 6, extra: Split | None = None, share: Fraction = HALF) -> TrainingSet:
    return TrainingSet(split(n), batch_size, False, seed=3, extras=[ExtraSource(extra or split(11, 100), share)])


def same(one: Batch, other: Batch) -> bool:
    pairs = [(one.x, other.x), (one.y, other.y), (one.index, other.index)]
    assert one.aux.keys() == other.aux.keys()
    return all(torch.equal(a, b) for a, b in [*pairs, *((one.aux[name], other.aux[name]) for name in one.aux)])


@pytest.mark.parametrize(
    ("n", "batch_size", "share", "sizes"),
    [
        (20, 6, HALF, [(3, 3)] * 4),
        (20, 6, Fraction(1, 6), [(5, 1)] * 4),
        (10, 9, Fraction(1, 9), [(8, 1), (2, 1)]),  # the real ones run out in the last batch
        (20, 10, Fraction(7, 10), [(3, 7)] * 2),
        (4, 10, HALF, [(4, 5)]),
    ],
)
def test_a_batch_has_its_share_and_an_epoch_as_many_batches_as_without(
    n: int, batch_size: int, share: Fraction, sizes: list[tuple[int, int]]
):
    examples = training_set(n, batch_size, share=share)
    batches = list(examples.batches(0))
    assert [(int((~b.aux["extra"]).sum()), int(b.aux["extra"].sum())) for b in batches] == sizes
    assert len(batches) == examples.batches_per_epoch == -(-n // batch_size)


def test_real_examples_come_in_the_order_of_the_epoch_and_extra_ones_are_counted_after_them():
    for epoch in range(3):
        batches = list(training_set().batches(epoch))
        real = torch.cat([batch.index[~batch.aux["extra"]] for batch in batches])
        assert real.tolist() == epoch_order(20, 3, epoch)[:12].tolist()
        for batch in batches:
            number = torch.where(batch.aux["extra"], batch.index - 20 + 100, batch.index)
            assert torch.equal(batch.x[:, 0], number / 1000)
            assert torch.equal(batch.y, number % 3)
            assert not batch.aux["unlabelled"].any()


def test_without_extra_examples_the_batches_are_those_of_the_split():
    plain = TrainingSet(split(20), 6, False, seed=3)
    expected = list(split(20).batches(epoch_order(20, 3, 1), 6))
    assert all(same(a, b) for a, b in zip(plain.batches(1), expected, strict=True))
    assert all(not batch.aux for batch in plain.batches(1))


@pytest.mark.parametrize("start", [1, 3, 4])
def test_an_epoch_continues_at_any_batch_with_the_same_draws(start: int):
    whole = list(training_set().batches(2))
    rest = list(training_set().batches(2, start))
    assert len(rest) == len(whole) - start
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_draws_differ_from_batch_to_batch_and_from_epoch_to_epoch():
    drawn = [tuple(b.index[b.aux["extra"]].tolist()) for epoch in range(3) for b in training_set().batches(epoch)]
    assert len(set(drawn)) == len(drawn)


def test_splits_that_are_read_while_training_give_the_same_batches():
    memory, lazy = training_set(), TrainingSet(Lazy(split(20)), 6, False, 3, [ExtraSource(Lazy(split(11, 100)), HALF)])
    assert all(same(a, b) for a, b in zip(memory.batches(1), lazy.batches(1), strict=True))
    assert lazy.class_counts(3) is None


def test_extra_examples_are_drawn_uniformly_with_replacement():
    examples = training_set(400, 20, extra=split(10, 500), share=Fraction(9, 10))
    counts, repeated = torch.zeros(10, dtype=torch.int64), 0
    for epoch in range(10):
        for batch in examples.batches(epoch):
            drawn = torch.bincount(batch.index[batch.aux["extra"]] - 400, minlength=10)
            counts += drawn
            repeated += int((drawn > 1).any())
    assert int(counts.sum()) == 10 * 20 * 18
    expected = 360.0
    assert float(((counts - expected) ** 2 / expected).sum()) < 27.9  # chi-square, 9 degrees of freedom, 0.1 %
    assert repeated == 200  # 18 draws of 10 always repeat one


def test_an_example_without_a_label_is_marked_and_holds_0():
    extra = split(11, 100)
    extra.y[::2] = NO_LABEL
    for batch in training_set(extra=extra).batches(0):
        without = batch.aux["extra"] & ((batch.index - 20) % 2 == 0)
        assert torch.equal(batch.aux["unlabelled"], without)
        assert bool((batch.y[without] == 0).all())
        assert bool((batch.y >= 0).all())


def test_numbers_of_examples_and_of_classes_count_both_and_leave_out_what_has_no_label():
    extra = split(11, 100)
    extra.y[:5] = NO_LABEL
    examples = training_set(extra=extra)
    labels = torch.cat([split(20).y, extra.y[5:]])
    assert examples.examples == 31
    assert examples.class_counts(3) == torch.bincount(labels, minlength=3).tolist()


@pytest.mark.parametrize(("share", "count"), [(Fraction(1, 100), 0), (Fraction(99, 100), 6)])
def test_a_share_that_is_no_example_or_all_of_them_is_refused(share: Fraction, count: int):
    with pytest.raises(ConfigError, match=f"expected 1 to 5 extra examples in a batch of 6, got {count}"):
        training_set(share=share)


def test_extra_examples_of_another_kind_are_refused():
    def batch(x: Tensor, **aux: Tensor) -> Batch:
        return Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)), aux)

    real = batch(torch.rand(2, 3))
    with pytest.raises(
        DataError, match=r"split extra: expected inputs of shape \(3,\) and torch.float32, .* got \(4,\)"
    ):
        mixed(real, batch(torch.rand(2, 4)), 2)
    with pytest.raises(DataError, match=r"as in the train split, got \(3,\) and torch.float64"):
        mixed(real, batch(torch.rand(2, 3).double()), 2)
    with pytest.raises(DataError, match=r"expected batches with aux \[\], as in the train split, got \['z'\]"):
        mixed(real, batch(torch.rand(2, 3), z=torch.zeros(2)), 2)


def test_aux_of_both_is_joined():
    real, extra = (
        Batch(torch.rand(2, 3), torch.zeros(2).long(), None, {"z": torch.full((2,), value)}) for value in (1.0, 2.0)
    )
    assert mixed(real, extra, 2).aux["z"].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert mixed(real, extra, 2).index is None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            Split(torch.rand(4, 3), torch.tensor([0, 1, -2, 2])),
            "label out of range at example 2: expected -1 to 2, got",
        ),
        (
            Split(torch.rand(4, 3), torch.tensor([0, 1, 2, 3])),
            "label out of range at example 3: expected -1 to 2, got 3",
        ),
        (Split(torch.rand(4, 2), torch.zeros(4).long()), r"expected inputs of shape \(3,\), got \(2,\)"),
        (Split(torch.rand(4, 3).double(), torch.zeros(4).long()), "expected inputs of torch.float32"),
        (Split(2 * torch.ones(4, 3), torch.zeros(4).long()), "example 0 lies outside of the box"),
        (Split(torch.rand(0, 3), torch.zeros(0).long()), "expected at least one example, got none"),
        ([1], "expected a buttress.Split, got a list"),
    ],
)
def test_wrong_extra_examples_are_refused_before_step_1(extra: Split, message: str):
    real = Split(torch.rand(6, 3), torch.arange(6) % 3)
    with pytest.raises(DataError, match=f"^data, split extra: {message}"):
        check_data(Data(real, real, 3, extra=extra), LINF)


def test_extra_examples_without_a_label_pass_and_are_part_of_the_fingerprint():
    real = Split(torch.rand(6, 3), torch.arange(6) % 3)
    data = Data(real, real, 3, extra=Split(torch.rand(2, 3), torch.full((2,), NO_LABEL)))
    check_data(data, LINF)
    assert list(data.splits()) == ["train", "test", "extra"]
    assert data.fingerprint["extra"]["n"] == 2
    for wrong in ("train", "test"):
        other = {name: data.extra if name == wrong else real for name in ("train", "test")}
        with pytest.raises(DataError, match=f"split {wrong}: label out of range at example 0: expected 0 to 2, got -1"):
            check_data(Data(**other, num_classes=3), LINF)


# Rows of several processes


class Read(Lazy):
    """A split of which each process reads its own rows; ``asked`` are the positions that were read."""

    reads_rows = True

    def __init__(self, of: Split) -> None:
        super().__init__(of)
        self.asked: list[list[int]] = []

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        assert len(order)
        self.asked += [part.tolist() for part in order.split(batch_size)[start:]]
        return super().batches(order, batch_size, start)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("extra", [None, split(11, 100), Read(split(11, 100))], ids=["none", "in memory", "read"])
def test_each_process_reads_its_rows_of_every_batch(ranks: int, extra: Split | None):
    def examples(real: Split) -> TrainingSet:
        return TrainingSet(real, 7, False, 3, [ExtraSource(extra, HALF)] if extra else [])

    whole = list(examples(split(23)).batches(1))
    for rank in range(ranks):
        real = Read(split(23))
        own = list(examples(real).own_batches(1, 1, lambda total, rank=rank: Rows(total, rank, ranks)))
        assert len(own) == len(whole) - 1
        for (batch, rows), full in zip(own, whole[1:], strict=True):
            assert rows == Rows(len(full.y), rank, ranks)
            assert same(batch, part_of(full, rows))
        taken = [rows.of(full.index) for (_, rows), full in zip(own, whole[1:], strict=True)]
        assert real.asked == [part for index in taken if (part := index[index < 23].tolist())]


def test_sets_in_memory_and_one_process_have_whole_batches():
    for examples, ranks in ((training_set(), 3), (TrainingSet(Read(split(20)), 6, False, 3), 1)):
        own = examples.own_batches(1, 1, lambda total, ranks=ranks: Rows(total, 0, ranks))
        for (batch, rows), full in zip(own, list(examples.batches(1))[1:], strict=True):
            assert rows is None
            assert same(batch, full)


def test_a_split_in_double_reads_rows_as_its_own_does():
    read = split(9)
    read.reads_rows = True
    double = DoubleSplit(read)
    assert double.reads_rows
    (batch,) = double.batches_at([torch.tensor([3, 1])])
    assert batch.x.dtype == torch.float64
    assert batch.index.tolist() == [3, 1]
