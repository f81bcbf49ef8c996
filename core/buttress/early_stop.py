"""Early stop of attacks: the first point where an attack succeeds on an example is its answer for that example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from buttress.functional import InputLoss, hard_labels, is_correct, per_example
from buttress.hookspecs import BatchTrait
from buttress.nn import LastOutput
from buttress.types import Batch

if TYPE_CHECKING:
    from buttress.engine.context import Context

LossMaker = Callable[[nn.Module, Batch, Tensor | None], InputLoss]
"""Model, batch, and ``[B]`` classes to which an attack leads or None, to a loss of attacked inputs."""


class EarlyStop:
    """Watches an attack through its losses, and keeps the first point of each example where the attack succeeds.

    An attack takes its start from ``start``, its losses from ``loss``, and gives its answer through ``answer``. It
    succeeds where the model errs, or, with targets, where the model gives the target. Points at which it asks for no
    loss, such as its last one, are not watched: the last one is the answer for the examples that are left.

    In an evaluation the model is not asked again about an example that is finished; its losses are 0, and so are their
    gradients. This waits for the device. In training every loss is one of the whole batch, and nothing waits.

    Args:
        wanted: whether to stop early; if not, start, losses and answer are the attack's own.
        model: model to attack.
        batch: examples.
        ctx: context of the attack.
    """

    refuses: ClassVar[Mapping[BatchTrait | str, str]] = {
        "mixed inputs": "its early stop looks for an error on the label, and a mixed input has two"
    }
    """Properties of batches that an attack with early stop cannot take, each with the reason."""

    def __init__(self, wanted: bool, model: nn.Module, batch: Batch, ctx: Context) -> None:
        self._model, self._batch, self._threat = model, batch, ctx.threat
        self._examples = _Examples(batch, leave=ctx.phase == "evaluate") if wanted else None

    def start(self, start: Tensor | None) -> Tensor | None:
        """The first perturbation ``[B,*]`` of the attack, projected because its point may be an answer, or None."""
        if start is None or self._examples is None:
            return start
        x = self._batch.x.detach()
        return self._threat.project(x + start, x) - x

    def loss(self, make: LossMaker, targets: Tensor | None = None) -> InputLoss:
        """A loss of the attacked inputs ``[B,*]`` of the whole batch.

        Args:
            make: maker of the loss; called again for the examples that are left, once others are finished.
            targets: ``[B]`` classes to which the attack leads, or None.
        """
        if self._examples is None:
            return make(self._model, self._batch, targets)
        return _WatchedLoss(self._examples, self._model, make, targets)

    def answer(self, x_adv: Tensor) -> Tensor:
        """``x_adv [B,*]``, but for an example that is finished its first point of success."""
        if self._examples is None:
            return x_adv
        points = self._threat.clamp(self._examples.points)  # x + start is rounded
        return torch.where(per_example(self._examples.finished, x_adv), points, x_adv)


class _Examples:
    """The examples of a batch: those that are finished, each with its point, and those that are left.

    Args:
        batch: examples.
        leave: whether an example that is finished leaves.
    """

    def __init__(self, batch: Batch, leave: bool) -> None:
        self.batch, self._leave = batch, leave
        self.points = batch.x.detach()
        self.finished = torch.zeros(len(batch.x), dtype=torch.bool, device=batch.x.device)
        self.left = torch.arange(len(batch.x), device=batch.x.device)

    def keep(self, points: Tensor, success: Tensor) -> None:
        """Take note of ``points [b,*]`` of the examples that are left, and of ``[b]`` whether the attack succeeds."""
        if self._leave:
            self._take_out(points, success)
        else:
            new = per_example(success & ~self.finished, points)
            self.points, self.finished = torch.where(new, points, self.points), self.finished | success

    def _take_out(self, points: Tensor, success: Tensor) -> None:
        gone = self.left[success]
        if len(gone):
            self.points = self.points.index_copy(0, gone, points[success])
            self.finished = self.finished.index_fill(0, gone, True)
            self.left = self.left[~success]


class _WatchedLoss:
    """The loss of ``EarlyStop.loss``."""

    def __init__(self, examples: _Examples, model: nn.Module, make: LossMaker, targets: Tensor | None) -> None:
        self._examples, self._seen, self._make, self._targets = examples, LastOutput(model), make, targets
        self._asked: Tensor | None = None

    def __call__(self, x_adv: Tensor) -> Tensor:
        left, nothing = self._examples.left, 0 * x_adv.flatten(1).sum(1)
        if not len(left):
            return nothing
        if left is not self._asked:
            self._ask_about(left)
        point = x_adv if len(left) == len(x_adv) else x_adv[left]
        losses = self._loss(point)
        self._examples.keep(point.detach(), self._success(self._seen.at(point)))
        return losses if point is x_adv else nothing.to(losses.dtype).index_copy(0, left, losses)

    def _ask_about(self, left: Tensor) -> None:
        """Make the loss of the examples at positions ``left [b]``."""
        batch, goal = self._examples.batch, self._targets
        if len(left) < len(batch.x):
            batch, goal = batch.part(left), None if goal is None else goal[left]
        self._asked, self._label, self._goal = left, hard_labels(batch.y), goal
        self._loss = self._make(self._seen, batch, goal)

    def _success(self, logits: Tensor) -> Tensor:
        """``[b]`` whether the attack succeeds, by ``logits [b,K]``."""
        return ~is_correct(logits, self._label) if self._goal is None else is_correct(logits, self._goal)
