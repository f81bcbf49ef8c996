"""The loss-stationary condition against float64 and closed forms: masks, means, gradients, odd values."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from buttress.kernels import lsc_cross_entropy, lsc_mean

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

pytestmark = pytest.mark.usefixtures("backend")


def draw(
    b: int, k: int, *, dtype: torch.dtype = torch.float64, seed: int = 0, scale: float = 2.0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((b, k), generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(0, k, (b,), generator=generator)


def by_hand(logits: Tensor, targets: Tensor, c_min: float, inclusive: bool = True) -> tuple[float, int, Tensor]:
    """Mean, number kept and gradient in float64, example by example."""
    total, kept, gradient = 0.0, 0, torch.zeros(logits.shape, dtype=torch.float64)
    for i, (row, target) in enumerate(zip(logits.double(), targets.tolist(), strict=True)):
        loss = float(torch.logsumexp(row, 0) - row[target])
        if loss < c_min or (inclusive and loss == c_min):
            total, kept = total + loss, kept + 1
            gradient[i] = torch.softmax(row, 0) / len(logits)
            gradient[i, target] -= 1 / len(logits)
    return total / max(len(logits), 1), kept, gradient


def with_gradient(compute: Callable[..., tuple[Tensor, Tensor]], given: Tensor, *rest: object, **kwargs: object):
    """Mean, number kept and gradient."""
    given = given.clone().requires_grad_()
    mean, kept = compute(given, *rest, **kwargs)
    assert kept.dtype == torch.int64
    assert kept.dim() == mean.dim() == 0
    assert mean.dtype == given.dtype
    (gradient,) = torch.autograd.grad(mean, given)
    assert gradient.dtype == given.dtype
    assert gradient.shape == given.shape
    return mean.detach(), int(kept), gradient


# The mean of given losses

LOSSES = torch.tensor([0.0, 0.5, 1.0, 1.5, math.nan, math.inf], dtype=torch.float64)


@pytest.mark.parametrize(
    ("c_min", "inclusive", "total", "count"),
    [(1.0, True, 1.5, 3), (1.0, False, 0.5, 2), (0.0, True, 0.0, 1), (0.0, False, 0.0, 0), (2.0, True, 3.0, 4)],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_mean_is_over_the_whole_batch(dtype: torch.dtype, c_min: float, inclusive: bool, total: float, count: int):
    mean, kept, gradient = with_gradient(lsc_mean, LOSSES.to(dtype), c_min, inclusive=inclusive)
    assert float(mean) == pytest.approx(total / 6, rel=float(torch.finfo(dtype).eps))
    assert kept == count
    share = float(torch.tensor(1 / 6).to(dtype)) if dtype != torch.float64 else 1 / 6
    keeps = [loss <= c_min if inclusive else loss < c_min for loss in LOSSES.tolist()]
    assert gradient.tolist() == [share if keep else 0.0 for keep in keeps]


def test_no_bound_keeps_all_but_nan():
    mean, kept = lsc_mean(torch.tensor([1.0, math.nan, 3.0]), math.inf)
    assert (float(mean), int(kept)) == (pytest.approx(4 / 3), 2)


def test_half_losses_are_compared_in_float32():
    losses = torch.full((2,), 1.7).half()  # 1.7002
    assert int(lsc_mean(losses, 1.7)[1]) == 0
    assert int(lsc_mean(losses, float(losses[0]))[1]) == 2


def test_the_sum_of_many_small_half_losses_does_not_stall():
    mean, kept = lsc_mean(torch.full((10_000,), 0.1).half(), 1.0)
    assert int(kept) == 10_000
    assert float(mean) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_has_the_mean_zero(dtype: torch.dtype):
    mean, kept, gradient = with_gradient(lsc_mean, torch.zeros(0, dtype=dtype), 1.0)
    assert (float(mean), kept, len(gradient)) == (0.0, 0, 0)
    mean, kept, _ = with_gradient(lsc_cross_entropy, torch.zeros(0, 5, dtype=dtype), torch.zeros(0).long(), 1.0)
    assert (float(mean), kept) == (0.0, 0)


def test_strided_losses_and_logits_are_taken_as_they_are_seen():
    losses = torch.rand(6, 2)[:, 1]
    mean, kept, gradient = with_gradient(lsc_mean, losses, 0.5)
    assert kept == int((losses <= 0.5).sum())
    assert torch.equal(gradient > 0, losses <= 0.5)
    logits, targets = draw(6, 4)
    for seen in (logits.T.contiguous().T, torch.stack([logits, logits], -1)[..., 0]):
        mean, kept, gradient = with_gradient(lsc_cross_entropy, seen, targets, 2.0)
        expected = by_hand(logits, targets, 2.0)
        assert float(mean) == pytest.approx(expected[0], rel=1e-14)
        torch.testing.assert_close(gradient, expected[2], rtol=1e-13, atol=1e-15)
    both = torch.stack([targets, targets], -1)
    assert int(lsc_cross_entropy(logits, both[:, 1], 2.0)[1]) == kept


# The cross-entropy


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(("b", "k"), [(1, 1), (1, 7), (5, 2), (128, 10), (67, 31), (64, 32), (33, 100), (9, 5000)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean_count_and_gradient_are_those_of_float64(dtype: torch.dtype, b: int, k: int, inclusive: bool):
    logits, targets = draw(b, k, dtype=dtype, seed=b * k)
    c_min = math.log(k) + 0.123  # about half of the examples
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, c_min, inclusive=inclusive)
    expected_mean, expected_kept, expected = by_hand(logits, targets, c_min, inclusive)
    assert kept == expected_kept
    # Two roundings to the dtype, and the float32 arithmetic of the halves before them.
    slack = 2 * float(torch.finfo(dtype).eps) + (0 if dtype == torch.float64 else 1e-6)
    assert float(mean) == pytest.approx(expected_mean, rel=slack, abs=slack)
    torch.testing.assert_close(gradient.double(), expected, rtol=slack, atol=slack / b)


def test_the_gradient_errs_no_more_than_twice_what_torch_s_does():
    logits, targets = draw(512, 100, dtype=torch.float32, seed=3)
    _, _, exact = by_hand(logits, targets, math.inf)
    _, _, gradient = with_gradient(lsc_cross_entropy, logits, targets, math.inf)
    plain = logits.clone().requires_grad_()
    (torch_s,) = torch.autograd.grad(F.cross_entropy(plain, targets), plain)
    assert float((gradient - exact).abs().max()) <= 2 * float((torch_s - exact).abs().max())


def test_the_kept_number_changes_from_step_to_step_and_the_divisor_does_not():
    logits, targets = draw(40, 5, seed=1)
    counts = []
    for step in range(6):
        c_min = 1.2
        mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, c_min)
        expected = by_hand(logits, targets, c_min)
        assert (float(mean), kept) == (pytest.approx(expected[0], rel=1e-13), expected[1])
        torch.testing.assert_close(gradient, expected[2], rtol=1e-12, atol=1e-15)
        counts.append(kept)
        logits = logits + 20.0 * gradient  # ascent, as RWP's
        assert step == 0 or kept <= counts[0]
    assert len(set(counts)) > 1


@pytest.mark.parametrize("k", [2, 4, 8, 64])
def test_equality_is_kept_only_if_inclusive(k: int):
    logits, targets = torch.zeros(6, k, dtype=torch.float64), torch.zeros(6).long()
    equal = float(F.cross_entropy(logits, targets))  # log k
    assert int(lsc_cross_entropy(logits, targets, equal)[1]) == 6
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, equal, inclusive=False)
    assert (float(mean), kept, float(gradient.abs().max())) == (0.0, 0, 0.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_kept_is_a_mean_and_a_gradient_of_zero(dtype: torch.dtype):
    logits, targets = draw(7, 3, dtype=dtype)
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, -1.0)
    assert (float(mean), kept, float(gradient.abs().max())) == (0.0, 0, 0.0)
    mean, kept, gradient = with_gradient(lsc_mean, torch.rand(7, dtype=dtype), -1.0)
    assert (float(mean), kept, float(gradient.abs().max())) == (0.0, 0, 0.0)


def test_one_class_has_no_loss():
    mean, kept, gradient = with_gradient(lsc_cross_entropy, torch.randn(5, 1), torch.zeros(5).long(), 0.0)
    assert (float(mean), kept, float(gradient.abs().max())) == (0.0, 5, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_of_ten_thousand_are_as_good_as_small_ones(dtype: torch.dtype):
    base, targets = torch.tensor([[0.0, -1e4, 1e4], [1e4, 1e4, -1e4], [-1e4, 0.0, 0.0]]), torch.tensor([2, 0, 1])
    mean, kept, gradient = with_gradient(lsc_cross_entropy, base.to(dtype), targets, 1.0)
    slack = float(torch.finfo(dtype).eps)
    assert kept == 3
    assert float(mean) == pytest.approx(2 * math.log(2) / 3, rel=slack)
    expected = torch.tensor([[0.0, 0.0, 0.0], [-0.5, 0.5, 0.0], [0.0, -0.5, 0.5]], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient.double(), expected, rtol=slack, atol=0)


def test_small_differences_of_huge_logits_keep_their_precision():
    logits = torch.tensor([[16384.0, 16384.5, 16385.0]])
    near = logits - 16384.0
    for actual, expected in zip(
        with_gradient(lsc_cross_entropy, logits, torch.tensor([1]), 9.0),
        with_gradient(lsc_cross_entropy, near, torch.tensor([1]), 9.0),
        strict=True,
    ):
        torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=1e-6, atol=0)


def test_a_class_that_is_ruled_out_has_no_part():
    logits = torch.tensor([[1.0, -math.inf, 0.0]])
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, torch.tensor([0]), 9.0)
    assert float(mean) == pytest.approx(math.log1p(math.exp(-1.0)), rel=1e-6)
    assert kept == 1
    assert float(gradient[0, 1]) == 0.0
    assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-7)


def test_a_target_that_is_ruled_out_has_an_infinite_loss():
    logits, targets = torch.tensor([[1.0, -math.inf], [0.0, 0.0]]), torch.tensor([1, 0])
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, 9.0)
    assert (float(mean), kept) == (pytest.approx(math.log(2) / 2), 1)
    assert gradient[0].tolist() == [0.0, 0.0]
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits, targets, math.inf)
    assert (float(mean), kept) == (math.inf, 2)
    assert gradient[0].tolist() == [0.5, -0.5]
    assert int(lsc_cross_entropy(logits, targets, math.inf, inclusive=False)[1]) == 1


@pytest.mark.parametrize("k", [3, 40])
@pytest.mark.parametrize("value", [math.nan, math.inf, "all -inf"], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_loss_that_is_no_number_is_not_kept_and_has_no_gradient(dtype: torch.dtype, value: float | str, k: int):
    logits, targets = draw(4, k, dtype=dtype, seed=5)
    expected = by_hand(logits, targets, math.inf)
    own = float(torch.logsumexp(logits[2].double(), 0) - logits[2, targets[2]].double())
    for column in (0, k // 2, k - 1):
        odd = logits.clone()
        if isinstance(value, str):
            odd[2] = -math.inf
        else:
            odd[2, column] = value
        mean, kept, gradient = with_gradient(lsc_cross_entropy, odd, targets, math.inf)
        assert kept == 3
        assert float(mean) == pytest.approx(expected[0] - own / 4, rel=1e-2 if dtype.itemsize == 2 else 1e-5)
        assert float(gradient[2].abs().max()) == 0.0
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("inclusive", [True, False])
def test_both_ways_to_the_masked_mean_agree(inclusive: bool):
    logits, targets = draw(50, 7, seed=8)
    ways = (
        lambda z: lsc_cross_entropy(z, targets, 1.7, inclusive=inclusive),
        lambda z: lsc_mean(F.cross_entropy(z, targets, reduction="none"), 1.7, inclusive=inclusive),
    )
    fused, separate = (with_gradient(way, logits) for way in ways)
    assert fused[1] == separate[1]
    torch.testing.assert_close(fused[0], separate[0], rtol=1e-14, atol=0)
    torch.testing.assert_close(fused[2], separate[2], rtol=1e-12, atol=1e-16)


# Autograd


def test_gradients_are_those_of_finite_differences():
    logits, targets = draw(9, 4, seed=2)
    losses = torch.rand(9, dtype=torch.float64)
    for c_min in (1.0, math.inf, -1.0):
        assert torch.autograd.gradcheck(
            lambda z, c=c_min: lsc_cross_entropy(z, targets, c)[0] * 3, logits.requires_grad_()
        )
        assert torch.autograd.gradcheck(lambda v, c=c_min: lsc_mean(v, c / 2)[0] * 3, losses.requires_grad_())


def test_the_gradient_that_arrives_scales_the_one_that_leaves():
    logits, targets = draw(5, 3)
    logits.requires_grad_()
    mean, _ = lsc_cross_entropy(logits, targets, 2.0)
    (once,) = torch.autograd.grad(mean, logits, retain_graph=True)
    (again,) = torch.autograd.grad(mean, logits, torch.tensor(-2.5, dtype=torch.float64), retain_graph=True)
    torch.testing.assert_close(again, -2.5 * once)
    (infinite,) = torch.autograd.grad(mean, logits, torch.tensor(math.inf, dtype=torch.float64))
    assert bool((infinite[once == 0] == 0).all())


def test_an_unused_mean_and_no_grad_leave_nothing_behind():
    logits, targets = draw(5, 3)
    with torch.no_grad():
        mean, kept = lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    assert not mean.requires_grad
    assert not kept.requires_grad
    assert not lsc_cross_entropy(logits, targets, 2.0)[1].requires_grad
    assert not lsc_mean(logits[:, 0], 2.0)[1].requires_grad


# Bad input


@pytest.mark.parametrize("wrong", [10, -1, -100, 2**40, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("b", [7, 3000])
def test_the_first_target_that_is_no_class_is_named(b: int, wrong: int):
    logits, targets = draw(b, 10)
    targets[[b // 2, b - 1]] = wrong
    message = rf"^lsc_cross_entropy: targets\[{b // 2}\] is {wrong}, expected a class from 0 to 9$"
    with pytest.raises(ValueError, match=message):
        lsc_cross_entropy(logits, targets, 1.0)


# The compiled operators


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch 2.15, in its checks
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_operators_pass_torch_s_own_checks(dtype: torch.dtype):
    logits, targets = draw(9, 4, dtype=dtype)
    losses = torch.rand(9, dtype=dtype)
    ops, check = torch.ops.buttress, torch.library.opcheck
    for needed in (False, True):
        check(ops.lsc_mean.default, (losses.clone().requires_grad_(needed), 0.5, True))
        check(ops.lsc_cross_entropy.default, (logits.clone().requires_grad_(needed), targets, 1.2, False))
    gradient = ops.lsc_cross_entropy_gradient(logits, targets, 1.2, False)[2]
    share = torch.ones((), dtype=dtype)
    check(ops.lsc_mean_backward.default, (share, losses, 0.5, True))
    check(ops.lsc_cross_entropy_gradient.default, (logits, targets, 1.2, False))
    check(ops.lsc_scale.default, (gradient, share))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_a_whole_compiled_graph_holds_them(compiler: str):
    logits, targets = draw(9, 4)

    def loss(z: Tensor) -> Tensor:
        mean, kept = torch.ops.buttress.lsc_cross_entropy(z * 2, targets, 1.2, True)
        other, _ = torch.ops.buttress.lsc_mean(z.square().sum(1), 9.0, True)
        return mean + other * kept

    actual = []
    for compute in (loss, torch.compile(loss, fullgraph=True, backend=compiler)):
        z = logits.clone().requires_grad_()
        value = compute(z)
        value.backward()
        actual.append((value.detach(), z.grad))
    torch.testing.assert_close(actual[0], actual[1])


@pytest.mark.usefixtures("compiled")
def test_a_second_derivative_raises():
    logits, targets = draw(5, 3)
    logits.requires_grad_()
    for mean, what in (
        (lsc_cross_entropy(logits, targets, 2.0)[0], "cross_entropy"),
        (lsc_mean(logits[:, 0], 2.0)[0], "mean"),
    ):
        (gradient,) = torch.autograd.grad(mean, logits, create_graph=True)
        message = f"lsc_{what}: the compiled operator has no second derivative; use backend torch"
        with pytest.raises(RuntimeError, match=message):
            gradient.sum().backward()


@pytest.mark.usefixtures("compiled")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own, of its forward mode
def test_a_forward_mode_derivative_raises():
    logits, targets = draw(5, 3)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, logits)
        with pytest.raises(NotImplementedError, match=r"lsc_cross_entropy: .* no forward-mode derivative"):
            lsc_cross_entropy(dual, targets, 2.0)
        with pytest.raises(NotImplementedError, match=r"lsc_mean: .* no forward-mode derivative"):
            lsc_mean(dual[:, 0], 2.0)


def test_functional_autograd_finds_the_gradient():
    logits, targets = draw(5, 3)
    _, kept, expected = by_hand(logits, targets, 1.2)
    assert 0 < kept < 5
    torch.testing.assert_close(torch.func.grad(lambda z: lsc_cross_entropy(z, targets, 1.2)[0])(logits), expected)


@pytest.mark.usefixtures("compiled")
def test_compiled_autograd_finds_the_gradient():
    logits, targets = draw(5, 3)
    z, losses = logits.clone().requires_grad_(), torch.rand(5).requires_grad_()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        (lsc_cross_entropy(z, targets, 1.2)[0] + lsc_mean(losses, 0.5)[0]).backward()
    torch.testing.assert_close(z.grad, by_hand(logits, targets, 1.2)[2])
    assert torch.equal(losses.grad, torch.where(losses <= 0.5, 0.2, 0.0))


@pytest.mark.parametrize(("b", "k"), [(20_011, 10), (300, 1000), (5, 70_000)])
def test_the_result_does_not_depend_on_the_number_of_threads(b: int, k: int, backend: str):
    if backend == "torch":
        pytest.skip("torch's own sums do")
    logits, targets = draw(b, k, dtype=torch.float32)
    threads, actual = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            actual.append(with_gradient(lsc_cross_entropy, logits, targets, math.log(k) + 2))
    finally:
        torch.set_num_threads(threads)
    assert 0 < actual[0][1] < b
    for other in actual[1:]:
        assert torch.equal(actual[0][0], other[0])
        assert actual[0][1] == other[1]
        assert torch.equal(actual[0][2], other[2])


@pytest.mark.cuda
@pytest.mark.parametrize(("b", "k"), [(0, 4), (1, 1), (128, 10), (1000, 100), (3, 5000)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_on_cuda(dtype: torch.dtype, b: int, k: int):
    logits, targets = draw(b, k, dtype=dtype)
    if b > 2:
        logits[1] = math.nan
    c_min = math.log(k) + 0.123
    there = with_gradient(lsc_cross_entropy, logits.cuda(), targets.cuda(), c_min)
    here = by_hand(logits, targets, c_min)
    slack = 2 * float(torch.finfo(dtype).eps) + (0 if dtype == torch.float64 else 1e-6)
    assert there[1] == here[1]
    assert float(there[0]) == pytest.approx(here[0], rel=slack, abs=slack)
    torch.testing.assert_close(there[2].double().cpu(), here[2], rtol=slack, atol=slack)
    losses = torch.rand(b, dtype=dtype)
    for actual, expected in zip(
        with_gradient(lsc_mean, losses.cuda(), 0.5), with_gradient(lsc_mean, losses, 0.5), strict=True
    ):
        torch.testing.assert_close(torch.as_tensor(actual).cpu(), torch.as_tensor(expected))


@pytest.mark.cuda
@pytest.mark.usefixtures("compiled")
def test_a_target_that_is_no_class_makes_the_mean_nan_on_cuda():
    logits, targets = draw(6, 4)
    targets[2] = 4
    mean, kept, gradient = with_gradient(lsc_cross_entropy, logits.cuda(), targets.cuda(), math.inf)
    assert bool(mean.isnan())
    assert kept == 5
    assert gradient.isnan().any(1).tolist() == [False, False, True, False, False, False]


@pytest.mark.usefixtures("compiled")
def test_the_backward_of_cuda_reads_the_logits_again():
    with FakeTensorMode():
        logits = torch.empty(5, 3, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        mean, _ = lsc_cross_entropy(logits, torch.zeros(5, device="cuda").long(), 2.0)
        gradient = mean.grad_fn(torch.ones((), device="cuda", dtype=torch.bfloat16))
    assert mean.grad_fn.name() == "LscCrossEntropyRowsBackward"
    assert (gradient.shape, gradient.dtype, gradient.device.type) == ((5, 3), torch.bfloat16, "cuda")


@pytest.mark.cuda
@pytest.mark.usefixtures("compiled")
def test_logits_that_were_changed_in_place_are_noticed_on_cuda():
    leaf, targets = (each.cuda() for each in draw(5, 3))
    logits = leaf.requires_grad_() * 1.0
    mean, _ = lsc_cross_entropy(logits, targets, 2.0)
    logits.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        mean.backward()


@pytest.mark.cuda
@pytest.mark.usefixtures("compiled")
def test_rows_of_another_batch_are_refused_on_cuda():
    logits, targets = (each.cuda() for each in draw(5, 3))
    backward = torch.ops.buttress.lsc_cross_entropy_backward
    for rows in (torch.zeros(4, 2).double(), torch.zeros(5, 2), torch.zeros(2, 5).double().T):
        with pytest.raises(ValueError, match="the rows that lsc_cross_entropy gave"):
            backward(torch.ones(()).double().cuda(), logits, targets, rows.cuda())
