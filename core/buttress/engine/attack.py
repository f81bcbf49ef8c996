"""Call the attack plugin with the model in the attack mode: in a step, and for plugins that ask between steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from buttress.engine.answers import Caller
from buttress.engine.attacking import ModelAtWork
from buttress.engine.hooks import Hooks
from buttress.engine.state import RunState
from buttress.nn.contract import form_of
from buttress.nn.modes import AttackMode, takes_gradients, usable
from buttress.streams import Streams
from buttress.types import Adv, Batch


@dataclass(eq=False)
class Attack:
    """Makes adversarial examples of any batch, at the current weights.

    Args:
        at_work: model, left with its modes, ``requires_grad`` and ``.grad`` as they were.
        hooks: hooks of the run, one of which provides ``generate_adv``.
        state: state of the run; its phase is ``attack`` meanwhile.
        mode: attack mode in training.
    """

    at_work: ModelAtWork
    hooks: Hooks
    state: RunState
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
        losses, in_parts = partial(self._losses, batch), self.at_work.in_parts(len(batch.x))
        with self.state.attacking(losses), self.at_work.attacking(mode or self.mode), in_parts:
            return self.hooks.generate_adv(self.at_work.model, batch)

    def _losses(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """``[B]`` training losses at ``x_adv``, for attacks that maximise them; the weights take no gradients."""
        losses = self.hooks.compute_loss(self.at_work.model, batch, Adv(x_adv)).per_example
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise self.hooks.unattackable()
        return losses

    @contextmanager
    def offered(self) -> Iterator[None]:
        """Let plugins attack batches of their own in the block, by ``ctx.attack``."""
        streams: dict[str, Streams] = {}  # by plugin; they continue from one attack of the block to the next

        def attack(plugin: str, batch: Batch) -> Adv:
            if not isinstance(batch, Batch):
                raise TypeError(f"ctx.attack: expected a Batch, got {form_of(batch)}")
            self.hooks.answers.inputs(batch, Caller("ctx.attack"))
            own = streams.setdefault(plugin, {})
            with self.state.streams_apart(f"plugin {plugin}", own), self.state.records_apart():
                return self(batch, "eval")

        self.state.attack = attack
        try:
            yield
        finally:
            self.state.attack = None
