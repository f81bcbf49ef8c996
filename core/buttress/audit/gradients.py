"""Check that there is a gradient, and that it is the gradient of the function."""

import copy

import torch
from torch import Tensor

from buttress.audit.finding import Finding, graded
from buttress.audit.probe import Probe, share
from buttress.console.tables import percent
from buttress.engine.attacking import ModelAtWork
from buttress.errors import kind_and_first_line
from buttress.functional import cross_entropy

# Half the distance of the two sides, in units of the input; in float64 both rounding and curvature are far below it.
SIDE = 1e-5
# In nats a unit of the input: slopes below this drown in the loss's own rounding.
QUIET = 1e-6
# Largest distance of gradient and difference, over the larger of them.
APART = 0.05
# Kinks between the two sides make few honest examples disagree.
FEW = 0.05


def gradients_exist(probe: Probe) -> Finding:
    """A gradient that is zero or not finite stops every gradient attack where it stands."""
    start = probe.threat.random_start(probe.x, probe.generator("gradients"))
    grads = torch.stack([probe.gradient(x).flatten(1) for x in (probe.x, start)])
    broken = share((~grads.isfinite()).any(2).any(0))
    zero = share((grads.nan_to_num() == 0).all(2).any(0))
    reason = (
        f"gradient of the cross-entropy: zero in {percent(zero)} % of {len(probe)} examples, not finite in "
        f"{percent(broken)} %"
    )
    cure = (
        "look for rounding, argmax, detach() or saturated logits; attack the margin, a smooth stand-in (BPDA), or "
        "without gradients"
    )
    return graded("gradients exist", max(zero, broken), 0.01, 0.1, reason, cure)


def gradients_match_differences(probe: Probe) -> Finding:
    """A gradient that is not the slope of the loss (a detached branch, a backward of its own) leads attacks astray."""
    name = "gradients match"
    try:
        apart, n = _apart(probe)
    except Exception as problem:  # somebody's model in float64: whatever it raises, it cannot be looked at this way
        reason = f"not looked at: the model does not run in float64 ({kind_and_first_line(problem)})"
        return Finding(name, "WARN", reason, "let the model follow the dtype of its weights")
    reason = f"autograd and differences of the loss disagree in {percent(apart)} % of {n} examples"
    cure = "look for detach(), straight-through estimators and custom backwards; attack without gradients too"
    return graded(name, apart, FEW, 2 * FEW, reason, cure)


def _apart(probe: Probe) -> tuple[float, int]:
    """The share of examples whose slope in a random direction is not what autograd says, and their number."""
    model = copy.deepcopy(probe.model).double()
    generator = probe.generator("differences")
    # Off the data, where ties and exact zeros lie, and off the border of the box.
    x = probe.threat.random_start(probe.x, generator).double()
    if probe.threat.box is not None:
        low, high = probe.threat.box
        x = x.clamp(low + SIDE, high - SIDE)
    direction = torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float64)

    def loss(point: Tensor) -> Tensor:
        return cross_entropy(model(point), probe.y)

    with ModelAtWork(model, who="audit").attacking("eval"):
        inputs = x.clone().requires_grad_(True)
        with torch.enable_grad():
            total = loss(inputs).sum()
            grad = torch.autograd.grad(total, inputs, allow_unused=True)[0] if total.requires_grad else None
        grad = torch.zeros_like(x) if grad is None else grad
        expected = (grad * direction).flatten(1).sum(1)
        with torch.no_grad():
            measured = (loss(x + SIDE * direction) - loss(x - SIDE * direction)) / (2 * SIDE)
    largest = torch.maximum(expected.abs(), measured.abs())
    apart = ~((expected - measured).abs() <= APART * largest) & ~(largest <= QUIET)
    return share(apart), len(x)
