"""Launch the weight perturbations as ``csrc/perturb/cuda_ops.cpp`` does; compare them with the formulas in float64."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.kernels.cuda_on_host.device import Device, address_of
from tests.kernels.cuda_on_host.numbers import NUMBERS, Array, Number

FIELDS = ("weight", "direction", "origin", "total")


class Item(ctypes.Structure):
    """``buttress::perturbation::Item``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("size", ctypes.c_int64),
        ("first", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in FIELDS),
    )


@dataclass
class Network:
    """Arrays of several dtypes and sizes on the device, and their values before the launch in float64."""

    device: Device
    sizes: Sequence[int]
    numbers: Sequence[Number] = NUMBERS
    seed: int = 0
    shift: int = 0
    arrays: dict[str, list[Array]] = field(default_factory=dict)
    before: dict[str, list[Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        for name in FIELDS:
            drawn = [self.number(i).narrow(rng.normal(size=size)) for i, size in enumerate(self.sizes)]
            self.arrays[name] = [self.device.array(values, self.shift) for values in drawn]
        self.remember()

    def number(self, i: int) -> Number:
        return self.numbers[i % len(self.numbers)]

    def remember(self) -> None:
        self.before = {name: self.wide(name) for name in FIELDS}

    def wide(self, name: str) -> list[Array]:
        """The arrays of this name now, in float64."""
        return [self.number(i).widen(array).astype(np.float64) for i, array in enumerate(self.arrays[name])]

    def launch(self, name: str, *rest: Any, without: Sequence[str] = (), scratch: bool = True) -> None:
        """One operation on all arrays; ``rest`` are its own arguments."""
        block = self.device.constant("perturb_block")
        items, blocks = (Item * len(self.sizes))(), 0
        for i, size in enumerate(self.sizes):
            addresses = [None if field in without else address_of(self.arrays[field][i]) for field in FIELDS]
            items[i] = Item(self.number(i).index, size, blocks, *addresses)
            blocks += -(-size // block)
        table = self.device.array(np.frombuffer(bytes(items), np.uint8))
        sums = [self.device.empty(3 * count, np.float64) for count in (blocks, len(self.sizes)) if scratch]
        self.device.call(name, table, len(self.sizes), blocks, *sums, *rest)

    def expect(self, what: str, name: str, wanted: Sequence[Array], terms: Sequence[Array]) -> None:
        """Each array rounds what is wanted once; ``terms`` are the sizes of what was added."""
        for i, (got, exact, size) in enumerate(zip(self.wide(name), wanted, terms, strict=True)):
            number = self.number(i)
            wrong = np.flatnonzero(~(np.abs(got - exact) <= 2 * number.eps * np.abs(size) + number.tiny))
            where = f"{what}: {name}[{i}] ({number.name}, {len(got)}) is wrong at {wrong[:5]}"
            assert not len(wrong), f"{where}: {got[wrong[:5]]}, expected {exact[wrong[:5]]}"

    def expect_same(self, what: str, name: str, wanted: Sequence[Array]) -> None:
        for i, (got, exact) in enumerate(zip(self.wide(name), wanted, strict=True)):
            assert np.array_equal(got, exact, equal_nan=True), f"{what}: {name}[{i}] is not {exact[:5]}, but {got[:5]}"


def check(device: Device, sizes: Sequence[int], **settings: Any) -> None:
    """Every operation on arrays of these sizes, each dtype after the other."""
    for layer in (True, False):
        check_perturb(device, Network(device, sizes, **settings), layer)
        check_rwp(device, Network(device, sizes, **settings), layer)
        check_amp(device, Network(device, sizes, **settings), together=not layer)
    check_restore(device, Network(device, sizes, **settings))


def squares(arrays: Sequence[Array]) -> Array:
    return np.array([(array * array).sum() for array in arrays])


def scales_of(gamma: float, weights: Array, directions: Array, layer: bool) -> Array:
    """gamma times the norm of the weights over that of the directions, from squares."""
    if not layer:
        weights, directions = (np.full_like(squares, squares.sum()) for squares in (weights, directions))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(directions == 0, 0.0, gamma * np.sqrt(weights) / np.sqrt(directions))


def moved(weights: Sequence[Array], scales: Array, directions: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """weight + scale * direction, and the size of its terms."""
    pairs = list(zip(weights, scales, directions, strict=True))
    return [w + s * d for w, s, d in pairs], [np.abs(w) + np.abs(s * d) for w, s, d in pairs]


def check_perturb(device: Device, network: Network, layer: bool) -> None:
    w, d = network.before["weight"], network.before["direction"]
    with device.memory():
        network.launch("perturb", 0.05, layer, without=["total"])
        scales = scales_of(0.05, squares(w), squares(d), layer)
        network.expect_same("perturb", "origin", w)
        network.expect("perturb", "weight", *moved(w, scales, d))


def check_restore(device: Device, network: Network) -> None:
    """restore, and unperturb, which leaves alone what was not perturbed."""
    with device.memory():
        for origin, total in zip(network.arrays["origin"], network.arrays["total"], strict=True):
            total[::3] = origin[::3]
        network.remember()
        w, origin, start = (network.before[name] for name in ("weight", "origin", "total"))
        network.launch("unperturb", scratch=False)
        wanted = [np.where(o == s, x, o + (x - s)) for x, o, s in zip(w, origin, start, strict=True)]
        terms = [2 * np.abs(x) + np.abs(o) + 2 * np.abs(s) for x, o, s in zip(w, origin, start, strict=True)]
        network.expect("unperturb", "weight", wanted, terms)
        network.launch("restore", without=["direction", "total"], scratch=False)
        network.expect_same("restore", "weight", origin)


def check_rwp(device: Device, network: Network, layer: bool, gamma: float = 0.03) -> None:
    """Two steps that move and two, first and later, that do not: none is kept."""
    n = len(network.sizes)
    with device.memory():
        some, none = device.array(np.array([3])), device.array(np.array([0]))
        state = device.array(np.zeros(2 * n))
        w, d = network.before["weight"], network.before["direction"]
        for kept in (none, some):
            network.launch("rwp_first_step", state, gamma, layer, kept)
            total = d if kept is some else [0 * array for array in d]
            scales = scales_of(gamma, squares(w), squares(total), layer)
            np.testing.assert_allclose(state, [*np.sqrt(squares(w)), *scales], rtol=1e-12)
            network.expect_same("rwp_first_step", "origin", w)
            network.expect_same("rwp_first_step", "total", total)
            network.expect("rwp_first_step", "weight", *moved(w, scales, total))
        for rescale in (True, False):
            before, keep = network.wide("total"), scales if rescale else np.ones(n)
            network.launch("rwp_step", state, gamma, layer, rescale, some)
            network.expect("rwp_step", "total", *moved(d, keep, before))
            total = network.wide("total")
            scales = scales_of(gamma, squares(w), squares(total), layer)
            np.testing.assert_allclose(state, [*np.sqrt(squares(w)), *scales], rtol=1e-12)
            network.expect("rwp_step", "weight", *moved(w, scales, total))
        weights = network.wide("weight")
        network.launch("rwp_step", state, gamma, layer, True, none)
        network.expect_same("rwp_step, none kept", "total", total)
        network.expect_same("rwp_step, none kept", "weight", weights)


def check_amp(device: Device, network: Network, together: bool) -> None:
    """The first step, a step that the ball shortens, one that is clipped, one whose gradient is not finite."""
    with device.memory():
        length = device.empty(1, np.float64)
        norm = float(np.sqrt(squares(network.before["direction"]).sum()))
        bound = 0.75 * norm if together else 0.5
        total = [0 * array for array in network.before["direction"]]
        for step, clip in enumerate((np.inf, np.inf, norm / 2)):
            d = network.wide("direction")
            add = 0.9 * min(1.0, clip / (norm + 1e-6))
            added = [m + add * g for m, g in zip(total, d, strict=True)]
            shrink = np.sqrt(np.full(len(d), squares(added).sum()) if together else squares(added))
            shrink = np.where(shrink > bound, bound / np.maximum(shrink, 1e-300), 1.0)
            name = "amp_step" if step else "amp_first_step"
            network.launch(name, length, 0.9, bound, float(clip), together)
            wanted = [s * m for s, m in zip(shrink, added, strict=True)]
            terms = [np.abs(m) + np.abs(g) for m, g in zip(total, d, strict=True)]
            np.testing.assert_allclose(length[0], np.sqrt(squares(wanted).sum()), rtol=1e-9)
            network.expect(name, "total", wanted, terms)
            total = network.wide("total")
            network.expect_same(name, "origin", network.before["weight"])
            network.expect(name, "weight", *moved(network.before["weight"], np.ones(len(d)), total))
        network.arrays["direction"][-1][-1] = network.number(len(network.sizes) - 1).nan()
        network.launch("amp_step", length, 0.9, bound, np.inf, together)
        network.expect_same("amp_step, not finite", "total", total)
