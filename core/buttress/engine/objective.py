"""Losses, gradients and further attacks of a training step, for the weight perturbation within it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from buttress.engine.attacking import ModelAtWork
from buttress.engine.hooks import Hooks
from buttress.engine.part import StepPart
from buttress.engine.state import RunState
from buttress.hookspecs import Ascent
from buttress.types import Adv, Batch


class Objective:
    """The training losses of one step as a function of the adversarial examples; handed to ``perturb_weights``.

    ``objective(adv)`` gives per-example losses ``[B]`` at the current weights, with gradient, in train mode, with the
    run's loss and its wrappers. Batch-norm buffers stay as found unless ``update_bn=True``.
    """

    def __init__(
        self, at_work: ModelAtWork, batch: Batch, hooks: Hooks, state: RunState, attack: Callable[[Batch], Adv]
    ) -> None:
        self._model, self._modes, self._state = at_work.model, at_work.modes, state
        self._batch, self._hooks = batch, hooks
        self._attack: Callable[[Batch], Adv] | None = attack
        self._moves_buffers = True  # of the last forward of losses, which ``grads`` may run again

    def __call__(self, adv: Adv, *, update_bn: bool = False) -> Tensor:
        self._moves_buffers = update_bn
        with self._buffers():
            return self._hooks.compute_loss(self._model, self._batch, adv).per_example

    def masked(
        self, adv: Adv, c_min: float, *, inclusive: bool = True, ascent: Ascent = "global"
    ) -> tuple[Tensor, Tensor]:
        """``kernels.lsc_mean(self(adv), c_min)``: the 0-dim mean, with gradient, and the 0-dim number of kept examples.

        In one operation with the loss where the loss plugin has a ``masked_loss`` and nobody wraps it. On several
        processes the mean is over the rows of each, and the number with ``ascent="global"`` that of all.
        """
        self._moves_buffers = False
        with self._buffers():
            mean, kept = self._hooks.masked_loss(self._model, self._batch, adv, c_min, inclusive)
        return mean, kept if ascent == "local" else self._state.part.sum(kept, "kept examples")

    def grads(self, loss: Tensor, params: Sequence[Tensor], *, ascent: Ascent = "global") -> list[Tensor]:
        """Gradients of ``loss`` (0-dim) with respect to ``params``, each in its own memory; zero where nothing flows.

        On several processes ``loss`` is a mean over the rows of each; ``ascent`` says whether the gradients are those
        of the mean over all (``global``, as in one process) or over this process's own (``local``, without a
        collective). ``.grad`` is left alone. Where the model recomputes activations (``torch.utils.checkpoint``) its
        forward runs again, in the modes and with the buffers of the losses that were asked for last.

        Raises:
            HookError: a gradient is not finite; where bad steps are skipped, this one is skipped instead.
        """
        with self._buffers():
            part = self._state.part if ascent == "global" else StepPart(self._state.world)
            grads = part.gradients(loss, params, "ascent")
        self._hooks.expect_ascent(self._model, params, grads)
        return [torch.zeros_like(param) if grad is None else grad for param, grad in zip(params, grads, strict=True)]

    def attack(self) -> Adv:
        """Attack the batch of the step again, at the current weights; injected draws serve this attack too.

        Raises:
            RuntimeError: the perturbation is complete: its context manager has yielded.
        """
        if self._attack is None:
            raise RuntimeError(
                "objective.attack() is available within perturb_weights only, until its context manager yields"
            )
        return self._attack(self._batch)

    def close(self) -> None:
        """Attack no more: the perturbation is complete, and the training loss comes next."""
        self._attack = None

    def _buffers(self) -> AbstractContextManager[None]:
        return nullcontext() if self._moves_buffers else self._modes.buffers_as_found()
