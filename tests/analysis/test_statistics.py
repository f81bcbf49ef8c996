"""Numbers of an analysis against literal formulas: moments, histograms, distances, groups, fits, gaps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from buttress.analysis.parts.distance import distances, named_groups
from buttress.analysis.parts.gap import best_difference, generalization_gaps
from buttress.analysis.parts.histogram import histograms, last_convolution, moments, tensors_to_bin
from buttress.analysis.parts.label_noise import fit_of_flipped
from buttress.errors import ModelError
from buttress.scoring.loss_groups import EDGES, group_counts, group_names, group_numbers
from buttress.training.selection import Record
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny

from ..models import MLP, ConvNet


def test_moments_are_the_literal_ones():
    values = np.random.default_rng(0).standard_t(5, size=(7, 11, 3))
    actual = moments(torch.from_numpy(values))
    z = values - values.mean()
    assert actual.n == values.size
    assert actual.mean == pytest.approx(values.mean(), rel=1e-12)
    assert actual.std == pytest.approx(math.sqrt((z**2).mean()), rel=1e-12)
    assert actual.largest == np.abs(values).max()
    assert actual.kurtosis == pytest.approx((z**4).mean() / (z**2).mean() ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "kurtosis"),
    [([-1.0, 1.0] * 50, 1.0), ([0.0] * 8 + [-1.0, 1.0], 5.0), (list(np.linspace(-1, 1, 20001)), 1.8)],
    ids=["two points", "three points", "uniform"],
)
def test_kurtosis_has_its_closed_form(values: list[float], kurtosis: float):
    assert moments(torch.tensor(values, dtype=torch.float64)).kurtosis == pytest.approx(kurtosis, rel=1e-6)


def test_a_constant_has_no_kurtosis():
    assert math.isnan(moments(torch.ones(4)).kurtosis)


def test_moments_of_float32_are_taken_in_float64():
    values = 1000 + torch.arange(5, dtype=torch.float32) / 1024
    assert moments(values).std == pytest.approx(math.sqrt(2) / 1024, rel=1e-9)


def test_histograms_share_their_bins_and_lose_no_value():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(20, 5)), 2 * rng.normal(size=33)
    edges, counts = histograms({"one": torch.from_numpy(one), "two": torch.from_numpy(two)}, bins=9)
    reach = max(np.abs(one).max(), np.abs(two).max())
    np.testing.assert_allclose(edges.numpy(), np.linspace(-reach, reach, 10), rtol=1e-12)
    for name, values in (("one", one), ("two", two)):
        assert counts[name].sum() == values.size
        assert counts[name].tolist() == np.histogram(values, np.linspace(-reach, reach, 10))[0].tolist()


def test_histogram_of_zeros_has_bins():
    edges, counts = histograms({"w": torch.zeros(3)})
    assert edges[0] == -1
    assert counts["w"].sum() == 3


def test_the_last_convolution_is_no_shortcut():
    assert last_convolution(preact_resnet18(in_channels=3, num_classes=10)) == "layer4.1.conv2.weight"
    assert last_convolution(preact_tiny(in_channels=1, num_classes=10, width=2)) == "layer4.0.conv2.weight"
    assert last_convolution(MLP()) == "second.weight"
    with pytest.raises(ModelError, match="BatchNorm1d has no weight of more than one dimension"):
        last_convolution(nn.BatchNorm1d(2))


def test_distances_are_the_literal_ones():
    rng = np.random.default_rng(2)
    a, b = ({name: rng.normal(size=shape) for name, shape in (("u", (3, 2)), ("v", 4), ("w", 5))} for _ in range(2))
    tensors = ({name: torch.from_numpy(value) for name, value in each.items()} for each in (a, b))
    actual = distances(*tensors, {"first": ["u", "v"], "second": ["w"]})
    for group, names in (("first", "uv"), ("second", "w")):
        x, y = (np.concatenate([each[name].ravel() for name in names]) for each in (a, b))
        assert actual[group].absolute == pytest.approx(np.linalg.norm(x - y), rel=1e-12)
        assert actual[group].relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-12)
        assert actual[group].cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)


def test_groups_hold_every_parameter_once():
    model = preact_tiny(in_channels=1, num_classes=10, width=2)
    for each in (model, MLP(), ConvNet()):
        names = [name for group in named_groups(each).values() for name in group]
        assert sorted(names) == sorted(name for name, _ in each.named_parameters())
    assert list(named_groups(model)) == ["group 1", "group 2", "group 3", "group 4", "stem and head"]
    assert list(named_groups(ConvNet())) == ["conv", "bn", "linear"]


def test_groups_are_half_open_and_the_last_one_closed():
    losses = torch.tensor([0.0, 0.499, 0.5, 2.999, 3.0, 3.001, math.inf, math.nan], dtype=torch.float64)
    assert group_numbers(losses).tolist() == [0, 0, 1, 5, 5, 6, 6, 6]
    assert group_counts(losses).tolist() == [2, 1, 0, 0, 0, 2, 3]
    assert len(group_names()) == len(EDGES)
    assert group_names([0, 1.5])[:2] == ["0 to 1.5", "above 1.5"]


def test_every_loss_is_in_the_group_whose_bounds_hold_it():
    losses = 4 * torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for loss, number in zip(losses.tolist(), group_numbers(losses).tolist(), strict=True):
        assert number == 6 if loss > 3 else EDGES[number] <= loss < EDGES[number + 1]


def test_fit_counts_flipped_examples_only():
    true = torch.tensor([0, 0, 1, 1, 2, 2])
    given = torch.tensor([0, 1, 1, 2, 0, 1])
    predicted = torch.tensor([1, 1, 1, 1, 1, 1])
    assert fit_of_flipped(predicted, given, true) == (2, 1, 1)


def test_the_gap_is_training_minus_test():
    records = [
        Record(epoch, track, split, clean, robust, 10)
        for track, epoch, split, clean, robust in (
            ("live", 1, "train", 0.9, 0.7),
            ("live", 1, "test", 0.8, 0.6),
            ("live", 3, "train", 1.0, 0.95),
            ("live", 3, "test", 0.85, 0.5),
            ("live", 3, "validation", 0.1, 0.1),
            ("ema", 3, "test", 0.85, 0.5),  # was not scored on the training set
        )
    ]
    first, second = generalization_gaps(records)
    assert (first.track, first.epoch, second.epoch) == ("live", 1, 3)
    assert (first.clean, first.robust) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (second.clean, second.robust) == (pytest.approx(0.15), pytest.approx(0.45))
    assert best_difference([first, second]) == pytest.approx(0.95 - 0.6)


def test_a_parameter_without_values_is_no_matrix():
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.none, self.flat = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(4, 0))

    model = Empty()
    assert list(tensors_to_bin(dict(model.named_parameters()))) == ["linear.weight"]
    assert last_convolution(model) == "linear.weight"
