"""Directions in weight space: filter normalisation, the same draws for every run, weights put back."""

import numpy as np
import pytest
import torch
from torch import nn

from buttress.analysis.directions import directions_id, losses_at, random_direction, scaled_to_weights
from buttress.functional import cross_entropy

from ..core.helpers import assert_same, batch_of, snapshot, weights_of
from ..models import ConvNet


def test_every_filter_gets_the_norm_of_the_weights_filter():
    weights = {name: weight.double() for name, weight in weights_of(ConvNet()).items()}
    scaled = scaled_to_weights(random_direction(weights, seed=3), weights)
    assert set(scaled) == {"conv.weight", "linear.weight"}  # no bias, no batch norm
    for name, d in scaled.items():
        w, drawn = weights[name].numpy(), random_direction(weights, seed=3)[name].numpy()
        for f in range(len(w)):
            expected = drawn[f] / np.sqrt((drawn[f] ** 2).sum()) * np.sqrt((w[f] ** 2).sum())
            np.testing.assert_allclose(d[f].numpy(), expected, rtol=1e-12)


def test_layer_normalisation_scales_the_whole_tensor():
    weights = {"w": torch.randn((3, 4, 2), dtype=torch.float64)}
    drawn = random_direction(weights, seed=0)
    scaled = scaled_to_weights(drawn, weights, "layer")["w"]
    expected = drawn["w"].numpy() * np.linalg.norm(weights["w"].numpy()) / np.linalg.norm(drawn["w"].numpy())
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-12)


def test_a_zero_filter_is_not_moved():
    weights = {"w": torch.cat([torch.zeros(1, 5), torch.ones(1, 5)])}
    scaled = scaled_to_weights(random_direction(weights, seed=0), weights)["w"]
    assert torch.equal(scaled[0], torch.zeros(5))
    assert scaled[1].norm() == pytest.approx(5**0.5)


def test_two_runs_of_one_network_get_the_same_draws_and_other_seeds_others():
    one, two = weights_of(ConvNet(seed=0)), weights_of(ConvNet(seed=1))
    assert_same(random_direction(one, seed=5), random_direction(two, seed=5))
    draws = [[random_direction(one, *key)] for key in ((5,), (6,), (5, 1))]
    assert len({directions_id(draw) for draw in draws}) == 3
    assert directions_id([random_direction(two, seed=5)]) == directions_id(draws[0])


def test_losses_are_those_of_the_shifted_weights_and_the_weights_come_back():
    model = ConvNet().double()
    model.train()
    before = snapshot(model)
    batch = batch_of(dtype=torch.float64)
    weights = weights_of(model)
    d, e = (scaled_to_weights(random_direction(weights, 0, number), weights) for number in (0, 1))
    points = [(0.0, 0.0), (0.5, -0.25)]
    actual = losses_at(model, [d, e], points, lambda: [(batch.x[:4], batch.y[:4]), (batch.x[4:], batch.y[4:])])
    assert_same(before, snapshot(model))
    assert model.training
    for (a, b), row in zip(points, actual, strict=True):
        other = ConvNet().double()
        other.load_state_dict({**before, **{name: weights[name] + a * d[name] + b * e[name] for name in d}})
        torch.testing.assert_close(row, cross_entropy(other.eval()(batch.x), batch.y).detach(), rtol=1e-12, atol=0)


def test_weights_come_back_after_an_exception():
    model = ConvNet()
    before = snapshot(model)
    direction = random_direction(weights_of(model), 0)

    def broken():
        raise RuntimeError("no inputs")

    with pytest.raises(RuntimeError, match="no inputs"):
        losses_at(model, [direction], [[1.0]], broken)
    assert_same(before, snapshot(model))


def test_a_model_without_matrices_has_no_direction():
    assert random_direction(weights_of(nn.BatchNorm1d(3)), 0) == {}
