"""The backward of a step, which the core takes: its errors name the plugin and the line that raised."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Loss
from buttress.errors import HookError

from ..core.helpers import assert_same, clean_attack, engine_of, perturbation, plugin, step, weights_of
from ..models import MLP


class _Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise ZeroDivisionError("in my backward")


def _overwritten(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
    losses = F.cross_entropy(model(adv.x), batch.y, reduction="none").exp()
    losses.mul_(2)
    return losses


def _raising(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
    return _Raises.apply(F.cross_entropy(model(adv.x), batch.y, reduction="none"))


def _wrapping(self: Any) -> Any:
    loss = yield
    return Loss(_Raises.apply(loss.per_example))


@pytest.mark.parametrize(
    ("members", "wrapper", "message"),
    [
        ({"compute_loss": _overwritten}, False, r"RuntimeError: .*modified by an inplace .*\(test_backward\.py:\d+\)"),
        ({"compute_loss": _raising}, False, r"ZeroDivisionError: in my backward.* \(test_backward\.py:\d+\)"),
        ({"compute_loss": _wrapping}, True, r"in my backward \(test_backward\.py:\d+\); beside it: "),
    ],
)
def test_an_error_in_the_backward_of_the_core_names_the_plugin_and_its_line(members: Any, wrapper: bool, message: str):
    model = MLP()
    engine = engine_of(model, clean_attack(), plugin("mine", wrapper=wrapper, **members), perturbation())
    before = weights_of(model)
    with pytest.raises(HookError, match=r"^plugin 'mine' .*, hook compute_loss, epoch 1, step 1:\n  the gradient "):
        step(engine)
    with pytest.raises(HookError, match=message) as caught:
        step(engine)
    assert len(str(caught.value).splitlines()) == 2
    assert_same(before, weights_of(model))
