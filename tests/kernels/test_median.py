"""The median against NumPy's sort and torch.median, over counts, dtypes, layouts and odd values."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress.kernels import median, native, use_backend
from buttress.kernels.reference import medians as reference

COUNTS = [*range(1, 10), 16, 61]
MIDDLES = ["lower", "upper", "mean"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

pytestmark = pytest.mark.usefixtures("backend")


def draw(n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng((seed, n, len(shape)))
    return [torch.from_numpy(rng.normal(size=shape)).to(dtype) for _ in range(n)]


def by_sort(tensors: list[Tensor], even: str) -> Tensor:
    """The same in NumPy: sort along N in float64 (exact for all four dtypes), pick the middle."""
    stack = np.sort(np.stack([tensor.double().contiguous().numpy() for tensor in tensors]), axis=0)
    n = len(stack)
    low, high = stack[(n - 1) // 2], stack[n // 2]
    values = {"lower": low, "upper": high, "mean": (low + high) / 2}[even]
    return torch.from_numpy(np.asarray(values))


@pytest.mark.parametrize("n", COUNTS)
def test_lower_equals_torch_median(n: int):
    tensors = draw(n, (7, 5))
    assert torch.equal(median(tensors), torch.stack(tensors).median(dim=0).values)


@pytest.mark.parametrize("even", MIDDLES)
@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_middle_equals_the_sorted_one(dtype: torch.dtype, n: int, even: str):
    tensors = draw(n, (3, 11), dtype)
    result = median(tensors, even=even)
    assert result.dtype == dtype
    expected = by_sort(tensors, even)
    if even == "mean":
        machine = torch.finfo(dtype).eps
        torch.testing.assert_close(result.double(), expected, rtol=machine, atol=2 * machine)
    else:
        assert torch.equal(result.double(), expected)


@pytest.mark.parametrize("even", MIDDLES)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 16])
def test_ties_give_the_tied_value(n: int, even: str):
    rng = np.random.default_rng(n)
    tensors = [torch.from_numpy(rng.integers(0, 3, size=200).astype(np.float32)) for _ in range(n)]
    assert torch.equal(median(tensors, even=even).double(), by_sort(tensors, even))
    same = [torch.full((4,), 0.1)] * n
    assert torch.equal(median(same, even=even), same[0])


@pytest.mark.parametrize("even", MIDDLES)
def test_two_tensors_give_minimum_maximum_and_mean(even: str):
    a, b = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([3.0, -6.0, 4.0])
    expected = {"lower": [1.0, -6.0, 4.0], "upper": [3.0, -2.0, 4.0], "mean": [2.0, -4.0, 4.0]}[even]
    assert median([a, b], even=even).tolist() == expected


@pytest.mark.parametrize("even", MIDDLES)
@pytest.mark.parametrize(("n", "at"), [(n, at) for n in (1, 2, 3, 4, 7) for at in range(n)])
def test_nan_at_any_position_gives_nan_there_and_only_there(n: int, at: int, even: str):
    tensors = draw(n, (6,))
    clean = by_sort(tensors, even)
    tensors[at] = tensors[at].clone()
    tensors[at][2] = torch.nan
    result = median(tensors, even=even)
    assert torch.isnan(result).tolist() == [False, False, True, False, False, False]
    kept = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(result.double()[kept], clean[kept], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("even", ["lower", "upper"])
@pytest.mark.parametrize(
    "column",
    [[1.0, np.inf, -np.inf], [np.inf, np.inf, 0.0], [-np.inf, 2.0, 1.0, np.inf], [-np.inf, -np.inf, np.inf, np.inf]],
    ids=str,
)
def test_infinities_are_ordered_like_numbers(column: list[float], even: str):
    tensors = [torch.tensor([value]) for value in column]
    ordered = sorted(column)
    middle = (len(column) - 1) // 2 if even == "lower" else len(column) // 2
    assert median(tensors, even=even).item() == ordered[middle]


def test_the_mean_of_a_finite_middle_ignores_infinities_outside():
    tensors = [torch.tensor([value]) for value in (-torch.inf, 1.0, 2.0, torch.inf)]
    assert median(tensors, even="mean").item() == 1.5


@pytest.mark.parametrize(
    ("column", "expected"),
    [([np.inf, np.inf], np.inf), ([-np.inf, -np.inf, -np.inf, 1.0], -np.inf), ([-3e38, 3e38], 0.0)],
    ids=str,
)
def test_the_mean_of_equal_infinities_and_of_huge_values_is_no_nan(column: list[float], expected: float):
    assert median([torch.tensor([value]) for value in column], even="mean").item() == expected


@pytest.mark.parametrize("even", MIDDLES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (1, 1, 1), (13,), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("n", [1, 4])
def test_any_shape_is_kept(n: int, shape: tuple[int, ...], even: str):
    tensors = draw(n, shape)
    result = median(tensors, even=even)
    assert result.shape == shape
    torch.testing.assert_close(result.double(), by_sort(tensors, even), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, 64])
@pytest.mark.parametrize("size", [63, 64, 65, 129])
def test_more_than_one_working_block_gives_the_same(n: int, size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "_BLOCK", 64)
    tensors = draw(n, (size,))
    assert torch.equal(median(tensors).double(), by_sort(tensors, "lower"))


def test_a_block_smaller_than_the_number_of_tensors_works(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "_BLOCK", 2)
    tensors = draw(5, (9,))
    assert torch.equal(median(tensors).double(), by_sort(tensors, "lower"))


def test_real_blocks_are_joined_without_a_seam():
    size = (reference._BLOCK // 3) + 17
    base = torch.arange(size, dtype=torch.float32)
    assert torch.equal(median([base + 2, base, base + 1]), base + 1)


def test_no_working_block_holds_more_elements_than_it_may(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    stack = torch.stack

    def recorded(tensors, *args):
        sizes.append(sum(tensor.numel() for tensor in tensors))
        return stack(tensors, *args)

    monkeypatch.setattr(reference, "_BLOCK", 100)
    monkeypatch.setattr(reference.torch, "stack", recorded)
    with use_backend("torch"):
        median(draw(7, (1000,)))
    assert sum(sizes) == 7000
    assert max(sizes) <= 100


LAYOUTS = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(1, 3).contiguous().transpose(1, 3),
    "strided": lambda t: torch.stack([t, t], -1).flatten(-2)[..., ::2],
    "expanded": lambda t: t[:, :1].expand_as(t),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_the_inputs_does_not_matter(layout: str):
    tensors = [LAYOUTS[layout](tensor) for tensor in draw(5, (2, 3, 4, 5))]
    assert not tensors[0].is_contiguous()
    result = median(tensors)
    assert torch.equal(result.double(), by_sort(tensors, "lower"))
    mixed = [tensors[0], *(tensor.contiguous() for tensor in tensors[1:])]
    assert torch.equal(median(mixed), result)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "strided"])
def test_out_is_filled_and_returned(layout: str):
    tensors = draw(4, (2, 3, 4, 5))
    out = torch.full((2, 3, 4, 5), torch.nan)
    out = LAYOUTS.get(layout, lambda t: t)(out)
    result = median(tensors, even="upper", out=out)
    assert result is out
    assert torch.equal(out.double(), by_sort(tensors, "upper"))


def test_a_slice_as_out_leaves_its_surroundings_alone():
    tensors = draw(3, (4,))
    whole = torch.full((8,), 7.0)
    median(tensors, out=whole[2:6])
    assert torch.equal(whole[2:6].double(), by_sort(tensors, "lower"))
    assert whole[[0, 1, 6, 7]].tolist() == [7.0] * 4


def test_the_inputs_are_left_as_they_are():
    tensors = draw(4, (10,))
    copies = [tensor.clone() for tensor in tensors]
    result = median(tensors, even="mean")
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))
    assert all(result.data_ptr() != tensor.data_ptr() for tensor in tensors)


def test_the_median_of_one_tensor_is_a_copy_of_it():
    (tensor,) = draw(1, (4, 4))
    result = median([tensor])
    assert torch.equal(result, tensor)
    assert result.data_ptr() != tensor.data_ptr()


def test_the_order_of_the_tensors_does_not_matter():
    tensors = draw(6, (30,))
    assert torch.equal(median(tensors, even="upper"), median(tensors[::-1], even="upper"))


# The compiled median


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [*range(1, 131), 193, 256])
def test_every_number_of_tensors(n: int, dtype: torch.dtype):
    tensors = draw(n, (131,), dtype, seed=n)
    tensors[0][:7] = tensors[-1][:7]  # ties
    tensors[n // 2][7:9] = torch.inf
    tensors[n // 3][9:11] = -torch.inf
    assert torch.equal(median(tensors).double(), by_sort(tensors, "lower"))
    assert torch.equal(median(tensors, even="upper").double(), by_sort(tensors, "upper"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 9, 32, 33, 61, 70])
def test_nan_anywhere_gives_nan_there_alone(n: int, dtype: torch.dtype):
    tensors = draw(n, (n + 70,), dtype)
    for position, tensor in enumerate(tensors):
        tensor[position] = torch.nan if position % 2 else -torch.tensor(torch.nan)
    result = median(tensors)
    assert bool(result[:n].isnan().all())
    assert not bool(result[n:].isnan().any())


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 64, 65, 1000, 100_003])
@pytest.mark.parametrize("n", [5, 40])
def test_tails_of_every_length(n: int, size: int):
    tensors = draw(n, (size,))
    assert torch.equal(median(tensors).double(), by_sort(tensors, "lower"))


@pytest.mark.parametrize("size", [2_000, 20_011])
@pytest.mark.parametrize("n", [33, 61, 65, 120, 129, 300])
def test_many_rows_over_many_vectors(n: int, size: int):
    tensors = draw(n, (size,))
    tensors[n // 2][::97] = torch.nan
    tensors[n - 1][1::97] = torch.inf
    actual = median(tensors, out=torch.empty(size + 3)[3:])  # does not begin where a vector would
    expected = torch.stack(tensors).median(dim=0).values
    assert torch.equal(actual.nan_to_num(1e9), expected.nan_to_num(1e9))


@pytest.mark.parametrize("offset", [0, 1])
def test_outputs_larger_than_a_cache(offset: int, backend: str):
    size = (1 << 22) + 5  # 48 MiB of inputs: written past the caches
    base = torch.arange(size, dtype=torch.float32)
    out = torch.zeros(size + 2)
    median([base + 2, base], even="upper", out=out[offset : offset + size])
    assert torch.equal(out[offset : offset + size], base + 2)
    assert out[:offset].tolist() == [0.0] * offset
    assert out[offset + size :].tolist() == [0.0] * (2 - offset)


@pytest.mark.parametrize("level", ["avx512", "avx2", "portable"])
def test_every_instruction_set_gives_the_same(level: str, backend: str, tmp_path: Path):
    if backend == "torch":
        pytest.skip("the compiled operators are compared")
    facts = (native.build_facts() or {})["SIMD"].split(" on this processor")[0]
    if level not in facts.split():
        pytest.skip(f"this processor runs {facts}")
    code = """
