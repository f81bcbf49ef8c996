"""Check that the outputs are logits, and the same each time."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from buttress.audit.finding import Finding
from buttress.audit.probe import Probe

# Forwards of one input; a choice between two that is made at random looks the same in all with probability 1/32768.
FORWARDS = 16
# Between the largest and the smallest logit of an example, in nats: far beyond these the softmax says nothing, or no
# more than that all classes are alike, in float32 exactly so.
FLAT, STEEP = 1e-2, 1e3
# Rows of probabilities sum to one up to this; softmax in float32 errs by far less, in bfloat16 by about as much.
SUM_TOLERANCE = 1e-2


def outputs_repeat(probe: Probe) -> Finding:
    """One input, one output: batch norm and dropout in eval mode, no randomness in the forward."""
    name = "outputs repeat"
    modules = [(path, each) for path, each in probe.model.named_modules() if isinstance(each, (_BatchNorm, _DropoutNd))]
    training = [path or type(each).__name__ for path, each in modules if each.training and _matters(each)]
    if training:
        more = f" and {len(training) - 3} more" if len(training) > 3 else ""
        reason = f"in train mode: {', '.join(training[:3])}{more}"
        return Finding(name, "FAIL", reason, "call model.eval() before evaluating")
    differ = _differing(probe, probe.x[:64])
    if differ:
        reason = f"{FORWARDS} forwards of one input differ, by up to {differ:.3g}"
        cure = "evaluate without randomness, or attack the expectation over it (EOT) and evaluate many forwards"
        return Finding(name, "FAIL", reason, cure)
    return Finding(name, "PASS", f"eval mode, and {FORWARDS} forwards agree to the last bit")


def _matters(module: nn.Module) -> bool:
    return not isinstance(module, _DropoutNd) or module.p > 0


@torch.no_grad()
def _differing(probe: Probe, x: Tensor) -> float:
    with probe.at_work.doing("score"), probe.at_work.modes.buffers_as_found():
        outputs = torch.stack([probe.model(x) for _ in range(FORWARDS)])
    return float((outputs - outputs[0]).abs().nan_to_num().amax())


def outputs_are_logits(probe: Probe) -> Finding:
    """Losses take logits; a softmax before them flattens their gradients."""
    name, outputs = "outputs are logits", probe.logits(probe.x)
    if not bool(outputs.isfinite().all()):
        return Finding(name, "FAIL", "outputs are NaN or infinite", "repair the model before evaluating it")
    sums = outputs.exp().sum(1)
    if bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < SUM_TOLERANCE).all()):
        cure = "leave out the softmax: losses and AutoAttack take logits"
        return Finding(name, "FAIL", "outputs are probabilities: not negative, rows that sum to 1", cure)
    if bool((outputs <= 0).all()) and bool(((sums - 1).abs() < SUM_TOLERANCE).all()):
        cure = "harmless to the cross-entropy; give logits, which every attack expects"
        return Finding(name, "WARN", "outputs are log-probabilities", cure)
    span = float((outputs.amax(1) - outputs.amin(1)).median())
    reason = f"finite, the largest {span:.3g} above the smallest (median)"
    if FLAT <= span <= STEEP:
        return Finding(name, "PASS", reason)
    cure = "undo the temperature: scale the logits to a span of about 1 to 100, or attack their margin"
    return Finding(name, "WARN", reason, cure)
