"""The stand-in itself: launches rewritten, indices, exchange within warps, packed numbers, misuse noticed."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cuda_on_host.build import HERE, Build, kernels, why_not
from tests.kernels.cuda_on_host.device import Device, LaunchError
from tests.kernels.cuda_on_host.numbers import Array
from tests.kernels.cuda_on_host.rewrite import rewrite

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture(scope="module")
def device() -> Device:
    texts = {"features/features.cu": (HERE / "features.cu").read_text()}
    return Device(Build(texts, families=["features"]).library())


def test_a_launch_becomes_a_call_and_lines_stay():
    source = "run<K, int(N) + 1><<<blocks, 32,\n 0, stream>>>(a, f(b)), true;"
    call = '::on_host::launch("run", {blocks, 32,\n 0, stream}, [&] { run<K, int(N) + 1>(a, f(b)); }), true;'
    assert rewrite(source) == call


@pytest.mark.parametrize("source", ["k<<<1, 2>>>;", "k<<<1, 2", "<<<1>>>(x)", "k<<<1>>>(x", "__shared__ int a, b;"])
def test_a_form_that_is_not_known_is_refused(source: str):
    with pytest.raises(ValueError, match=r"launch|__shared__"):
        rewrite(source)


def test_every_launch_of_the_project_is_known():
    rewritten = "".join(map(rewrite, kernels().values()))
    assert rewritten.count("::on_host::launch(") == sum(text.count("<<<") for text in kernels().values()) > 0


@pytest.mark.parametrize("threads", [32, 96, 256])
def test_lanes_exchange_as_the_guide_says(device: Device, threads: int):
    out = np.zeros((7, threads), np.int32)
    device.call("run_exchanges", threads, out)
    i = np.arange(threads)
    lane, warp = i % 32, i // 32 * 32
    up, down = np.where(i % 8 >= 2, i - 2, i), np.where(i % 8 < 6, i + 2, i)
    thirds = np.full(threads, sum(1 << k for k in range(0, 32, 3)), np.uint32).view(np.int32)
    expected = np.stack([warp + 5, i ^ 3, up, down, thirds, lane >= 16, lane < 16])
    assert np.array_equal(out, expected)


def test_halves_are_compared_apart(device: Device):
    a, b = np.random.default_rng(0).integers(2**32, size=(2, 100), dtype=np.uint32)
    out = np.zeros((6, 100), np.uint32)
    device.call("run_packed", a, b, 100, out)
    halves = [(x.view(kind).reshape(-1, 2)) for kind in (np.uint16, np.int16) for x in (a, b)]
    unsigned, signed = halves[:2], halves[2:]
    for row, kind in zip(out, [(np.minimum, unsigned), (np.maximum, unsigned), (np.minimum, signed)], strict=False):
        assert np.array_equal(row.view(np.uint16).reshape(-1, 2), kind[0](*kind[1]).view(np.uint16))
    assert np.array_equal(out[3].view(np.int16).reshape(-1, 2), np.maximum(*signed))
    assert np.array_equal(out[4].view(np.uint8).reshape(-1, 4), _permuted(a.view(np.uint8), b.view(np.uint8)))
    assert np.array_equal(out[5], np.minimum(np.maximum(a, b), 0x7FFFFFFF))


def _permuted(a: Array, b: Array) -> Array:
    """Digits 9, d, 4, 7 from above: byte 7, byte 4, then the signs of bytes 5 and 1."""
    a, b = a.reshape(-1, 4), b.reshape(-1, 4)
    signs = [np.where(column & 0x80, 0xFF, 0) for column in (b[:, 1], a[:, 1])]
    return np.stack([b[:, 3], b[:, 0], *signs], axis=1)


def test_indices_in_two_dimensions(device: Device):
    out = np.zeros((6, 8), np.int32)
    device.call("run_indices", out)
    assert np.array_equal(out, 100 * np.arange(6)[:, None] + np.arange(8))


def test_shared_memory_is_garbage_in_every_block(device: Device):
    out = np.zeros(2, np.int32)
    device.call("run_unread", out)
    assert out.tolist() == [-1, 0x7F7F7F7F]


@pytest.mark.parametrize(
    ("how", "threads", "message"),
    [
        (0, 64, "misused: threads wait for others that have returned"),
        (1, 64, "misused: threads of one block wait at __syncthreads\\(\\) of lines"),
        (2, 32, "misused: lane 0 is not in its own mask"),
        (3, 16, "misused: a shuffle reads lane 20, which takes no part"),
        (4, 2, "misused: 8 bytes at an address that is no multiple of that"),
        (9, 1025, "misused: grid or block"),
        (9, 0, "misused: grid or block"),
    ],
)
def test_misuse_is_an_error_of_the_launch(device: Device, how: int, threads: int, message: str):
    with pytest.raises(LaunchError, match=message):
        device.call("run_misused", how, threads)
    device.call("run_misused", 9, 64)


@pytest.mark.parametrize("at", [-1, 3])
def test_a_write_beyond_an_array_is_noticed(device: Device, at: int):
    def overrun() -> None:
        with device.memory():
            address = device.empty(3, np.uint8).ctypes.data
            ctypes.c_ubyte.from_address(address + at).value = 1

    with pytest.raises(AssertionError, match="beyond the ends"):
        overrun()


def test_an_object_is_compiled_once(device: Device):
    texts = {"features/features.cu": (HERE / "features.cu").read_text()}
    first = Build(texts, families=["features"]).library()
    made = Path(first).stat().st_mtime_ns
    assert Build(texts, families=["features"]).library().stat().st_mtime_ns == made