import sys, torch
from buttress.kernels import median
results = []
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
    for n in (*range(1, 36), 61, 70, 120, 130, 260):
        generator = torch.Generator().manual_seed(n)
        rows = [torch.randn(300, generator=generator).to(dtype) for _ in range(n)]
        rows[n // 2][::50] = torch.nan
        results += [median(rows, even=even) for even in ("lower", "upper", "mean")]
torch.save(results, sys.argv[1])
"""
    environment = {**os.environ, "BUTTRESS_BACKEND": "native"}
    for name, simd in (("best", ""), ("level", level)):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        subprocess.run(command, check=True, env={**environment, "BUTTRESS_SIMD": simd})
    best, actual = (torch.load(tmp_path / name) for name in ("best", "level"))
    assert len(best) == 4 * 40 * 3
    for a, b in zip(best, actual, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_an_unknown_instruction_set_is_refused(backend: str):
    if backend == "torch":
        pytest.skip("the compiled operators are asked")
    code = "import torch; from buttress.kernels import median; median([torch.zeros(3)])"
    environment = {**os.environ, "BUTTRESS_BACKEND": "native", "BUTTRESS_SIMD": "mmx"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(r"BUTTRESS_SIMD: expected one of .*portable.*, got 'mmx'", done.stderr)


def test_denormals_are_values_like_others():
    tensors = [torch.full((40,), value) for value in (1e-40, 3e-40, 2e-40, -1e-44, 5.0)]
    assert torch.equal(median(tensors), torch.full((40,), 2e-40))


def test_the_result_does_not_depend_on_the_number_of_threads():
    tensors = draw(37, (200_001,))
    threads, actual = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            actual.append(median(tensors))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(actual[0], actual[1])
    assert torch.equal(actual[0], actual[2])


def test_the_operators_pass_torch_s_own_checks(backend: str):
    if backend == "torch":
        pytest.skip("the compiled operators are checked")
    tensors = draw(5, (7, 3))
    torch.library.opcheck(torch.ops.buttress.median.default, (tensors, "lower"))
    torch.library.opcheck(torch.ops.buttress.median_out.default, (tensors, "mean", torch.empty(7, 3)))
    compiled = torch.compile(lambda rows: torch.ops.buttress.median(rows, "lower") * 2, fullgraph=True, backend="eager")
    assert torch.equal(compiled(tensors), 2 * median(tensors))
    with pytest.raises(RuntimeError, match=r"derivative|autograd"):
        torch.ops.buttress.median([tensor.requires_grad_() for tensor in tensors], "lower").sum().backward()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_on_cuda(dtype: torch.dtype):
    for n in (*range(1, 36), 61, 120, 256, 257, 300):
        tensors = draw(n, (4_097,), dtype, seed=n)
        tensors[0][:3], tensors[n // 2][3:6], tensors[n // 3][6:9] = torch.nan, torch.inf, -torch.inf
        there = [tensor.cuda() for tensor in tensors]
        for even in ("lower", "upper"):
            with use_backend("torch"):
                expected = median(tensors, even=even)
            actual = median(there, even=even).cpu()
            assert torch.equal(actual.isnan(), expected.isnan()), n
            assert torch.equal(actual.nan_to_num(), expected.nan_to_num()), n
