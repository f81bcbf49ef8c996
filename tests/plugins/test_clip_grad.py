"""Clipping against ``torch.nn.utils`` on the gradients of the same step, and at its borders."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.errors import PluginError

from ..core.helpers import engine_of, plugin, step
from ..models import ConvNet


def gradients_of(*plugins: Any) -> tuple[list[Tensor], dict[str, float]]:
    """The gradients that the optimizer sees in a first step, and what was recorded."""
    seen: list[Tensor] = []

    def adjust_grads(self: Any, model: nn.Module) -> None:
        seen.extend(weight.grad.clone() for weight in model.parameters())

    torch.manual_seed(0)
    engine = engine_of(ConvNet().double(), "fgsm", *plugins, plugin("spy", adjust_grads=adjust_grads))
    step(engine)
    return seen, engine.records()


def clipped(norm: float | None = None, value: float | None = None) -> list[Tensor]:
    """The gradients of a step without clipping, clipped by torch."""
    weights = [nn.Parameter(torch.zeros_like(grad)) for grad in gradients_of()[0]]
    for weight, grad in zip(weights, gradients_of()[0], strict=True):
        weight.grad = grad
    if value is not None:
        nn.utils.clip_grad_value_(weights, value)
    if norm is not None:
        nn.utils.clip_grad_norm_(weights, norm)
    return [weight.grad for weight in weights]


@pytest.mark.parametrize(
    "limits",
    [{"norm": 0.1}, {"norm": 1e6}, {"norm": None, "value": 0.01}, {"norm": 0.05, "value": 0.01}],
    ids=str,
)
def test_the_gradients_are_those_that_torch_clips(limits: dict[str, float | None]):
    actual, _ = gradients_of({"clip_grad": limits})
    for grad, expected in zip(actual, clipped(**limits), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-14, atol=0)


def test_a_gradient_within_its_limits_stays_bit_for_bit_and_its_norm_is_recorded():
    plain, _ = gradients_of()
    actual, records = gradients_of({"clip_grad": {"norm": 1e6, "value": 1e6}})
    assert all(torch.equal(grad, same) for grad, same in zip(actual, plain, strict=True))
    norm = float(torch.cat([grad.flatten() for grad in plain]).norm())
    assert records["clip_grad.norm"] == pytest.approx(norm, rel=1e-14)


def test_no_limit_at_all_is_refused():
    with pytest.raises(PluginError, match="nothing is clipped; give one of them"):
        engine_of(ConvNet(), "fgsm", {"clip_grad": {"norm": None}})
