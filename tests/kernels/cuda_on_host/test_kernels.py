"""Every CUDA kernel, compiled for the host and launched by its own code, against float64 and the CPU's kernels."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import kernels as cpu
from buttress.kernels import native, use_backend
from tests.kernels.cuda_on_host import large, losses, medians, perturbations
from tests.kernels.cuda_on_host.build import Build, kernels, why_not
from tests.kernels.cuda_on_host.device import Device
from tests.kernels.cuda_on_host.numbers import BFLOAT16, FLOAT16, FLOAT32, NUMBERS, Array, Number
from tests.kernels.cuda_on_host.perturbations import FIELDS, Network

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

COUNTS = (1, 2, 3, 8, 9, 16, 31, 32, 33, 34, 60, 61, 64, 65, 120, 129, 130)


@pytest.fixture(scope="module")
def library() -> Device:
    return Device(Build(kernels()).library())


@pytest.fixture(params=["forwards", "backwards"])
def device(library: Device, request: pytest.FixtureRequest) -> Iterator[Device]:
    """Threads and blocks in either order: no result may depend on it."""
    with library.order(backwards=request.param == "backwards"):
        yield library


@pytest.fixture
def processor() -> Iterator[None]:
    """The compiled kernels of the CPU."""
    if not native.operations():
        pytest.skip(native.why_not())
    with use_backend("native"):
        yield


@pytest.mark.parametrize("start", range(4))
def test_the_median_of_every_number_of_rows(library: Device, start: int):
    with library.order(backwards=start % 2 == 0):
        for n in range(1 + start, 131, 4):
            number, even = NUMBERS[n // 4 % 4], medians.MIDDLES[n % 3]
            medians.check(library, number, n, [1, 0, 1024, 1100], even, shift=n % 3)


@pytest.mark.parametrize("even", medians.MIDDLES)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_the_median_of_every_dtype(library: Device, number: Number, even: str):
    for n in COUNTS:
        medians.check(library, number, n, [1027], even)


@pytest.mark.parametrize("n", [256, 257, 1000])
def test_the_median_of_more_rows_than_travel_with_a_launch(device: Device, n: int):
    medians.check(device, FLOAT32, n, [70], "mean")
    medians.check(device, FLOAT32, n, [70, 1030], "lower")


@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [1024] * 40, [7, 1025, 5000]], ids=str)
def test_the_median_of_few_elements_and_of_many_tensors(device: Device, sizes: list[int]):
    medians.check(device, FLOAT16, 5, sizes, "upper")


@pytest.mark.parametrize("even", medians.MIDDLES)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
@pytest.mark.usefixtures("processor")
def test_the_median_is_the_processors(library: Device, number: Number, even: cpu.Middle):
    for n in (2, 5, 33, 64):
        rows = medians.draw(number, n, 1300)
        with library.memory():
            (out,) = medians.launch(library, number, [rows], even)
            expected = cpu.median([_tensor(number, row) for row in rows], even=even)
            apart = (_bits(_tensor(number, out)) - _bits(expected)).abs().max()
            assert apart <= (even == "mean")  # the CPU's compiler fuses the sum of halves, which rounds subnormal ones


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(
    ("batch", "classes"), [(1, 1), (2, 2), (7, 31), (33, 10), (9, 33), (100, 1000), (2500, 3), (0, 10)]
)
@pytest.mark.parametrize("kind", losses.KINDS)
def test_losses_gradients_mean_and_mask(device: Device, kind: str, batch: int, classes: int, inclusive: bool):
    losses.check(device, kind, batch, classes, inclusive=inclusive)
    losses.check(device, kind, batch, classes, inclusive=inclusive, odd=batch > 0)


@pytest.mark.parametrize("c_min", [-np.inf, 0.0, np.inf])
def test_a_condition_that_keeps_nothing_or_all(library: Device, c_min: float):
    losses.check(library, "double", 40, 12, c_min=c_min, odd=True)


def test_a_loss_at_the_threshold_is_kept_if_inclusive(library: Device):
    logits, targets = np.zeros((5, 2), np.float32), np.zeros(5, np.int64)
    with library.memory():
        threshold = float(losses.launch(library, "float", logits, targets, 1.0, True, 1.0).losses[0])
        kept = [losses.launch(library, "float", logits, targets, threshold, x, 1.0).kept[0] for x in (True, False)]
    assert kept == [5, 0]


@pytest.mark.parametrize(("batch", "classes"), [(128, 10), (31, 257)])
@pytest.mark.usefixtures("processor")
def test_losses_are_the_processors(library: Device, batch: int, classes: int):
    logits, targets = losses.draw(batch, classes, "float", odd=False)
    threshold = losses.threshold(losses.exact(logits, targets)[0])
    with library.memory():
        got = losses.launch(library, "float", logits, targets, threshold, True, 1.0)
    leaf = torch.from_numpy(logits).requires_grad_()
    mean, kept = cpu.lsc_cross_entropy(leaf, torch.from_numpy(targets), threshold)
    mean.backward()
    assert kept.item() == got.kept[0]
    np.testing.assert_allclose(got.mean[0], mean.item(), rtol=1e-5)
    assert leaf.grad is not None
    np.testing.assert_allclose(got.gradients, leaf.grad.numpy(), atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [[1], [7, 1, 8193], [8192, 20001, 3, 100]], ids=["one", "odd", "big"])
def test_every_perturbation(device: Device, sizes: list[int], seed: int):
    numbers = NUMBERS[seed:] + NUMBERS[:seed]
    perturbations.check(device, sizes, numbers=numbers, seed=seed, shift=seed)


def test_perturbations_of_more_tensors_than_a_block_has_threads(library: Device):
    perturbations.check_perturb(library, Network(library, [2] * 260), layer=False)
    perturbations.check_amp(library, Network(library, [2] * 260), together=False)


def test_a_table_of_no_items(library: Device):
    with library.memory():
        for name, rest in {"perturb": (0.1, True), "amp_step": (None, 0.1, 0.1, 1.0, True)}.items():
            Network(library, []).launch(name, *rest)


@pytest.mark.parametrize("check", [large.check_median, large.check_losses, large.check_mask, large.check_perturb])
def test_more_elements_than_32_bits_count(library: Device, check: Callable[[Device], None]):
    check(library)


@pytest.mark.parametrize("norm", ["layer", "global"])
@pytest.mark.parametrize("values", ["normal", "odd", "short"])
@pytest.mark.usefixtures("processor")
def test_perturbations_are_the_processors(library: Device, values: str, norm: cpu.Norm):
    layer = norm == "layer"
    ball: cpu.Ball = "per_tensor" if layer else "global"
    with library.memory():
        network = Network(library, [9, 300, 8200, 40])
        _odd_values(network, values)
        w, d, origin, total = (_tensors(network, name) for name in FIELDS)
        state, length = torch.zeros(2, 4, dtype=torch.float64), library.empty(1, np.float64)
        on_device = library.array(np.zeros(8))
        network.launch("perturb", 0.1, layer)
        cpu.perturb_(w, d, 0.1, norm=norm, saved=origin)
        _expect_alike(network, w, origin)
        network.launch("rwp_first_step", on_device, 0.1, layer, None)
        cpu.rwp_first_step_(w, d, origin, total, state, 0.1, norm=norm)
        network.launch("rwp_step", on_device, 0.1, layer, True, None)
        cpu.rwp_step_(w, d, origin, total, state, 0.1, norm=norm)
        _expect_alike(network, w, origin)
        np.testing.assert_allclose(on_device, state.numpy().ravel(), rtol=1e-6)
        network.launch("restore", scratch=False)
        cpu.restore_(w, origin)
        network.launch("amp_first_step", length, 0.1, 0.2, 0.5, not layer)
        result = cpu.amp_first_step_(w, d, origin, total, xi=0.1, delta=0.2, ball=ball, clip_norm=0.5)
        network.launch("amp_step", length, 0.1, 0.2, 0.5, not layer)
        result = cpu.amp_step_(w, d, origin, total, xi=0.1, delta=0.2, ball=ball, clip_norm=0.5)
        _expect_alike(network, w, origin)
        np.testing.assert_allclose(length[0], result.item(), rtol=1e-6)
        network.launch("unperturb", scratch=False)
        cpu.unperturb_(w, origin, total)
        _expect_alike(network, w, origin)


def _odd_values(network: Network, values: str) -> None:
    """Infinities, NaN and zeros in the second array; or directions so short that the scale overflows."""
    for i, (weight, direction) in enumerate(zip(network.arrays["weight"], network.arrays["direction"], strict=True)):
        number = network.number(i)
        if values == "odd" and i == 1:
            weight[:3] = number.narrow(np.array([np.inf, np.nan, -0.0]))
            direction[:4] = number.narrow(np.array([0.0, 1.0, -0.0, -np.inf]))
        if values == "short":
            direction[:] = number.narrow(np.full(len(direction), number.tiny * 3))
    network.remember()


def _expect_alike(network: Network, weights: Sequence[Tensor], origin: Sequence[Tensor]) -> None:
    """The CPU's compiler fuses: numbers may differ by a rounding, and by what that changes in a norm of all."""
    for name, tensors in (("weight", weights), ("origin", origin)):
        for i, (got, tensor) in enumerate(zip(network.wide(name), tensors, strict=True)):
            eps = network.number(i).eps
            np.testing.assert_allclose(
                got, tensor.double().numpy(), rtol=4 * eps, atol=4 * eps + 1e-6, err_msg=f"{name}[{i}]"
            )


def _tensors(network: Network, name: str) -> list[Tensor]:
    return [_tensor(network.number(i), array) for i, array in enumerate(network.arrays[name])]


def _tensor(number: Number, stored: Array) -> Tensor:
    """A copy."""
    if number is BFLOAT16:
        return torch.from_numpy(stored.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(stored.copy())


def _bits(tensor: Tensor) -> Tensor:
    """Integers, with one NaN for all."""
    same = torch.where(tensor.isnan(), torch.nan, tensor)
    return same.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
