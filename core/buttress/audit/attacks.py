"""Check that attacks behave as they do on a model whose gradients can be trusted."""

import torch

from buttress.audit.finding import Finding, graded
from buttress.audit.probe import STEPS, Probe, share
from buttress.console.tables import percent
from buttress.functional import margin
from buttress.threat import ThreatModel

MASKED = "the gradients are masked: adapt the attack (margin loss, EOT, BPDA, transfer) and believe the lowest number"

# Shares of the examples by which one attack may be better than another by chance alone.
SLACK, MUCH = 0.02, 0.05
# Number of independent starts that have to agree.
STARTS = 4


def enough_to_attack(probe: Probe) -> Finding:
    """The checks of attacks need enough examples that are classified correctly: on a handful one of them decides."""
    name, right, needed = "enough to attack", int(probe.clean.sum()), round(1 / SLACK)
    reason = f"{right} of {len(probe)} examples are classified correctly"
    if right >= needed:
        return Finding(name, "PASS", reason)
    cure = f"the checks of attacks need {needed} such examples: look at more of them, or at other weights"
    return Finding(name, "WARN", reason, cure)


def more_steps_help(probe: Probe) -> Finding:
    """Many small steps break at least what one large step breaks, and more steps at least what fewer break."""
    accuracy = {1: share(probe.clean & probe.correct(probe.attacked(1))), STEPS: share(probe.after_pgd)}
    accuracy[5 * STEPS] = share(probe.clean & probe.correct(probe.attacked(5 * STEPS)))
    worst = max(accuracy[STEPS] - accuracy[1], accuracy[5 * STEPS] - accuracy[STEPS])
    listed = ", ".join(f"{steps}: {percent(value)} %" for steps, value in accuracy.items())
    return graded("more steps help", worst, SLACK, MUCH, f"accuracy after PGD by its steps: {listed}", MASKED)


def starts_agree(probe: Probe) -> Finding:
    """Several random starts agree, else one start reports luck; no random point of the ball beats an attacked one."""
    survivors, total = probe.after_pgd, share(probe.after_pgd)
    attacked = margin(probe.logits(probe.attacked(STEPS, loss="margin")), probe.y)
    beaten = torch.zeros_like(survivors)
    for number in range(1, STARTS):
        survivors = survivors & probe.correct(probe.attacked(STEPS, start=f"start {number}"))
        point = probe.threat.random_start(probe.x, probe.generator(f"point {number}"))
        # A margin that rounding alone could make is no victory.
        beaten |= margin(probe.logits(point), probe.y) > attacked + 1e-3 * attacked.abs()
    lost, beating = total - share(survivors), share(beaten)
    reason = (
        f"{STARTS} starts of PGD instead of one lower the accuracy by {percent(lost)} points; of {STARTS - 1} random "
        f"points of the ball one is worse than the attacked one in {percent(beating)} % of {len(probe)} examples"
    )
    return graded("starts agree", max(lost, beating), MUCH, 4 * MUCH, reason, f"use restarts; {MASKED}")


def black_box_is_weaker(probe: Probe) -> Finding:
    """An attack with gradients has to break at least the examples that one without gradients breaks."""
    missed = share(probe.after_white_box & ~probe.after_black_box)
    reason = (
        f"random search breaks {percent(missed)} % of {len(probe)} examples that PGD on cross-entropy and margin does "
        f"not (accuracy {percent(share(probe.after_black_box))} % and {percent(share(probe.after_white_box))} %)"
    )
    return graded("black box is weaker", missed, SLACK, MUCH, reason, MASKED)


def epsilon_grows_to_zero(probe: Probe) -> Finding:
    """With the whole box allowed every input can be reached, so no accuracy can be left."""
    largest = _unbounded(probe)
    accuracy = {}
    for part in (1 / 4, 1 / 2, 1):
        threat = ThreatModel(largest.norm, float(largest.eps) * part, largest.box)
        correct = probe.clean
        for loss in ("ce", "margin"):
            correct = correct & probe.correct(probe.attacked(2 * STEPS, loss=loss, threat=threat))
        accuracy[float(threat.eps)] = share(correct)
    listed = ", ".join(f"{eps:.3g}: {percent(value)} %" for eps, value in accuracy.items())
    left = min(accuracy.values())
    return graded("eps grows to zero", left, SLACK, MUCH, f"accuracy after PGD by eps: {listed}", MASKED)


def _unbounded(probe: Probe) -> ThreatModel:
    """The threat model with a ball that holds the whole box; without a box, a hundred times the radius."""
    threat, elements = probe.threat, probe.x[0].numel()
    if threat.box is None:
        return ThreatModel(threat.norm, 100 * threat.eps, None)
    width = threat.box[1] - threat.box[0]
    return ThreatModel(threat.norm, width if threat.norm == "linf" else width * elements**0.5, threat.box)
