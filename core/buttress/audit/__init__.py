"""Audit an evaluation: look for everything that would make a robustness number meaningless.

Source of the list: Carlini et al., "On Evaluating Adversarial Robustness", arXiv:1902.06705, and Athalye, Carlini and
Wagner, "Obfuscated Gradients Give a False Sense of Security", arXiv:1802.00420.
"""

from collections.abc import Callable

from torch import nn

from buttress.audit.attacks import (
    black_box_is_weaker,
    enough_to_attack,
    epsilon_grows_to_zero,
    more_steps_help,
    starts_agree,
)
from buttress.audit.finding import Finding
from buttress.audit.gradients import gradients_exist, gradients_match_differences
from buttress.audit.inputs import inputs_in_box
from buttress.audit.outputs import outputs_are_logits, outputs_repeat
from buttress.audit.precision import audit_is_precise
from buttress.audit.probe import Probe
from buttress.data import Split
from buttress.precision import Precision
from buttress.threat import ThreatModel

__all__ = ["CHECKS", "Finding", "audit"]

CHECKS = (
    inputs_in_box,
    outputs_repeat,
    outputs_are_logits,
    gradients_exist,
    gradients_match_differences,
    enough_to_attack,
    more_steps_help,
    starts_agree,
    black_box_is_weaker,
    epsilon_grows_to_zero,
    audit_is_precise,
)
"""Every check of a model, each a function of a ``Probe``, in the order of what explains what."""


def audit(
    model: nn.Module,
    split: Split,
    threat: ThreatModel,
    *,
    examples: int = 200,
    seed: int = 0,
    precision: Precision | None = None,
    doing: Callable[[str], None] = lambda name: None,
) -> list[Finding]:
    """Look for everything that would make a robustness number of ``model`` meaningless.

    Args:
        model: maps ``[B,*]`` to logits ``[B,K]``, in the mode in which it is to be evaluated; left as found.
        split: examples, on the model's device.
        threat: the threat model.
        examples: number of examples of the split to look at: those that an evaluation of so many takes.
        seed: seed of every random draw.
        precision: precision of the attacks and of the verdicts, of which ``score`` holds; None: that of the weights.
        doing: function that receives the name of each check before it begins.

    Returns:
        One finding a check.

    Raises:
        DataError: the split is empty.
    """
    probe = Probe(model, split, threat, examples=examples, seed=seed, precision=precision)
    findings = []
    for number, check in enumerate(CHECKS, 1):
        doing(f"check {number} of {len(CHECKS)}: {check.__name__.replace('_', ' ')}")
        findings.append(check(probe))
    return findings
