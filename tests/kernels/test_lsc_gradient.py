"""The gradient of ``lsc_cross_entropy`` that the forward makes on the CPU: who owns it, changes it and sees it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from buttress.kernels import lsc_cross_entropy

from .test_lsc import DTYPES, by_hand, draw

pytestmark = pytest.mark.usefixtures("backend")


class Calls(TorchDispatchMode):
    """Records the operators that are called, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(operator.name())
        return operator(*args, **(kwargs or {}))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_that_are_changed_after_the_forward_have_the_gradient_of_the_old_ones(dtype: torch.dtype):
    leaf, targets = draw(5, 3, dtype=dtype)
    _, _, expected = by_hand(leaf, targets, 2.0)
    logits = leaf.requires_grad_() * 1.0
    mean, _ = lsc_cross_entropy(logits, targets, 2.0)
    logits.mul_(2.0)
    mean.backward()
    slack = 2 * float(torch.finfo(dtype).eps)
    torch.testing.assert_close(leaf.grad.double(), expected, rtol=slack, atol=slack)
    assert not torch.equal(logits, leaf)


@pytest.mark.parametrize("incoming", [1.0, -2.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gradient_that_was_changed_does_not_reach_a_second_backward(dtype: torch.dtype, incoming: float):
    logits, targets = draw(5, 3, dtype=dtype)
    _, _, expected = by_hand(logits, targets, 2.0)
    mean, _ = lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    grad = torch.tensor(incoming, dtype=dtype)
    slack = 3 * float(torch.finfo(dtype).eps) * abs(incoming)
    for retain in (True, True, False):
        (gradient,) = torch.autograd.grad(mean, logits, grad, retain_graph=retain)
        torch.testing.assert_close(gradient.double(), incoming * expected, rtol=slack, atol=slack)
        gradient.fill_(7.0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(mean, logits, grad)
    assert gradient.tolist() == [[7.0] * 3] * 5


@pytest.mark.parametrize("incoming", [1.0, 3.0])
def test_logits_that_are_used_twice_get_the_sum(incoming: float):
    logits, targets = draw(6, 4)
    _, _, expected = by_hand(logits, targets, 1.5)
    logits.requires_grad_()
    first, _ = lsc_cross_entropy(logits, targets, 1.5)
    second, _ = lsc_cross_entropy(logits, targets, math.inf)
    logits.grad = torch.full_like(logits, 0.5)
    (incoming * first + second).backward()
    whole = by_hand(logits.detach(), targets, math.inf)[2]
    torch.testing.assert_close(logits.grad, 0.5 + incoming * expected + whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("incoming", [1.0, 2.0])
def test_saved_tensors_of_hooks_stay_as_they_are(incoming: float):
    logits, targets = draw(5, 3)
    _, _, expected = by_hand(logits, targets, 2.0)
    saved: list[tuple[Tensor, Tensor]] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append((tensor, tensor.clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mean, _ = lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    (gradient,) = torch.autograd.grad(mean, logits, torch.tensor(incoming, dtype=torch.float64))
    torch.testing.assert_close(gradient, incoming * expected, rtol=1e-12, atol=1e-15)
    gradient.fill_(7.0)
    assert len(saved) > 0
    assert all(torch.equal(*pair) for pair in saved)


def test_a_forward_that_is_computed_again_in_the_backward_has_the_same_gradient():
    logits, targets = draw(5, 3)
    _, _, expected = by_hand(logits, targets, 2.0)
    logits.requires_grad_()
    mean = checkpoint(lambda z: lsc_cross_entropy(z, targets, 2.0)[0], logits, use_reentrant=False)
    (gradient,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("compiled")
def test_a_backward_that_is_the_last_hands_the_gradient_out():
    logits, targets = draw(64, 10, dtype=torch.float32)
    mean, _ = lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    with torch.autograd.profiler.profile() as profile:
        mean.backward(torch.ones(()))
    called = {event.name for event in profile.function_events}
    assert any("LscCrossEntropyBackward" in name for name in called)
    assert not any("lsc_scale" in name for name in called)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("incoming", [1.0, 2.0])
def test_a_mode_sees_the_multiplication(incoming: float):
    logits, targets = draw(5, 3)
    _, _, expected = by_hand(logits, targets, 2.0)
    mean, _ = lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    with Calls() as calls:
        (gradient,) = torch.autograd.grad(mean, logits, torch.tensor(incoming, dtype=torch.float64))
    assert "buttress::lsc_scale" in calls.names
    torch.testing.assert_close(gradient, incoming * expected, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("compiled")
def test_no_gradient_is_made_where_none_is_needed():
    logits, targets = draw(5, 3)
    with Calls() as calls:
        lsc_cross_entropy(logits, targets, 2.0)
        with torch.no_grad():
            lsc_cross_entropy(logits.clone().requires_grad_(), targets, 2.0)
        assert "buttress::lsc_cross_entropy_gradient" not in calls.names
        lsc_cross_entropy(logits.requires_grad_(), targets, 2.0)
    assert "buttress::lsc_cross_entropy_gradient" in calls.names


@pytest.mark.usefixtures("compiled")
def test_a_gradient_of_another_kind_is_not_scaled():
    one = torch.ones((), dtype=torch.float64)
    for gradient in (torch.zeros(4).double(), torch.zeros(4, 2).half(), torch.zeros(4, 2)):
        with pytest.raises(ValueError, match=r"^lsc_scale: grad"):
            torch.ops.buttress.lsc_scale(gradient, one)


@pytest.mark.usefixtures("compiled")
def test_second_derivatives_raise_through_every_door():
    logits, targets = draw(5, 3)

    def loss(z: Tensor) -> Tensor:
        return lsc_cross_entropy(z, targets, 2.0)[0]

    message = "lsc_cross_entropy: the compiled operator has no second derivative; use backend torch"
    with pytest.raises(RuntimeError, match=message):
        torch.func.grad(lambda z: torch.func.grad(loss)(z).square().sum())(logits)
    z = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z), z, create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(gradient.square().sum(), z)
    gradient = torch.ops.buttress.lsc_cross_entropy_gradient(z, targets, 2.0, True)[2]
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(gradient.sum(), z)
