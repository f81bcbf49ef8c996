"""Check that the inputs lie in the box of the threat model."""

import torch

from buttress.audit.finding import Finding, graded
from buttress.audit.probe import Probe


def inputs_in_box(probe: Probe) -> Finding:
    """Inputs lie in the box: normalised ones change the meaning of eps, and clamping to the box destroys them."""
    name, box = "inputs in box", probe.threat.box
    if box is None:
        return Finding(name, "PASS", "the threat model has no box")
    outside, low, high, n = 0, float("inf"), -float("inf"), len(probe.split)
    for batch in probe.split.batches(torch.arange(n), 1000):
        x = batch.x.flatten(1)
        inside = (x >= box[0]) & (x <= box[1])
        outside += int((~inside.all(1)).sum())
        low, high = min(low, float(x.min())), max(high, float(x.max()))
    reason = f"{outside} of {n} examples lie outside of [{box[0]:g}, {box[1]:g}]; values from {low:.4g} to {high:.4g}"
    cure = "give inputs in the box, and make the normalisation the model's first layer"
    return graded(name, outside / n, 0.0, 0.0, reason, cure)
