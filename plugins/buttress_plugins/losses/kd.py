"""KD: the student also learns the predictions of a standard and of a robust teacher at attacked inputs.

Source: Chen, Zhang, Liu, Chang, Wang, "Robust Overfitting may be mitigated by properly learned smoothening", ICLR 2021.
Both teachers have the student's architecture, stay in eval mode, and see the adversarial examples made for the student.
Soft labels from the temperature T are compared by the cross-entropy times T^2, which differs from the divergence by a
number without gradient. The paper averages weights besides, which is ``swa``.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from buttress import Adv, Batch, ButtressError, Context, Loss, PluginError, hookimpl
from buttress.functional import cross_entropy
from buttress.nn import load_weights
from buttress.settings import File, NonNegative, PerEpoch


@dataclass(eq=False, kw_only=True)
class KD:
    """``ce CE(f(x'), y) + a H(t1(x'), f(x')) + b H(t2(x'), f(x'))``: H of soft labels, a and b the teachers' weights.

    The teachers are copies of the model with the weights of the files. They are no part of the model: no gradients, no
    optimizer, no place in checkpoints; a resumed run reads the files again.

    Args:
        standard: file with the weights of a teacher that was trained without attacks.
        robust: file with the weights of a teacher that was trained adversarially.
        ce: weight of the cross-entropy against the label.
        standard_weight: weight of the standard teacher.
        robust_weight: weight of the robust teacher.
        temperature: temperature T of the softmax of teachers and student.
    """

    standard: File
    robust: File
    ce: PerEpoch[NonNegative] = 0.3
    standard_weight: PerEpoch[NonNegative] = 0.1
    robust_weight: PerEpoch[NonNegative] = 0.6
    temperature: Annotated[float, Gt(0)] = 2.0

    _teachers: tuple[nn.Module, nn.Module] = field(init=False, repr=False)

    @classmethod
    def example(cls, folder: Path, model: nn.Module, batch: Batch) -> Mapping[str, Any]:
        """The settings for an examination: both teachers have the weights of ``model``."""
        torch.save(model.state_dict(), folder / "teacher.pt")
        return dict.fromkeys(("standard", "robust"), str(folder / "teacher.pt"))

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._teachers = teacher(model, self.standard, "standard"), teacher(model, self.robust, "robust")

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        with torch.no_grad():
            standard, robust = (each(adv.x) for each in self._teachers)
        logits = model(adv.x)
        losses = ctx.value(self.ce) * cross_entropy(logits, batch.y)
        losses = losses + ctx.value(self.standard_weight) * distillation(standard, logits, self.temperature)
        return Loss(losses + ctx.value(self.robust_weight) * distillation(robust, logits, self.temperature))


def distillation(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """``[B]`` losses ``-T^2 sum_k softmax(t / T)_k log softmax(s / T)_k`` of logits t and s ``[B,K]``, t fixed."""
    targets = F.softmax(teacher.detach() / temperature, 1)
    return temperature**2 * cross_entropy(student / temperature, targets)


def teacher(model: nn.Module, file: Path, setting: str) -> nn.Module:
    """A frozen copy of ``model`` in eval mode with the weights of ``file``, without the hooks that watch its outputs.

    Raises:
        PluginError: the file holds no weights, or those of another architecture or number of classes.
    """
    copy = deepcopy(model).eval().requires_grad_(False)
    for module in copy.modules():
        module._forward_hooks.clear()
    try:
        load_weights(copy, file)
    except ButtressError as problem:
        fault = str(problem).rpartition("; ")[0] or problem  # without its advice, which is for weights to start from
        raise PluginError(
            f"{setting}: {fault}; give a file with one set of weights of the student's architecture and number of "
            "classes"
        ) from problem
    return copy
