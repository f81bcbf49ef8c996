"""Weight perturbations against closed forms in float64, on both backends."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.kernels import (
    amp_first_step_,
    amp_step_,
    perturb_,
    restore_,
    rwp_first_step_,
    rwp_step_,
    unperturb_,
    use_backend,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
BLOCK = 1 << 14  # elements whose sums the CPU takes at once
SHAPES = [(3, 4), (5,), (2, 3, 3, 3), (1, 1), (0,), (), (BLOCK + 1,), (7, 1001)]
pytestmark = pytest.mark.usefixtures("backend")
NORMS = pytest.mark.parametrize("norm", ["layer", "global"])


def draw(seed: int, dtype: torch.dtype = torch.float64, shapes: list[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def like(tensors: list[Tensor]) -> list[Tensor]:
    """Memory that a wrong read would show in."""
    return [torch.full_like(tensor, torch.nan) for tensor in tensors]


def clones(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def length(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors))


def lengths(tensors: list[Tensor], norm: str) -> list[float]:
    """The length of each tensor, or that of all together, once for each."""
    return [length(tensors) if norm == "global" else length([tensor]) for tensor in tensors]


def assert_near(actual: list[Tensor], expected: list[Tensor], roundings: float) -> None:
    """Every element within a number of roundings of its dtype, relative to the larger of it and 1."""
    for one, other in zip(actual, expected, strict=True):
        bound = roundings * torch.finfo(one.dtype).eps
        torch.testing.assert_close(one.double(), other.double(), rtol=bound, atol=bound)


def assert_equal(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def moved(weights: list[Tensor], directions: list[Tensor], gamma: float, norm: str) -> list[Tensor]:
    sizes, longs = lengths(weights, norm), lengths(directions, norm)
    return [
        w.double() + (gamma * size / long * d.double() if long else 0.0)
        for w, d, size, long in zip(weights, directions, sizes, longs, strict=True)
    ]


# perturb_ and its way back


@NORMS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_move_by_gamma_times_their_norm(dtype: torch.dtype, norm: Any):
    weights, directions = draw(0, dtype), draw(1, dtype)
    expected = moved(weights, directions, 0.1, norm)
    perturb_(weights, directions, 0.1, norm=norm)
    assert_near(weights, expected, 4)


@NORMS
def test_saved_gets_the_weights_as_they_were_and_restore_brings_them_back_bit_for_bit(norm: Any):
    weights = draw(0, torch.float32)
    weights[0][0, :3] = torch.tensor([-0.0, 1e-42, torch.inf])
    before, saved, other = clones(weights), like(weights), clones(weights)
    perturb_(weights, draw(1, torch.float32), 0.1, norm=norm, saved=saved)
    perturb_(other, draw(1, torch.float32), 0.1, norm=norm)
    for one, two in zip([*saved, *weights], [*before, *other], strict=True):
        assert one.reshape(-1).view(torch.int32).tolist() == two.reshape(-1).view(torch.int32).tolist()
    restore_(weights, saved)
    for one, two in zip(weights, before, strict=True):
        assert one.reshape(-1).view(torch.int32).tolist() == two.reshape(-1).view(torch.int32).tolist()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.complex64, torch.bool], ids=str)
def test_restore_takes_any_dtype(dtype: torch.dtype):
    saved = [torch.arange(7).to(dtype), torch.ones(2, 3).to(dtype)]
    weights = [torch.zeros_like(each) for each in saved]
    restore_(weights, saved)
    assert_equal(weights, saved)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unperturb_moves_the_saved_weights_as_the_step_moved_the_perturbed_ones(dtype: torch.dtype):
    saved, perturbed, weights = draw(0, dtype), draw(1, dtype), draw(2, dtype)
    perturbed[0][0] = saved[0][0]
    expected = [s.double() + (w.double() - p.double()) for w, s, p in zip(weights, saved, perturbed, strict=True)]
    kept = weights[0][0].clone()
    unperturb_(weights, saved, perturbed)
    assert torch.equal(weights[0][0], kept)
    assert_near(weights[1:], expected[1:], 8)
    still = clones(perturbed)
    unperturb_(still, saved, perturbed)  # a step of nothing
    assert_equal(still, saved)


@NORMS
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (torch.float32, 1e-20),
        (torch.float32, 1e-30),
        (torch.float32, 1e15),
        (torch.float64, 1e-20),
        (torch.float64, 1e-40),
        (torch.float64, 1e-100),
        (torch.float64, 1e100),
        (torch.bfloat16, 1e-30),
    ],
    ids=str,
)
def test_the_scale_of_the_directions_does_not_matter(dtype: torch.dtype, factor: float, norm: Any):
    """As small as the gradients of examples whose logits are a hundred apart: exp(-100) is 4e-44."""
    directions = [direction * factor for direction in draw(1, dtype)]
    weights = draw(0, dtype)
    expected = moved(weights, directions, 0.1, norm)
    accumulated, state = clones(weights), torch.empty(2, len(weights), dtype=torch.float64)
    rwp_first_step_(accumulated, directions, like(weights), like(weights), state, 0.1, norm=norm)
    perturb_(weights, directions, 0.1, norm=norm)
    assert_near(weights, expected, 4)
    assert_near(accumulated, expected, 4)


@NORMS
def test_a_zero_direction_and_zero_weights_do_not_move(norm: Any):
    for dtype in DTYPES:
        weights = [torch.zeros(3, dtype=dtype), torch.zeros(2, dtype=dtype)]
        perturb_(weights, [torch.ones(3, dtype=dtype), torch.zeros(2, dtype=dtype)], 0.1, norm=norm)
        assert not any(bool(weight.any()) for weight in weights)
        weights = [torch.ones(3, dtype=dtype)]
        perturb_(weights, [torch.zeros(3, dtype=dtype)], 0.1, norm=norm)
        assert torch.equal(weights[0], torch.ones(3, dtype=dtype))


@NORMS
def test_gamma_zero_changes_nothing(norm: Any):
    weights = draw(0)
    perturb_(weights, draw(1), 0.0, norm=norm)
    assert_equal(weights, draw(0))


@pytest.mark.parametrize(("size", "direction"), [(60.0, 1e-4), (1e-3, 1e-7), (1.0, 60_000.0)])
def test_norms_and_factors_of_half_precision_do_not_overflow(size: float, direction: float):
    weights, directions = [torch.full((10_000,), size).half()], [torch.full((10_000,), direction).half()]
    expected = weights[0].double() * 1.01
    perturb_(weights, directions, 0.01)
    torch.testing.assert_close(weights[0].double(), expected, rtol=2e-3, atol=0)


def test_a_direction_that_is_not_a_number_shows():
    weights = [torch.ones(4), torch.ones(4)]
    perturb_(weights, [torch.tensor([1.0, torch.nan, 1.0, 1.0]), torch.ones(4)], 0.1)
    assert bool(weights[0].isnan().all())
    assert not bool(weights[1].isnan().any())


def test_nothing_to_do_is_no_error():
    state = torch.zeros(2, 0, dtype=torch.float64)
    for norm in ("layer", "global"):
        perturb_([], [], 0.1, norm=norm)
        rwp_first_step_([], [], [], [], state, 0.1, norm=norm)
        rwp_step_([], [], [], [], state, 0.1, norm=norm)
    restore_([], [])
    unperturb_([], [], [])
    for step_ in (amp_first_step_, amp_step_):
        assert float(step_([], [], [], [], xi=1.0, delta=1.0)) == 0.0


def test_tensors_of_several_dtypes_go_together():
    def mixed(seed: int) -> list[Tensor]:
        return [each.to(dtype) for each, dtype in zip(draw(seed, shapes=[(9,)] * 4), DTYPES, strict=True)]

    weights, directions = mixed(0), mixed(1)
    expected = moved(weights, directions, 0.1, "global")
    perturb_(weights, directions, 0.1, norm="global")
    assert_near(weights, expected, 4)


# RWP


def rwp(weights: list[Tensor], gradients: list[list[Tensor]], gamma: float, norm: str, rescale: bool) -> list[Tensor]:
    """Algorithm 1 by hand, in float64; None in the place of gradients: nothing is kept."""
    origin = [weight.double() for weight in weights]
    v = total = [torch.zeros_like(each) for each in origin]
    for gradient in gradients:
        total = [each + g.double() for each, g in zip(v if rescale else total, gradient, strict=True)]
        sizes, longs = lengths(origin, norm), lengths(total, norm)
        v = [gamma * size / long * each if long else each for each, size, long in zip(total, sizes, longs, strict=True)]
    return [w + each for w, each in zip(origin, v, strict=True)]


def run_rwp(weights: list[Tensor], gradients: list[list[Tensor]], kept: list[int], norm: Any, rescale: bool) -> Tensor:
    origin, total, state = like(weights), like(weights), torch.full((2, len(weights)), torch.nan, dtype=torch.float64)
    for step, (gradient, count) in enumerate(zip(gradients, kept, strict=True)):
        lists, settings = (weights, gradient, origin, total, state, 0.1), {"norm": norm, "kept": torch.tensor(count)}
        if step == 0:
            rwp_first_step_(*lists, **settings)
        else:
            rwp_step_(*lists, **settings, rescale=rescale)
    return state


@NORMS
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_several_steps_of_rwp_are_those_of_its_algorithm(dtype: torch.dtype, rescale: bool, norm: Any):
    weights, gradients = draw(0, dtype), [draw(seed, dtype) for seed in (1, 2, 3)]
    expected = rwp(weights, gradients, 0.1, norm, rescale)
    run_rwp(weights, gradients, [3, 2, 1], norm, rescale)
    assert_near(weights, expected, 16)


@NORMS
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("kept", [[0, 3, 0, 2], [3, 0, 2, 0], [0, 0, 0, 0]], ids=str)
def test_where_nothing_is_kept_nothing_moves_whatever_the_gradient(kept: list[int], rescale: bool, norm: Any):
    gradients = [draw(seed) if count else like(draw(seed)) for seed, count in enumerate(kept, start=1)]
    weights = draw(0)
    run_rwp(weights, gradients, kept, norm, rescale)
    expected = rwp(draw(0), [g for g, count in zip(gradients, kept, strict=True) if count], 0.1, norm, rescale)
    assert_near(weights, expected, 16)
    if not any(kept):
        assert_equal(weights, draw(0))


@NORMS
def test_a_sum_that_becomes_zero_brings_the_weights_back(norm: Any):
    gradient = draw(1)
    weights = draw(0)
    run_rwp(weights, [gradient, [-each for each in gradient]], [1, 1], norm, rescale=False)
    assert_equal(weights, draw(0))


# AMP


def amp(
    weights: list[Tensor], gradients: list[list[Tensor]], delta: float, ball: str, clip: float | None
) -> tuple[list[Tensor], float]:
    """Algorithm 1 by hand, with step size 0.5, in float64."""
    v = [torch.zeros_like(weight.double()) for weight in weights]
    for gradient in gradients:
        shorter = min(1.0, clip / (length(gradient) + 1e-6)) if clip else 1.0  # torch.nn.utils.clip_grad_norm_
        v = [each + 0.5 * shorter * g.double() for each, g in zip(v, gradient, strict=True)]
        longs = lengths(v, "global" if ball == "global" else "layer")
        v = [each * min(1.0, delta / one) if one else each for each, one in zip(v, longs, strict=True)]
    return [weight.double() + each for weight, each in zip(weights, v, strict=True)], length(v)


def run_amp(weights: list[Tensor], gradients: list[list[Tensor]], **settings: Any) -> Tensor:
    origin, total = like(weights), like(weights)
    for step, gradient in enumerate(gradients):
        step_ = amp_first_step_ if step == 0 else amp_step_
        norm = step_(weights, gradient, origin, total, xi=0.5, **settings)
    return norm


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("ball", ["global", "per_tensor"])
@pytest.mark.parametrize("delta", [0.0, 0.7, 40.0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_several_steps_of_amp_are_those_of_its_algorithm(dtype: torch.dtype, delta: float, ball: Any, clip: Any):
    weights, gradients = draw(0, dtype), [draw(seed, dtype) for seed in (1, 2, 3)]
    expected, norm = amp(weights, gradients, delta, ball, clip)
    actual = run_amp(weights, gradients, delta=delta, ball=ball, clip_norm=clip)
    assert_near(weights, expected, 8)
    assert actual.shape == ()
    assert float(actual) == pytest.approx(norm, rel=1e-12 if dtype == torch.float64 else 1e-2)


@pytest.mark.parametrize("clip", [0.5, 4.999, 5.0, 5.0000005, 5.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_clip_norm_scales_a_gradient_as_clip_grad_norm_does(dtype: torch.dtype, clip: float):
    gradient = [torch.tensor([3.0], dtype=dtype), torch.tensor([4.0], dtype=dtype)]
    weights = [torch.zeros_like(each) for each in gradient]
    amp_first_step_(weights, gradient, like(weights), like(weights), xi=1.0, delta=100.0, clip_norm=clip)
    expected = [nn.Parameter(torch.zeros_like(each)) for each in gradient]
    for parameter, each in zip(expected, gradient, strict=True):
        parameter.grad = each.clone()
    nn.utils.clip_grad_norm_(expected, clip)
    assert_near(weights, [parameter.grad for parameter in expected], 2)
    if clip == 0.5 and dtype == torch.float64:
        assert [float(each) for each in weights] == pytest.approx([0.299999940, 0.399999920], abs=5e-10)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float, at: int):
    gradients = [draw(1), draw(2)]
    gradients[at][2][0, 0, 0, 0] = bad
    weights = draw(0)
    run_amp(weights, gradients, delta=1.0)
    expected, _ = amp(draw(0), [gradients[1 - at]], 1.0, "global", None)
    assert_near(weights, expected, 4)


# What all promise


def calls(weights: list[Tensor], seed: int = 1) -> dict[str, Callable[[], object]]:
    """Every operation on these weights, with lists laid out like them."""
    shapes = [tuple(weight.shape) for weight in weights]
    directions, origin, total = (
        [torch.empty_like(w).copy_(d) for w, d in zip(weights, draw(seed + k, shapes=shapes), strict=True)]
        for k in range(3)
    )
    state = torch.ones(2, len(weights), dtype=torch.float64)
    return {
        "perturb_": lambda: perturb_(weights, directions, 0.1, saved=origin),
        "perturb_ global": lambda: perturb_(weights, directions, 0.1, norm="global"),
        "restore_": lambda: restore_(weights, origin),
        "unperturb_": lambda: unperturb_(weights, origin, total),
        "rwp_first_step_": lambda: rwp_first_step_(weights, directions, origin, total, state, 0.1, norm="layer"),
        "rwp_step_": lambda: rwp_step_(weights, directions, origin, total, state, 0.1),
        "amp_first_step_": lambda: amp_first_step_(
            weights, directions, origin, total, xi=0.1, delta=1.0, ball="per_tensor"
        ),
        "amp_step_": lambda: amp_step_(weights, directions, origin, total, xi=0.1, delta=1.0),
    }


EVERY = pytest.mark.parametrize("name", list(calls([])))


@EVERY
def test_the_result_does_not_depend_on_the_number_of_threads(name: str):
    threads, actual = torch.get_num_threads(), []
    shapes = [(200_001,), (3, 4), (70, 1001), (1,)]
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            weights = draw(0, torch.float32, shapes)
            calls(weights)[name]()
            actual.append(weights)
    finally:
        torch.set_num_threads(threads)
    assert_equal(actual[0], actual[1])
    assert_equal(actual[0], actual[2])


@EVERY
@pytest.mark.parametrize("leaf", [False, True])
def test_parameters_that_require_a_gradient_are_written_and_stay_leaves(name: str, leaf: bool):
    plain, weights = draw(0), [weight.requires_grad_(leaf) for weight in draw(0)]
    calls(plain)[name]()
    calls(weights)[name]()
    assert_equal(weights, plain)
    assert all(weight.is_leaf and weight.requires_grad == leaf for weight in weights)


@EVERY
def test_autograd_notices_that_a_weight_has_changed(name: str):
    weights = [weight.requires_grad_() for weight in draw(0)]
    loss = sum((weight**2).sum() for weight in weights)
    calls(weights)[name]()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(1, 3).contiguous().transpose(1, 3),
    "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    "sliced": lambda t: torch.cat([t, t], 1)[:, : t.size(1)],
}


@EVERY
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 4, 1, 1)], ids=str)
def test_any_layout_gives_the_same(shape: tuple[int, ...], layout: str, name: str):
    plain = draw(0, shapes=[shape] * 2)
    weights = [LAYOUTS[layout](weight) for weight in plain]
    calls(plain)[name]()
    calls(weights)[name]()
    assert_near(weights, plain, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lists_of_other_layouts_are_read_and_written_too(layout: str):
    shapes = [(4, 3, 5, 2), (6, 4, 1, 1)]
    weights, before = draw(0, shapes=shapes), draw(0, shapes=shapes)
    directions, saved = ([LAYOUTS[layout](each) for each in draw(seed, shapes=shapes)] for seed in (1, 2))
    expected = moved(before, directions, 0.1, "layer")
    perturb_(weights, directions, 0.1, saved=saved)
    assert_near(weights, expected, 4)
    assert_equal(saved, before)
    restore_(weights, saved)
    assert_equal(weights, before)


def test_a_slice_leaves_its_surroundings_alone():
    whole = torch.full((4, 6), 7.0)
    perturb_([whole[:, 1:3]], [torch.ones(4, 2)], 0.5)
    assert whole[:, 1:3].flatten().tolist() == [10.5] * 8
    assert whole[:, [0, 3, 4, 5]].flatten().tolist() == [7.0] * 16


# The compiled operators


def arguments(dtype: torch.dtype = torch.float32) -> dict[str, tuple[Any, ...]]:
    """Arguments for every operator."""
    weights, directions, origin, total = (draw(seed, dtype, [(7, 3), (5,)]) for seed in range(4))
    state, kept = torch.ones(2, 2, dtype=torch.float64), torch.tensor(1)
    return {
        "perturb_": (weights, directions, 0.1, "layer", origin),
        "restore_": (weights, origin),
        "unperturb_": (weights, origin, total),
        "rwp_first_step_": (weights, directions, origin, total, state, 0.1, "global", kept),
        "rwp_step_": (weights, directions, origin, total, state, 0.1, "global", True, kept),
        "amp_first_step_": (weights, directions, origin, total, 0.1, 1.0, "global", None),
        "amp_step_": (weights, directions, origin, total, 0.1, 1.0, "global", None),
    }


OPERATORS = pytest.mark.parametrize("name", list(arguments()))


@pytest.fixture
def operator(name: str, backend: str) -> Any:
    if backend == "torch":
        pytest.skip("the compiled operators are checked")
    return getattr(torch.ops.buttress, name).default


@OPERATORS
def test_the_operators_pass_torch_s_own_checks(operator: Any, name: str):
    torch.library.opcheck(operator, arguments()[name])
    torch.library.opcheck(operator, arguments(torch.bfloat16)[name], test_utils=("test_schema", "test_faketensor"))


@OPERATORS
def test_the_operators_compile_into_one_graph(operator: Any, name: str):
    def function(*given: Any) -> Tensor:
        result = operator(*given)
        return given[0][0] * (2 if result is None else result)

    plain, traced = arguments()[name], arguments()[name]
    expected = function(*plain)
    actual = torch.compile(function, fullgraph=True, backend="aot_eager")(*traced)
    assert torch.equal(actual, expected)
    assert_equal(traced[0], plain[0])


@OPERATORS
def test_the_operators_refuse_to_be_differentiated(operator: Any, name: str):
    weights, *others = arguments()[name]
    before = clones(weights)
    for weight in weights:
        weight.requires_grad_()
    with pytest.raises(NotImplementedError, match=rf"buttress::{name} has no derivative: weights require a gradient"):
        operator(weights, *others)
    assert_equal(weights, before)


@OPERATORS
def test_a_compiled_graph_refuses_what_the_operators_refuse(operator: Any, name: str):
    weights, other, *others = arguments()[name]
    with pytest.raises(Exception, match=rf"{name}: \w+\[1\] has shape \(2,\)"):
        torch.compile(operator, fullgraph=True, backend="eager")(weights, [other[0], other[1][:2]], *others)


@pytest.mark.cuda
@EVERY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_on_cuda(dtype: torch.dtype, name: str, backend: str):
    if backend == "torch":
        pytest.skip("both backends are compared")
    shapes = [(200_001,), (3, 4), (0,), (70, 1001), *[(5,)] * 300]
    here, there = draw(0, dtype, shapes), [weight.cuda() for weight in draw(0, dtype, shapes)]
    calls(here)[name]()
    with use_backend("native"):
        calls(there)[name]()
    assert_near([weight.cpu() for weight in there], here, 8)


@pytest.mark.cuda
@EVERY
def test_on_cuda_there_are_at_most_three_launches_and_the_host_waits_for_none(name: str, backend: str):
    if backend == "torch":
        pytest.skip("of the compiled operators")
    weights = [weight.cuda() for weight in draw(0, torch.float32, [(50, 7)] * 200)]
    call = calls(weights)[name]
    with use_backend("native"):
        call()
        torch.cuda.synchronize()
        with torch.profiler.profile(
            activities=list(torch.profiler.ProfilerActivity.__members__.values())[:2]
        ) as profile:
            call()
    events = [event.name for event in profile.events()]
    assert 1 <= sum("cudaLaunchKernel" in event for event in events) <= 3
    assert not any("Synchronize" in event for event in events)
