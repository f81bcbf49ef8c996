"""The form of a config's optimizer: fused where torch has it, unless the config chooses; an older run keeps its own."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from buttress.errors import ConfigError
from buttress.training.optimizer import load_optimizer_state

from .optimizers import configured

MOMENTUM = {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


def optimizer_of(settings: dict[str, Any], weights: Iterable[nn.Parameter]) -> Optimizer:
    return configured(settings).factory([{"params": list(weights)}])


def weight(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.ones(3, dtype=dtype))


def form(optimizer: Optimizer) -> tuple[bool | None, bool | None]:
    (group,) = optimizer.param_groups
    return group.get("fused"), group.get("foreach")


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_optimizer_is_fused_where_torch_has_it(name: str, dtype: torch.dtype):
    assert form(optimizer_of({"name": name}, [weight(dtype)])) == (True, None)


@pytest.mark.parametrize("name", ["rmsprop", "adadelta", "nadam"])
def test_others_have_the_form_that_torch_chooses(name: str):
    assert form(optimizer_of({"name": name}, [weight()])) == (None, None)


@pytest.mark.parametrize(
    "chosen", [{"fused": False}, {"fused": True}, {"fused": None}, {"foreach": True}, {"foreach": False}], ids=str
)
def test_a_form_that_the_config_chooses_is_used(chosen: dict[str, Any]):
    wanted = {"fused": None, "foreach": None, **chosen}
    assert form(optimizer_of({**MOMENTUM, **chosen}, [weight()])) == (wanted["fused"], wanted["foreach"])


@pytest.mark.parametrize("dtypes", [[torch.bfloat16], [torch.float32, torch.float16]], ids=str)
def test_half_precision_weights_have_a_plain_step(dtypes: list[torch.dtype]):
    assert form(optimizer_of(MOMENTUM, map(weight, dtypes))) == (None, None)


def test_a_fused_step_that_would_not_train_is_refused():
    """torch issue 191763: fused SGD leaves full vectors of half precision as they are."""
    unmoved = torch.optim.SGD([still := nn.Parameter(torch.zeros(64, dtype=torch.bfloat16))], lr=1.0, fused=True)
    still.grad = torch.ones_like(still)
    unmoved.step()
    if still.all():
        pytest.skip(f"torch {torch.__version__} has no such fault")
    with pytest.raises(ConfigError, match=r"optimizer.fused: torch .* leaves weights of torch.bfloat16 as they are"):
        optimizer_of({**MOMENTUM, "fused": True}, [weight(torch.bfloat16)])
    assert form(optimizer_of({"name": "adam", "fused": True}, [weight(torch.bfloat16)])) == (True, None)


@pytest.mark.parametrize("saved", [None, False, True])
@pytest.mark.parametrize("own", [None, True])
def test_a_resumed_run_keeps_the_form_in_which_it_began(saved: bool | None, own: bool | None):
    """A run of an older version was not fused; one that begins fused may go on where torch cannot."""
    state = optimizer_of({**MOMENTUM, "fused": saved}, [weight()]).state_dict()
    optimizer = optimizer_of({**MOMENTUM, "fused": own}, [weight()])
    load_optimizer_state(optimizer, state)
    assert optimizer.param_groups[0]["fused"] is (own if saved else saved)
