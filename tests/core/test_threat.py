"""The threat model: exact radius, projections, starts, and what counts as inside."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import ThreatModel
from buttress.errors import ConfigError
from buttress.threat import l2_norm, per_example, shrink_l2

from .helpers import batch_of

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def norms(delta: Tensor) -> np.ndarray:
    return np.linalg.norm(delta.double().flatten(1).numpy(), axis=1)


# What may be given


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        ("8/255", Fraction(8, 255)),
        ("0.031", Fraction(31, 1000)),
        (" 128 / 255 ", Fraction(128, 255)),
        (0.1, Fraction(1, 10)),
        (1, Fraction(1)),
        (0, Fraction(0)),
        ("2e-3", Fraction(1, 500)),
        (Fraction(2, 3), Fraction(2, 3)),
    ],
)
def test_eps_is_kept_exactly_as_written(given: Any, exact: Fraction):
    threat = ThreatModel("linf", given)
    assert threat.eps == exact
    assert isinstance(threat.eps, Fraction)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("l1", 1), r"threat\.norm: expected 'linf' or 'l2', got 'l1'"),
        (("linf", -1), r"threat\.eps: expected a value >= 0, got -1"),
        (("linf", "-8/255"), r"threat\.eps: expected a value >= 0"),
        (("linf", float("nan")), r"threat\.eps: expected a finite number"),
        (("linf", float("inf")), r"threat\.eps: expected a finite number"),
        (("linf", "8/0"), r"threat\.eps: .*division by zero"),
        (("linf", "eight"), r"threat\.eps: expected a finite number or a fraction like 8/255, got 'eight'"),
        (("linf", True), r"threat\.eps: expected a number"),
        (("linf", None), r"threat\.eps: expected a number"),
        (("linf", 1, (1, 0)), r"threat\.box: expected \[low, high\] with low < high, or null"),
        (("linf", 1, (0, 0)), r"threat\.box"),
        (("linf", 1, (0, float("nan"))), r"threat\.box"),
        (("linf", 1, (0, 1, 2)), r"threat\.box"),
    ],
)
def test_a_wrong_threat_model_is_refused(arguments: tuple[Any, ...], message: str):
    with pytest.raises(ConfigError, match=message):
        ThreatModel(*arguments)


def test_it_prints_its_fraction():
    assert str(ThreatModel("linf", "8/255")) == "linf eps 8/255, box [0, 1]"
    assert str(ThreatModel("l2", 0.5, None)) == "l2 eps 1/2, no box"


def test_equal_models_are_equal_whatever_they_were_written_as():
    assert ThreatModel("linf", "0.1") == ThreatModel("linf", Fraction(1, 10), [0, 1])


# Projection


def test_linf_projection_clips_to_ball_and_box():
    x = torch.tensor([[0.5, 0.5, 0.5, 0.05, 0.95]], dtype=torch.float64)
    x_adv = torch.tensor([[0.9, 0.1, 0.55, -1.0, 2.0]], dtype=torch.float64)
    expected = torch.tensor([[0.6, 0.4, 0.55, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(ThreatModel("linf", "1/10").project(x_adv, x), expected, rtol=0, atol=1e-15)


def test_l2_projection_scales_each_example_onto_the_sphere_and_leaves_those_inside():
    x = torch.zeros(3, 1, 2, dtype=torch.float64)
    x_adv = torch.tensor([[[3.0, 4.0]], [[0.3, 0.4]], [[0.0, 0.0]]], dtype=torch.float64)
    found = ThreatModel("l2", 1, None).project(x_adv, x)
    expected = torch.tensor([[[0.6, 0.8]], [[0.3, 0.4]], [[0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_the_orders_of_l2_projection_differ_at_the_border_of_the_box():
    x = torch.tensor([[0.9, 0.5]], dtype=torch.float64)
    x_adv = torch.tensor([[0.9 + 3.0, 0.5 + 0.4]], dtype=torch.float64)
    threat = ThreatModel("l2", "1/2")
    length = np.hypot(3.0, 0.4)
    ball_first = torch.tensor([[1.0, 0.5 + 0.5 * 0.4 / length]], dtype=torch.float64)
    box_first = torch.tensor([[1.0, 0.9]], dtype=torch.float64)  # (0.1, 0.4) is inside the ball
    torch.testing.assert_close(threat.project(x_adv, x), ball_first, rtol=0, atol=1e-15)
    torch.testing.assert_close(threat.project(x_adv, x, order="box_then_norm"), box_first, rtol=0, atol=1e-15)


@NORMS
@FLOATS
@pytest.mark.parametrize("order", ["norm_then_box", "box_then_norm"])
@pytest.mark.parametrize("box", [(0.0, 1.0), (-2.0, 3.0), None])
def test_a_projection_is_contained(norm: Any, dtype: torch.dtype, order: str, box: Any):
    x = batch_of(20, dtype=dtype).x
    threat = ThreatModel(norm, "3/10", box)
    far = x + 3 * torch.randn(x.shape, generator=generator()).to(dtype)
    assert bool(threat.contains(threat.project(far, x, order=order), x))


@NORMS
def test_projecting_twice_changes_nothing(norm: Any):
    x = batch_of(20, dtype=torch.float64).x
    threat = ThreatModel(norm, "3/10")
    once = threat.project(x + torch.randn(x.shape, generator=generator(), dtype=x.dtype), x)
    torch.testing.assert_close(threat.project(once, x), once, rtol=0, atol=1e-15)


# Random starts


@NORMS
@FLOATS
def test_a_random_start_is_contained(norm: Any, dtype: torch.dtype):
    x = batch_of(50, dtype=dtype).x
    threat = ThreatModel(norm, "3/10")
    start = threat.random_start(x, generator())
    assert start.dtype == dtype
    assert bool(threat.contains(start, x))


def test_a_linf_start_is_uniform_in_the_cube():
    x = torch.full((1, 200_000), 0.5, dtype=torch.float64)
    delta = (ThreatModel("linf", "1/4").random_start(x, generator()) - x).numpy()
    edges = np.histogram(delta, bins=10, range=(-0.25, 0.25))[0]
    assert edges.sum() == 200_000
    assert np.abs(edges - 20_000).max() < 5 * np.sqrt(20_000)


def test_an_l2_start_has_a_uniform_radius_and_no_preferred_direction():
    x = torch.full((100_000, 3), 0.5, dtype=torch.float64)
    delta = (ThreatModel("l2", "1/4").random_start(x, generator()) - x).numpy()
    radius = np.linalg.norm(delta, axis=1)
    counts = np.histogram(radius, bins=10, range=(0, 0.25))[0]
    assert counts.sum() == 100_000
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
    assert np.abs((delta / radius[:, None]).mean(0)).max() < 5 / np.sqrt(3 * 100_000)


@NORMS
def test_a_start_stays_inside_the_box(norm: Any):
    x = torch.cat([torch.zeros(10, 4), torch.ones(10, 4)])
    start = ThreatModel(norm, "1/2").random_start(x, generator())
    assert float(start.min()) >= 0
    assert float(start.max()) <= 1


@NORMS
def test_a_start_is_fixed_by_the_generator_alone(norm: Any):
    x = batch_of().x
    threat = ThreatModel(norm, "1/2")
    torch.random.manual_seed(0)
    first = threat.random_start(x, generator(3))
    torch.random.manual_seed(1)
    assert torch.equal(first, threat.random_start(x, generator(3)))
    assert not torch.equal(first, threat.random_start(x, generator(4)))


# Distances and containment


def test_distances_are_those_of_numpy():
    x, other = batch_of(5, dtype=torch.float64).x, batch_of(5, 1, dtype=torch.float64).x
    delta = (other - x).flatten(1).numpy()
    np.testing.assert_allclose(ThreatModel("linf", 1).distance(other, x), np.abs(delta).max(1), rtol=1e-15)
    np.testing.assert_allclose(ThreatModel("l2", 1).distance(other, x), np.linalg.norm(delta, axis=1), rtol=1e-15)


@NORMS
@pytest.mark.parametrize(
    ("dtype", "margin"),  # within the rounding of the dtype
    [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.float16, 0.1), (torch.bfloat16, 0.5)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_containment_tells_too_far_from_inside(norm: Any, dtype: torch.dtype, margin: float, sign: int):
    x = torch.full((3, 4, 4), 0.5, dtype=dtype)
    direction = torch.zeros_like(x)
    direction[1, 0, 0] = 0.25 * (1 + sign * margin)
    assert bool(ThreatModel(norm, "1/4").contains(x + direction, x)) == (sign < 0)


@NORMS
@pytest.mark.parametrize("box", [(0.0, 1.0), None])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite_is_never_contained(norm: Any, box: Any, bad: float):
    x = torch.full((2, 3), 0.5)
    x_adv = x.clone()
    x_adv[1, 2] = bad
    threat = ThreatModel(norm, 1, box)
    assert not bool(threat.contains(x_adv, x))
    assert not bool(threat.box_contains(x_adv))


def test_the_box_has_no_slack():
    x = torch.tensor([[1.0, 0.0]])
    threat = ThreatModel("linf", 1)
    assert bool(threat.contains(x, x))
    assert not bool(threat.contains(torch.tensor([[1.0 + 2**-23, 0.0]]), x))
    assert not bool(threat.box_contains(torch.tensor([[1.0, -1e-30]])))


def test_an_infinite_bound_does_not_void_the_check():
    x = torch.zeros(2, 3)
    assert not bool(ThreatModel("linf", "1/10", (0.0, torch.inf)).contains(x + 5, x))


def test_eps_zero_contains_x_alone():
    x = batch_of().x
    threat = ThreatModel("linf", 0)
    assert bool(threat.contains(x, x))
    assert torch.equal(threat.project(x + 0.5, x), x)
    assert not bool(threat.contains((x + 1e-3).clamp(0, 1), x))


# Helpers


def test_shrink_leaves_a_zero_perturbation_at_zero():
    assert torch.equal(shrink_l2(torch.zeros(2, 3), 1.0), torch.zeros(2, 3))


def test_per_example_broadcasts_over_all_other_axes():
    x = torch.ones(2, 3, 4, 5)
    scaled = per_example(torch.tensor([2.0, 3.0]), x) * x
    assert torch.equal(scaled[0], torch.full((3, 4, 5), 2.0))
    assert torch.equal(scaled[1], torch.full((3, 4, 5), 3.0))
    np.testing.assert_allclose(l2_norm(scaled), [2 * 60**0.5, 3 * 60**0.5], rtol=1e-6)
    np.testing.assert_allclose(l2_norm(scaled), norms(scaled), rtol=1e-6)


@pytest.mark.parametrize(("eps", "d"), [("3", 2), ("10", 16), ("100", 16)])
def test_an_l2_projection_without_a_box_is_contained_for_any_eps(eps: str, d: int):
    threat = ThreatModel("l2", eps, None)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        x = torch.rand((8, d), generator=generator)
        far = x + 1e3 * torch.randn(x.shape, generator=generator)
        assert bool(threat.contains(threat.project(far, x), x))


@pytest.mark.parametrize(
    "box", [3, "01", (0, "a"), (0, None), {0: 0, 1: 1}, torch.tensor(1.0), (0, 1, 2), (True, 2), {0, 1}], ids=str
)
def test_what_is_no_box_is_one_message(box: Any):
    with pytest.raises(ConfigError, match=r"^threat\.box: expected \[low, high\] with low < high, or null, got "):
        ThreatModel("linf", "1/10", box=box)


@pytest.mark.parametrize("box", [torch.tensor([0.0, 1.0]), np.array([0, 1]), [np.float32(0), np.float32(1)]], ids=str)
def test_a_box_of_numbers_of_any_library_is_one(box: Any):
    assert ThreatModel("linf", "1/10", box=box).box == (0.0, 1.0)
