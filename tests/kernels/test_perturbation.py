"""Relative perturbations, against closed forms in float64."""

import math

import pytest
import torch
from torch import Tensor

from buttress.kernels import perturb_, relative_scales


def tensors(seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (2, 3, 3, 3), (1, 1)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def norm(values: list[Tensor]) -> float:
    return math.sqrt(sum(float((value.double() ** 2).sum()) for value in values))


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.float16, 2e-3)])
def test_each_layer_moves_by_gamma_times_its_norm(dtype: torch.dtype, slack: float):
    weights, directions = tensors(0, dtype), tensors(1, dtype)
    before = [weight.clone() for weight in weights]
    perturb_(weights, directions, 0.1)
    for weight, origin, direction in zip(weights, before, directions, strict=True):
        expected = origin.double() + 0.1 * direction.double() * norm([origin]) / norm([direction])
        assert torch.allclose(weight.double(), expected, rtol=slack, atol=slack)


def test_a_global_norm_keeps_the_direction_and_has_the_length_of_all():
    weights, directions = tensors(0), tensors(1)
    before = [weight.clone() for weight in weights]
    perturb_(weights, directions, 0.1, norm="global")
    moved = [weight - origin for weight, origin in zip(weights, before, strict=True)]
    assert norm(moved) == pytest.approx(0.1 * norm(before), rel=1e-13)
    ratio = moved[0] / directions[0]
    assert all(torch.allclose(m / d, ratio.flatten()[0]) for m, d in zip(moved, directions, strict=True))


@pytest.mark.parametrize("norm_kind", ["layer", "global"])
def test_a_zero_direction_and_zero_weights_do_not_move(norm_kind):
    weights = [torch.zeros(3), torch.zeros(2)]
    perturb_(weights, [torch.ones(3), torch.zeros(2)], 0.1, norm=norm_kind)
    assert all(bool((weight == 0).all()) for weight in weights)
    weights = [torch.ones(3)]
    perturb_(weights, [torch.zeros(3)], 0.1, norm=norm_kind)
    assert torch.equal(weights[0], torch.ones(3))


def test_norms_of_half_precision_do_not_overflow():
    (scale,) = relative_scales([torch.full((10_000,), 60.0).half()], [torch.full((10_000,), 1e-4).half()], 1e-3)
    assert float(scale) == pytest.approx(1e-3 * 60.0 / 1e-4, rel=2e-2)


def test_nothing_to_perturb_is_no_error():
    perturb_([], [], 0.1)
    perturb_([], [], 0.1, norm="global")
