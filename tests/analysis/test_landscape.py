"""Loss landscapes: the loss itself at 0, one direction for all groups, both axes in their places."""

import torch
from torch import Tensor

from buttress.analysis.directions import random_direction, scaled_to_weights
from buttress.analysis.parts.landscape import group_landscape
from buttress.analysis.parts.surface import surface
from buttress.functional import cross_entropy
from buttress.scoring.loss_groups import EDGES, group_numbers

from ..core.helpers import batch_of, weights_of
from ..models import MLP, Halfspace


def setting(n: int = 40) -> tuple[MLP, Tensor, Tensor, Tensor]:
    model = MLP().double()
    with torch.no_grad():
        model.second.weight.mul_(6)  # losses from near 0 to beyond 3
    batch = batch_of(n, dtype=torch.float64)
    return model, batch.x, batch.y, cross_entropy(model(batch.x), batch.y).detach()


def test_at_zero_every_group_has_its_own_mean_loss():
    model, x, y, losses = setting()
    direction = scaled_to_weights(random_direction(weights_of(model), 0), weights_of(model))
    actual = group_landscape(model, direction, [-0.5, 0.0, 0.5], lambda: [(x, y)], losses)
    numbers = group_numbers(losses)
    assert len(numbers.unique()) >= 3
    assert actual.sizes.sum() == len(y)
    for number in range(len(EDGES)):
        own = losses[numbers == number]
        assert actual.sizes[number] == len(own)
        if len(own):
            torch.testing.assert_close(actual.groups[number, 1], own.mean(), rtol=1e-12, atol=0)
        else:
            assert actual.groups[number].isnan().all()
    torch.testing.assert_close(actual.mean[1], losses.mean(), rtol=1e-12, atol=0)


def test_the_mean_of_all_is_the_weighted_mean_of_the_groups():
    model, x, y, losses = setting()
    direction = scaled_to_weights(random_direction(weights_of(model), 1), weights_of(model))
    actual = group_landscape(model, direction, [-1.0, 0.3], lambda: [(x[:7], y[:7]), (x[7:], y[7:])], losses)
    weighted = (actual.groups.nan_to_num(0.0) * actual.sizes[:, None]).sum(0) / len(y)
    torch.testing.assert_close(actual.mean, weighted, rtol=1e-12, atol=0)


def test_recomputed_inputs_are_made_at_the_shifted_weights():
    model = Halfspace(torch.ones(16, dtype=torch.float64))
    batch, seen = batch_of(dtype=torch.float64), []

    def inputs() -> list[tuple[Tensor, Tensor]]:
        seen.append(float(model.weight.detach()[0]))
        return [(batch.x, batch.y % 2)]

    group_landscape(model, {"weight": torch.ones(16)}, [-1.0, 0.0, 2.0], inputs, torch.zeros(len(batch.y)))
    assert seen == [0.0, 1.0, 3.0]


def test_surface_is_the_loss_at_both_shifts():
    model, x, y, losses = setting()
    weights = weights_of(model)
    d, e = (scaled_to_weights(random_direction(weights, 0, number), weights) for number in (0, 1))
    actual = surface(model, [d, e], [-1.0, 0.0, 0.5], lambda: [(x, y)])
    torch.testing.assert_close(actual[1, 1], losses.mean(), rtol=1e-12, atol=0)
    shifted = {name: weights[name] - 1.0 * d[name] + 0.5 * e[name] for name in d}
    other = MLP().double()
    other.load_state_dict({**weights, **shifted})
    torch.testing.assert_close(actual[0, 2], cross_entropy(other(x), y).mean().detach(), rtol=1e-12, atol=0)
