"""Call the attack plugin with the model in the attack mode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from buttress.engine.hooks import Hooks
from buttress.engine.state import RunState
from buttress.nn.modes import AttackMode, Modes, takes_gradients, usable
from buttress.types import Adv, Batch


@dataclass(eq=False)
class Attack:
    """Makes adversarial examples of any batch, at the current weights.

    Args:
        model: left with its modes, ``requires_grad`` and ``.grad`` as they were.
        hooks: hooks of the run, one of which provides ``generate_adv``.
        state: state of the run; its phase is ``attack`` meanwhile.
        modes: switch for the modes of the model.
        mode: attack mode in training.
    """

    model: nn.Module
    hooks: Hooks
    state: RunState
    modes: Modes
    mode: AttackMode

    @takes_gradients
    def __call__(self, batch: Batch, mode: AttackMode | None = None) -> Adv:
        """``generate_adv`` for ``batch``, in ``mode`` or in that of training.

        Raises:
            HookError: a plugin raised, gave a wrong answer or changed a thing that it must not.
        """
        if batch.x.is_inference():  # made by a loader in inference mode
            aux = {name: usable(value) for name, value in batch.aux.items()}
            batch = replace(batch, x=usable(batch.x), y=usable(batch.y), aux=aux)
        with self.state.attacking(partial(self._losses, batch)), self.modes.attacking(mode or self.mode):
            return self.hooks.generate_adv(self.model, batch)

    def _losses(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """``[B]`` training losses at ``x_adv``, for attacks that maximise them; the weights take no gradients."""
        losses = self.hooks.compute_loss(self.model, batch, Adv(x_adv)).per_example
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise self.hooks.unattackable()
        return losses
