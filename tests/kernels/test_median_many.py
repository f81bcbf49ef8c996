"""The median of a whole network against that of its tensors, one by one, in NumPy."""

import pytest
import torch
from torch import Tensor

from buttress.kernels import median_many

from .test_median import DTYPES, MIDDLES, by_sort, draw

SHAPES = [(3, 4), (), (0, 5), (40_000,), (1,), (2, 3, 4, 5)]


pytestmark = pytest.mark.usefixtures("backend")


def network(n: int, dtypes: list[torch.dtype]) -> list[list[Tensor]]:
    """N versions of tensors of all shapes; dtypes take turns."""
    return [draw(n, shape, dtypes[k % len(dtypes)], seed=k) for k, shape in enumerate(SHAPES)]


def assert_medians(actual: list[Tensor], lists: list[list[Tensor]], even: str) -> None:
    assert len(actual) == len(lists)
    for result, versions in zip(actual, lists, strict=True):
        assert (result.shape, result.dtype) == (versions[0].shape, versions[0].dtype)
        expected = by_sort(versions, even)
        if even == "mean":
            machine = torch.finfo(result.dtype).eps
            torch.testing.assert_close(result.double(), expected, rtol=machine, atol=2 * machine)
        else:
            assert torch.equal(result.double(), expected)


@pytest.mark.parametrize("even", MIDDLES)
@pytest.mark.parametrize("n", [1, 2, 3, 16, 33, 61, 130])
def test_every_tensor_gets_its_own_median(n: int, even: str):
    lists = network(n, [torch.float32])
    assert_medians(median_many(lists, even=even), lists, even)


@pytest.mark.parametrize("even", MIDDLES)
def test_dtypes_may_differ_between_tensors(even: str):
    lists = network(6, DTYPES)
    assert_medians(median_many(lists, even=even), lists, even)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_all_elements_and_change_nothing(threads: int):
    lists = [draw(5, (size,), seed=k) for k, size in enumerate([70_001, 3, 1, 33_333, 0, 90_000])]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_medians(median_many(lists), lists, "lower")
    finally:
        torch.set_num_threads(before)


def test_nan_stays_where_it_is():
    lists = network(7, [torch.float32])
    lists[3][2][39_999] = torch.nan
    lists[1][0].fill_(torch.nan)
    actual = median_many(lists)
    assert [int(result.isnan().sum()) for result in actual] == [0, 1, 0, 1, 0, 0]
    assert bool(actual[3][39_999].isnan())


def test_layouts_may_differ():
    lists = [
        [tensor.contiguous(memory_format=torch.channels_last) for tensor in draw(3, (2, 3, 4, 5))],
        [tensor.T for tensor in draw(3, (4, 6), seed=1)],
        [torch.stack([tensor, tensor], -1)[..., 0] for tensor in draw(3, (9,), seed=2)],
    ]
    assert_medians(median_many(lists), lists, "lower")


def test_out_is_filled_and_returned():
    lists = network(4, DTYPES)
    out = [torch.full_like(versions[0], 7) for versions in lists]
    out[3] = torch.full((2 * len(out[3]),), 7, dtype=out[3].dtype)[::2]  # not dense
    actual = median_many(lists, even="upper", out=out)
    assert all(a is b for a, b in zip(actual, out, strict=True))
    assert_medians(out, lists, "upper")


def test_no_lists_give_no_tensors():
    assert median_many([]) == []


def test_the_operators_pass_torch_s_own_checks(backend: str):
    if backend == "torch":
        pytest.skip("the compiled operators are checked")
    flat = [*draw(3, (7, 3)), *draw(3, (5,), torch.bfloat16)]
    torch.library.opcheck(torch.ops.buttress.median_many.default, (flat, 3, "lower"))
    out = [torch.empty(7, 3), torch.empty(5, dtype=torch.bfloat16)]
    torch.library.opcheck(torch.ops.buttress.median_many_out.default, (flat, 3, "mean", out))
    compiled = torch.compile(
        lambda rows: [2 * row for row in torch.ops.buttress.median_many(rows, 3, "lower")],
        fullgraph=True, backend="eager",
    )  # fmt: skip
    assert all(torch.equal(a, 2 * b) for a, b in zip(compiled(flat), median_many([flat[:3], flat[3:]]), strict=True))
    with pytest.raises(ValueError, match="expected a multiple of n = 4 tensors, got 6"):
        torch.ops.buttress.median_many(flat, 4, "lower")
    needing = [tensor.requires_grad_() for tensor in flat]
    with pytest.raises(RuntimeError, match=r"derivative|autograd"):
        torch.ops.buttress.median_many(needing, 3, "lower")[0].sum().backward()


@pytest.mark.cuda
@pytest.mark.parametrize("even", MIDDLES)
def test_the_same_on_cuda(even: str):
    for n in (1, 2, 5, 31, 32, 33, 61, 300):
        lists = network(n, DTYPES)
        there = [[tensor.cuda() for tensor in versions] for versions in lists]
        assert_medians([result.cpu() for result in median_many(there, even=even)], lists, even)
