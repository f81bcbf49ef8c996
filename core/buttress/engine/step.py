"""One training step, from top to bottom in the order in which the hooks fire.

::

    transform_batch               another batch: augmentation, Mixup
    ── several processes: each takes its rows
    ── accumulate: k: from here on every forward and backward is made in k parts of these rows, one after another
    generate_adv                  adversarial examples, in the attack mode
    perturb_weights               enter: the plugin adds v to the weights
    │   compute_loss              training losses at w + v
    │   backward                  gradients of their mean, over the rows of all processes, into p.grad
    │   ── restore_then_step: the weights are w again
    │   adjust_grads              edit p.grad
    │   optimizer.step()
    └   ── step_while_perturbed: v is subtracted from the new weights
    ensemble_weights("step")      snapshots and averages of the new weights
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from buttress.engine.attack import Attack
from buttress.engine.attacking import ModelAtWork
from buttress.engine.checks import ValueChecks
from buttress.engine.fused import take_step
from buttress.engine.hooks import Hooks
from buttress.engine.joined import LocalBuffers
from buttress.engine.objective import Objective
from buttress.engine.perturbation import Copies, Perturbed, perturbed
from buttress.engine.split import drawing_alike, split_batch
from buttress.engine.state import RunState
from buttress.engine.writers import BEFORE_UPDATE, Writers, is_torchs_own
from buttress.errors import ButtressError, WorkError, describe
from buttress.nn.as_found import AsFound
from buttress.nn.contract import Forwards
from buttress.processes import signals_held
from buttress.types import Adv, Batch, Loss, Rows


class StepResult(NamedTuple):
    """The answer of a step.

    Args:
        losses: ``[B]`` training losses in nats, detached, on the device; on several processes those of the rows that
            count for this one.
        adv: adversarial examples of this process at which the losses were taken.
    """

    losses: Tensor
    adv: Adv


@dataclass(eq=False)
class Step:
    """Makes the training steps of one engine.

    Checks at level ``always`` wait for the device. At other levels a step waits for it only where ``BadSteps`` does.

    Args:
        at_work: model, trained in place.
        optimizer: optimizer over its parameters, which steps on ``.grad``.
        hooks: hooks of the run, which call the plugins in order and check every answer.
        state: state of the run: position and random streams.
        attack: attack on training batches. It runs with the model in the engine's ``attack_mode``.
        copies: memory for the copies of weights and buffers.
        checks: checks of the values that plugins answer. They also know which steps must be undone.
        local: buffers that every process moves by its own rows, and that all are to have alike; None for one process.
    """

    at_work: ModelAtWork
    optimizer: Optimizer
    hooks: Hooks
    state: RunState
    attack: Attack
    copies: Copies
    checks: ValueChecks
    local: LocalBuffers | None = None

    def __post_init__(self) -> None:
        self.model = self.at_work.model
        self._writers = Writers(self.hooks, BEFORE_UPDATE)
        self._forwards = Forwards(self.model, self.hooks.answers.expect_classes)
        self._never_skipped = torch.zeros((), dtype=torch.bool, device=self.state.device)

    def __call__(self, batch: Batch, draws: Mapping[str, Tensor], rows: Rows | None = None) -> StepResult:
        """Train on ``batch``, with ``draws`` injected; restore the model where anything raises.

        The batch is the whole one, the same on every process, or this process's ``rows`` of it.

        An error of ``ensemble_weights`` comes after the update: the weights stay the updated ones. So do they where
        Ctrl-C comes after it, and where an optimizer raises half-way, unless they were copied.
        """
        self.state.begin_step(draws)
        self.hooks.watch.begin(self.model)
        as_found = AsFound(self.model)
        # Two blocks restore the model after an error. ``kept_on_error`` restores objects: modules, parameters, hooks,
        # modes, ``.grad``. ``values_kept_on_error`` restores the numbers in parameters and buffers.
        with self._forwards.watched(batch.x), as_found.kept_on_error():
            # Copies reuse their memory, so they cost less than a search for damage. Few steps need those of weights.
            weights = self.copies.weights(self._weights_may_need_restoring())
            values = as_found.values_kept_on_error(weights, self.copies.buffers)
            with values as saved, self._undone_if_bad(saved):
                result = self._update(batch, rows, saved)
            with self.state.after_update(self._skipped()):
                self.hooks.ensemble_weights(self.model, "step")
        self.state.end_step()
        if self.checks.bad_steps and self.checks.level == "always":
            self.checks.bad_steps.expect_progress()
        return result

    def _weights_may_need_restoring(self) -> bool:
        """Whether somebody may write into weights and raise, or let somebody else raise, in the same step."""
        return self._writers.exist or self.checks.bad_steps is not None or not is_torchs_own(self.optimizer)

    def _update(self, batch: Batch, rows: Rows | None, saved: Sequence[Tensor]) -> StepResult:
        """Transform the batch, take the rows of this process, and train on them; ``saved``: copies of the weights."""
        self.state.phase = "train"
        with self.state.on_rows(rows), self.state.draws_of_first_replay():
            transformed = self.hooks.transform_batch(batch)
        part, rows = split_batch(self.state.world, batch, transformed, rows)
        with self.state.on_rows(rows), self._drawing_alike(rows), self.at_work.in_parts(len(part.x)):
            if self.local is not None:
                self.local.begin()
            result = self._trained(part, saved)
            if self.local is not None:
                self.local.join(self.state.part)
        return result if rows is None else StepResult(rows.own(result.losses), result.adv)

    def _drawing_alike(self, rows: Rows | None) -> AbstractContextManager[None]:
        return drawing_alike(rows, self.state.device, self.state.seed, self.state.global_step)

    def _trained(self, batch: Batch, saved: Sequence[Tensor]) -> StepResult:
        """Attack, compute gradients and update; ``saved`` holds copies of the weights, or none."""
        adv = self.attack(batch)
        with self._perturbed(batch, adv, saved) as perturbation:
            adv = self._with_gradient(perturbation.adv)
            loss = self._loss(batch, adv)
            input_grad = self._backward(loss, adv.x)
            perturbation.before_step()
            with self.state.adjusting(input_grad):
                self.hooks.adjust_grads(self.model, self.optimizer)
            self.state.expect_draws_used("engine.step")
            self._writers.compare(self.model, saved)
            self._take_step()
        return StepResult(loss.per_example.detach(), perturbation.adv)

    @contextmanager
    def _perturbed(self, batch: Batch, adv: Adv, saved: Sequence[Tensor]) -> Iterator[Perturbed]:
        self.state.phase = "perturb"
        with closing(Objective(self.at_work, batch, self.hooks, self.state, self.attack)) as objective:
            manager = self.hooks.perturb_weights(self.model, batch, adv, objective)
            weights, order = self.model.parameters(), self.hooks.exit_order
            with perturbed(manager, adv, weights, order, saved, self.copies.after) as perturbation:
                objective.close()  # from here on, a plugin that kept the objective cannot attack with it
                yield perturbation

    def _with_gradient(self, adv: Adv) -> Adv:
        """``adv``, whose x takes a gradient where a plugin wants the gradient of the loss with respect to it."""
        return replace(adv, x=adv.x.detach().requires_grad_()) if self.hooks.wants_input_grad else adv

    def _loss(self, batch: Batch, adv: Adv) -> Loss:
        self.state.phase = "train"
        for weight in self.hooks.watch.parts_of(self.model).trainable():
            weight.grad = None
        return self.hooks.compute_loss(self.model, batch, adv)

    def _backward(self, loss: Loss, x: Tensor) -> Tensor | None:
        """Put the gradients of the training loss into ``.grad``; return that of x ``[B,*]``, where x takes one."""
        weights, total = self.hooks.watch.parts_of(self.model).trainable(), loss.total()
        inputs = [x] if x.requires_grad else []
        self.hooks.expect_gradient(total)
        try:
            grads = self.state.part.gradients(total, weights, "gradients", inputs=inputs)
        except ButtressError:  # it names the culprit: the model, not a plugin
            raise
        except Exception as problem:
            raise self.hooks.backward_fault(problem) from problem
        if inputs:
            self.hooks.expect_weight_gradient(grads[:-1])
        for weight, grad in zip(weights, grads, strict=False):
            weight.grad = grad
        input_grad = None if not inputs else torch.zeros_like(x) if grads[-1] is None else grads[-1]
        self.hooks.expect_gradients(self.model, input_grad)
        return input_grad

    def _take_step(self) -> None:
        try:
            with signals_held():  # Ctrl-C comes before the update or after it
                take_step(self.optimizer)
        except ButtressError:
            raise
        except Exception as problem:
            raise WorkError(
                f"optimizer {type(self.optimizer).__name__}, {self.state.place}: step() raised {describe(problem)}"
            ) from problem

    def _skipped(self) -> Tensor:
        """A 0-dim bool on the device: whether the step was taken back."""
        guard = self.checks.bad_steps
        return ~guard.taken if guard else self._never_skipped

    @contextmanager
    def _undone_if_bad(self, saved: Sequence[Tensor]) -> Iterator[None]:
        """Run the block, and undo its changes if it met a value that is not finite and bad steps are to be skipped.

        The device decides and restores, so the host need not wait for the verdict; at level ``always`` it does.
        """
        guard = self.checks.bad_steps
        before = guard and guard.begin(self.model, saved, self.optimizer, self.state.records)
        yield
        if guard and before:
            guard.end(before, (self.state.epoch, self.state.step), wait=self.checks.level == "always")
