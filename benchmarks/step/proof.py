"""Proof that both sides do the same: they take one step from equal weights, and the results are compared."""

import torch

from .problem import SMALL, Problem, Sizes
from .settings import SETTINGS
from .stacks import Stack


def largest_differences(stack: Stack, sizes: Sizes, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Largest differences after one step of the engine in ``dtype`` and one of the public code.

    Returns:
        ``adv``: of adversarial examples; ``adv_share``: share of their elements that differ by more than 1e-6;
        ``weights``: of weights, over the largest change of a weight in the step.
    """
    problem = Problem(stack, sizes, device, dtype)
    ours, theirs = problem.engine(SETTINGS["float32"]), problem.public()
    difference = (ours.step() - theirs.step()).abs()
    before, ours_after, theirs_after = (
        torch.cat([weight.detach().flatten() for weight in model.parameters()])
        for model in (problem.model, ours.model, theirs.model)
    )
    return {
        "adv": float(difference.max()),
        "adv_share": float((difference > 1e-6).double().mean()),
        "weights": float((ours_after - theirs_after).abs().max() / (theirs_after - before).abs().max()),
    }


def proof(stack: Stack, sizes: Sizes, device: torch.device) -> dict[str, dict[str, float]]:
    """Differences in float32 on the measured network, and in float64, where rounding hides nothing, on a small one."""
    return {
        "float32": largest_differences(stack, sizes, device, torch.float32),
        "float64": largest_differences(stack, SMALL, device, torch.float64),
    }
