"""Words for values that a check has refused: where they are, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from buttress.threat import ThreatModel


def unlike(given: Mapping[str, Any], places: Mapping[str, Tensor]) -> list[str]:
    """The names in ``given`` that ``places`` lacks, or has with another shape."""
    return [
        name
        for name, value in given.items()
        if name not in places or not isinstance(value, Tensor) or value.shape != places[name].shape
    ]


def nonfinite_gradients(names: Sequence[str], good: Tensor) -> str:
    """The parameters ``names`` whose gradient is not ``good [n]``."""
    bad = [name for name, fine in zip(names, good.tolist(), strict=True) if not fine]
    return (
        f"expected gradients of finite norm, got others for {len(bad)} parameters, the first {bad[0]!r}; the step was "
        "not taken; lower the learning rate, or look for a division by zero or a root of zero"
    )


def range_of(values: Tensor) -> str:
    """``"3 to 12"``: the smallest and the largest of integers."""
    low, high = torch.aminmax(values)
    return f"{int(low)} to {int(high)}"


def outside_box(x: Tensor) -> str:
    """Inputs ``x [B,*]`` outside of the threat model's box."""
    if not torch.isfinite(x).all():
        return "expected finite inputs, got NaN or infinity"
    low, high = (float(value) for value in torch.aminmax(x))
    return (
        f"expected inputs inside the threat model's box, got values in [{low:.6g}, {high:.6g}]; scale them, or set box"
    )


def outside_threat(threat: ThreatModel, x_adv: Tensor, x: Tensor, radius: float) -> str:
    """Adversarial examples ``x_adv [B,*]`` farther than ``radius`` times eps from ``x``, or outside of the box."""
    if not torch.isfinite(x_adv).all():
        return "expected finite adversarial examples, got NaN or infinity"
    low, high = (float(value) for value in torch.aminmax(x_adv))
    if threat.box is not None and not (low >= threat.box[0] and high <= threat.box[1]):
        return (
            f"expected values in [{threat.box[0]:g}, {threat.box[1]:g}], got [{low:.6g}, {high:.6g}] in shape "
            f"{tuple(x_adv.shape)}; use ctx.threat.project(x_adv, batch.x) before returning"
        )
    farthest = float(threat.distance(x_adv, x).amax())
    reach, cure = str(threat.eps), "use ctx.threat.project(x_adv, batch.x) before returning"
    if radius != 1:
        reach = f"{radius:g} * {threat.eps}"
        cure = "shorten its perturbation, or declare another radius"
    return f"expected adversarial examples within {threat.norm} distance {reach} of x, got {farthest:.6g}; {cure}"
