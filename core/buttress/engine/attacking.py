"""The one way into a model that is attacked, trained or scored: mode, precision and memory format of every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from buttress.nn.calls import ModelCall, calls_replaced
from buttress.nn.contract import device_of
from buttress.nn.layout import has_channels_last_weights, in_channels_last
from buttress.nn.modes import AttackMode, Modes
from buttress.nn.passes import PassCounter
from buttress.nn.precision import arithmetic, expect_no_autocast, fitting, region
from buttress.precision import Precision, Work


class ModelAtWork:
    """A model and the way in which its passes are made.

    While a block of ``doing``, ``attacking`` or ``scoring`` is open, every call ``model(x)``, whoever makes it, is a
    forward in the precision of that work, in an autocast region of its own where the precision needs one, with inputs
    in the memory format of the weights; the output is of the weights' dtype. All passes are counted. Blocks may be
    nested; the innermost holds.

    Args:
        model: model that is called.
        precision: precision of the passes; None is that of the weights.
        who: name of the caller, for errors.

    Raises:
        ConfigError: the precision does not fit the weights or the device.
        ModelError: the parameters are not on one device.
    """

    def __init__(self, model: nn.Module, precision: Precision | None = None, *, who: str) -> None:
        self.model = model
        self.device = device_of(model, who)
        self.precision = fitting(precision, model, who)
        self.modes = Modes(model)
        self.counter = PassCounter()
        self._after_forward: Callable[[], None] = _nothing
        self._who = who
        self._word: str | None = None
        self._parameters = tuple(model.parameters())
        self._channels_last = has_channels_last_weights(model)

    @contextmanager
    def doing(self, work: Work) -> Iterator[None]:
        """Make the passes of the block in the precision of ``work``, in whatever modes the modules have.

        Raises:
            ConfigError: the caller has opened an autocast region.
        """
        word, before = self.precision.of(work), self._word
        if word == before:
            yield
            return
        self._word = word
        try:
            with arithmetic(word, self.device):
                if before is not None:
                    yield
                    return
                expect_no_autocast(self.device, self._who)
                with calls_replaced(self.model, self._made_here):
                    yield
        finally:
            self._word = before

    @contextmanager
    def attacking(self, mode: AttackMode = "eval", work: Work = "attack") -> Iterator[None]:
        """Attack in the block: the modules in ``mode``, the weights without gradients (see ``Modes.attacking``)."""
        with self.doing(work), self.modes.attacking(mode):
            yield

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Give verdicts in the block: eval mode, the buffers as they were found."""
        with self.doing("score"), self.modes.evaluating(), self.modes.buffers_as_found():
            yield

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """``[B,K]`` logits for ``x [B,*]`` as an evaluation sees them, without a graph."""
        with self.scoring():
            logits: Tensor = self.model(x)
        return logits

    @contextmanager
    def telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """ModelCall ``listener`` after every forward of the block, for progress bars."""
        before, self._after_forward = self._after_forward, listener
        try:
            yield
        finally:
            self._after_forward = before

    def _made_here(self, forward: ModelCall) -> ModelCall:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._channels_last:
                args = tuple(map(in_channels_last, args))
            with region(self._word or "float32", self.device):
                output = forward(*args, **kwargs)
            if self._word == "bf16" and isinstance(output, Tensor):
                output = output.float()
            self.counter.count(output, to_weights=any(each.requires_grad for each in self._parameters))
            self._after_forward()
            return output

        return call


def _nothing() -> None:
    """Do nothing."""
