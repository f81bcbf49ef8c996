"""A fused optimizer gives the numbers of its plain form, whatever the layouts of weights, gradients and state."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from buttress import Context, Engine
from buttress.engine.fused import take_step

from ..core.helpers import LINF, batch_of, plugin
from ..models import ConvNet

Make = Callable[..., Optimizer]

STEPS = 4
OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9, dampening=0.25, weight_decay=0.01),
    "nesterov": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": partial(Adam, lr=0.01, weight_decay=0.1),
    "AdamW": partial(AdamW, lr=0.01, amsgrad=True),
    "Adagrad": partial(Adagrad, lr=0.1),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def gradients(like: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(like.shape, generator=generator, dtype=like.dtype) for _ in range(STEPS)]


def stepped(make: Make, values: Tensor, grads: Sequence[Tensor | None], **form: Any) -> Tensor:
    """A weight that begins in the memory of ``values``, after one step for each gradient, beside a bias."""
    weight, bias = nn.Parameter(values.clone()), nn.Parameter(torch.ones(3, dtype=values.dtype))
    assert weight.stride() == values.stride()
    optimizer = make([weight, bias], **form)
    for grad in grads:
        weight.grad, bias.grad = grad, torch.ones_like(bias)
        take_step(optimizer)
        optimizer.load_state_dict(contiguous(optimizer.state_dict()))  # as a checkpoint keeps it
    return weight.detach()


def contiguous(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: contiguous(value) for key, value in tree.items()}
    return tree.contiguous() if isinstance(tree, Tensor) else tree


@every_optimizer
@pytest.mark.parametrize("layouts", list(product(LAYOUTS, LAYOUTS)), ids=" and ".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_layouts_of_weight_gradient_and_state_do_not_matter(make: Make, layouts: tuple[str, str], dtype: torch.dtype):
    of_weight, of_grads = (LAYOUTS[name] for name in layouts)
    values = torch.linspace(-1, 1, 6 * 5 * 3 * 3, dtype=dtype).view(6, 5, 3, 3).contiguous(memory_format=of_weight)
    grads = [grad.contiguous(memory_format=of_grads) for grad in gradients(values)]
    plain, fused = (stepped(make, values, grads, **form) for form in ({"foreach": False}, {"fused": True}))
    accuracy = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(fused, plain, rtol=accuracy, atol=accuracy)
    assert fused.stride() == values.stride()


@every_optimizer
def test_a_weight_whose_elements_lie_apart_is_updated_and_its_neighbours_are_not(make: Make):
    results = {}
    for form in ("foreach", "fused"):
        memory = torch.linspace(-1, 1, 48, dtype=torch.float64).view(6, 8)
        weight = nn.Parameter(memory[:, ::2])
        optimizer = make([weight], **{form: form == "fused"})
        for grad in gradients(weight):
            weight.grad = grad
            take_step(optimizer)
        assert torch.equal(memory[:, 1::2], torch.linspace(-1, 1, 48, dtype=torch.float64).view(6, 8)[:, 1::2])
        results[form] = weight.detach().clone()
    torch.testing.assert_close(results["fused"], results["foreach"], rtol=1e-15, atol=1e-15)


@every_optimizer
def test_a_weight_may_have_its_first_gradient_later_than_others(make: Make):
    values = torch.linspace(-1, 1, 40, dtype=torch.float64)
    grads = [None, *gradients(values)]
    plain, fused = (stepped(make, values, grads, **form) for form in ({"foreach": False}, {"fused": True}))
    torch.testing.assert_close(fused, plain, rtol=1e-15, atol=1e-15)


def test_groups_stay_fused_after_a_step_in_the_plain_form():
    early, late = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = SGD([early, late], lr=0.1, momentum=0.9, fused=True)
    for grad in (None, torch.ones(3)):
        early.grad, late.grad = torch.ones(3), grad
        take_step(optimizer)
        assert optimizer.param_groups[0]["fused"] is True


def spoiled(self: object, model: nn.Module, ctx: Context) -> None:
    if ctx.global_step == 2:
        model.linear.weight.grad.fill_(torch.nan)


GROUPS = {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}


@pytest.mark.parametrize(
    "stack",
    [
        ["l2_groups"],
        [{"rat_lr": {"groups": GROUPS, "layers": [1]}}],
        [{"freeze_layers": {"groups": GROUPS, "layers": [1]}}],
        ["amp"],
        ["awp"],
    ],
    ids=str,
)
def test_runs_are_those_of_the_plain_form_with_groups_perturbations_and_skipped_steps(stack: list[Any]):
    results = []
    for form in ({"foreach": False}, {"fused": True}):
        model = ConvNet().double()
        optimizer = partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01, **form)
        spoil = plugin("spoil", adjust_grads=spoiled)
        engine = Engine(model, optimizer, ["fgsm", *stack, spoil], LINF, epochs=2, nonfinite="skip")
        for number in range(4):
            batch = batch_of(seed=number, dtype=torch.float64)
            engine.step(batch.x, batch.y)
            engine.set_lr(0.5, number / 2)
        assert engine.read_checks().startswith("1 bad step skipped")
        results.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)
