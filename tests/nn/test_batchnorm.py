"""Re-estimated batch norm, against statistics computed in float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.errors import DataError
from buttress.nn.batchnorm import reestimate, tracked_norms

from ..core.helpers import assert_same, batch_of, snapshot
from ..models import MLP, ConvNet


def batches(sizes: list[int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [batch_of(n, seed, dtype).x for seed, n in enumerate(sizes)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [[4], [4, 4, 4], [7, 3, 1]])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_the_example_weighted_means_over_batches(dtype: torch.dtype, sizes: list[int], momentum: Any):
    model = ConvNet().to(dtype)
    model.bn.momentum = momentum
    model.bn.running_mean.fill_(torch.nan)  # whatever was there is gone
    model.bn.num_batches_tracked.fill_(7)
    inputs = batches(sizes, dtype)
    reestimate(model, inputs)
    activations = [F.conv2d(x.double(), model.conv.weight.detach().double(), padding=1).numpy() for x in inputs]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    pooled_mean = np.concatenate(activations).mean((0, 2, 3))
    np.testing.assert_allclose(model.bn.running_mean, pooled_mean, rtol=tolerance, atol=tolerance)
    variances = [a.var((0, 2, 3), ddof=1) for a in activations]
    np.testing.assert_allclose(
        model.bn.running_var, np.average(variances, axis=0, weights=sizes), rtol=tolerance, atol=tolerance
    )
    assert int(model.bn.num_batches_tracked) == len(sizes)
    assert model.bn.momentum == momentum


def test_one_batch_gives_its_pooled_variance():
    model = ConvNet().double()
    (x,) = batches([40])
    reestimate(model, [x])
    activations = F.conv2d(x, model.conv.weight.detach(), padding=1).numpy()
    np.testing.assert_allclose(model.bn.running_var, activations.var((0, 2, 3), ddof=1), rtol=1e-12)


def test_parameters_and_gradients_stay_as_found():
    model = ConvNet().double()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value for name, value in snapshot(model).items() if not name.startswith("bn.running")}
    reestimate(model, batches([4, 4]))
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "bn.num_batches_tracked")
    assert all(bool((parameter.grad == 1).all()) for parameter in model.parameters())


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.bn = nn.Dropout(0.9), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.dropout.training
        return self.bn(self.dropout(x))


def test_dropout_stays_in_eval_mode():
    model = WithDropout().double()
    (x,) = batches([5])
    reestimate(model, [x])
    np.testing.assert_allclose(model.bn.running_mean, x.numpy().mean((0, 2, 3)), rtol=1e-12)
    assert model.dropout.training


def two_norms() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)).double()


def test_norm_layers_that_the_user_has_frozen_keep_their_statistics():
    model = two_norms().train()
    model[0].eval()
    before = snapshot(model[0])
    reestimate(model, batches([5]))
    assert_same(before, snapshot(model[0]))
    assert int(model[1].num_batches_tracked) == 1
    assert [module.training for module in model.modules()] == [True, False, True]


def test_a_model_in_eval_mode_is_reestimated_whole_and_stays_in_eval_mode():
    model = two_norms().eval()
    reestimate(model, batches([5]))
    assert [int(norm.num_batches_tracked) for norm in model] == [1, 1]
    assert not any(module.training for module in model.modules())


def test_modes_and_momenta_come_back_when_a_batch_fails():
    model = ConvNet().double()

    def failing() -> Any:
        yield batches([4])[0]
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        reestimate(model, failing())
    assert model.bn.momentum == 0.1
    assert all(module.training for module in model.modules())


def test_a_model_without_norm_layers_leaves_the_inputs_unread():
    def unread() -> Any:
        raise AssertionError("read")
        yield

    reestimate(MLP(), unread())
    assert tracked_norms(MLP()) == []


def test_norm_layers_without_running_statistics_are_not_tracked():
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.LayerNorm(4), nn.BatchNorm2d(1))
    assert tracked_norms(model) == [model[2]]


def test_batch_norm_is_not_reset_when_there_are_no_inputs():
    model = ConvNet()
    model(batch_of().x)
    before = snapshot(model)
    with pytest.raises(DataError, match="at least one batch"):
        reestimate(model, [])
    assert_same(before, snapshot(model))
