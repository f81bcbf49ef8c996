"""The one way into a model that is attacked, trained or scored: mode, precision and memory format of every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from buttress.engine.compilation import compiled_passes
from buttress.errors import HookError, extended
from buttress.nn.calls import ModelCall, calls_replaced
from buttress.nn.contract import device_of
from buttress.nn.in_parts import InParts
from buttress.nn.layout import has_channels_last_weights, in_channels_last
from buttress.nn.modes import AttackMode, Modes
from buttress.nn.passes import PassCounter
from buttress.nn.precision import arithmetic, expect_no_autocast, fitting, region
from buttress.precision import Precision, Work

# Words of torch's error about a gradient of a gradient through a compiled graph.
_NO_SECOND_GRADIENT = "does not currently support double backward"

_OPEN: list[ModelAtWork] = []
"""Those with an open block, the innermost last."""


class ModelAtWork:
    """A model and the way in which its passes are made.

    While a block of ``doing``, ``attacking`` or ``scoring`` is open, every call ``model(x)``, whoever makes it, is a
    forward in the precision of that work, in an autocast region of its own where the precision needs one, with inputs
    in the memory format of the weights; the output of a forward in ``bf16`` is float32. All passes are counted. Blocks
    may be nested, also those of two such objects around one model, as where a hook evaluates; the innermost holds.

    Args:
        model: model that is called.
        precision: precision of the passes; None is that of the weights.
        compile: ``off``, ``model`` (forwards by ``torch.compile``) or ``graphs`` (CUDA graphs of attack steps).
        who: name of the caller, for errors.
        accumulate: number of parts in which the passes of a block of ``in_parts`` are made, one after another.

    Raises:
        ConfigError: precision or compilation does not fit the weights or the device, or accumulation the compilation.
        ModelError: the parameters are not on one device.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision | None = None,
        *,
        compile: str = "off",
        who: str,
        accumulate: int = 1,
    ) -> None:
        self.model = model
        self.device = device_of(model, who)
        self.precision = fitting(precision, model, who)
        self._compiled = compiled_passes(compile, model, self.device, who)
        self.modes = Modes(model, by_copies=compile == "model")
        self.counter = PassCounter()
        self._after_forward: Callable[[], None] = _nothing
        self._who = who
        self._accumulate, self._rows = accumulate, 0
        self._parts = InParts(model, self.modes)
        self._work: Work | None = None
        self._parameters = tuple(model.parameters())
        self._channels_last = has_channels_last_weights(model)

    @contextmanager
    def doing(self, work: Work) -> Iterator[None]:
        """Make the passes of the block in the precision of ``work``, in whatever modes the modules have.

        Raises:
            ConfigError: the caller has opened an autocast region.
        """
        before, self._work = self._work, work
        try:
            if before is not None and self.precision.of(before) == self._word:
                yield
                return
            with arithmetic(self._word, self.device):
                if before is not None:
                    yield
                    return
                expect_no_autocast(self.device, self._who)
                with self._innermost(), calls_replaced(self.model, self._made_here), self._explained():
                    yield
        finally:
            self._work = before

    @contextmanager
    def _innermost(self) -> Iterator[None]:
        _OPEN.append(self)
        try:
            yield
        finally:
            _OPEN.remove(self)

    def _holds(self) -> bool:
        """Whether no other block around the model is further in."""
        return next((each for each in reversed(_OPEN) if each.model is self.model), self) is self

    @property
    def _word(self) -> str:
        """The precision of the present work."""
        return self.precision.of(self._work or "train")

    @contextmanager
    def attacking(self, mode: AttackMode = "eval", work: Work = "attack") -> Iterator[None]:
        """Attack in the block: the modules in ``mode``, the weights without gradients (see ``Modes.attacking``)."""
        with self.doing(work), self.modes.attacking(mode):
            yield

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Give verdicts in the block: eval mode, the buffers as they were found; compiled, in the graph of attacks."""
        in_eval_mode = self.modes.evaluating() if self._compiled is None else self.modes.attacking("eval")
        with self.doing("score"), in_eval_mode, self.modes.buffers_as_found():
            yield

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """``[B,K]`` logits for ``x [B,*]`` as an evaluation sees them, without a graph."""
        with self.scoring():
            logits: Tensor = self.model(x)
        return logits

    @contextmanager
    def in_parts(self, rows: int) -> Iterator[None]:
        """Make the passes of the block in parts, ``accumulate`` of them for ``rows`` rows, and as many more for more.

        In a step ``rows`` is the number of examples that this process trains on; fewer than parts are a whole.
        """
        before, self._rows = self._rows, rows if rows >= self._accumulate else 0
        try:
            yield
        finally:
            self._rows = before

    @contextmanager
    def telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` after every forward of the block, for progress bars."""
        before, self._after_forward = self._after_forward, listener
        try:
            yield
        finally:
            self._after_forward = before

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Make the passes of the block operator by operator, also where they are compiled."""
        before, self._compiled = self._compiled, None
        try:
            yield
        finally:
            self._compiled = before

    def _made_here(self, forward: ModelCall) -> ModelCall:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = self._made(forward, args, kwargs) if self._holds() else forward(*args, **kwargs)
            self.counter.count(output, to_weights=any(each.requires_grad for each in self._parameters))
            self._after_forward()
            return output

        return call

    def _made(self, forward: ModelCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``forward(*args, **kwargs)`` in the precision of the present work, in parts where that is asked for."""
        if self._channels_last:
            args = tuple(map(in_channels_last, args))
        word, scoring = self._word, self._work == "score"
        if self._accumulate > 1 and self._rows and not kwargs and len(args) == 1 and isinstance(args[0], Tensor):
            count = min(-(-len(args[0]) * self._accumulate // self._rows), len(args[0]))
            if count > 1:
                return self._parts(lambda part: self._in_precision(word, forward, (part,), {}), args[0], count)
        return self._in_precision(word, forward, args, kwargs, scoring=scoring)

    def _in_precision(
        self, word: str, forward: ModelCall, args: tuple[Any, ...], kwargs: dict[str, Any], *, scoring: bool = False
    ) -> Any:
        with region(word, self.device):
            if self._compiled is not None and not kwargs and len(args) == 1 and isinstance(args[0], Tensor):
                output = self._compiled.call(forward, args[0], scoring=scoring)
            else:
                output = forward(*args, **kwargs)
        if word == "bf16" and isinstance(output, Tensor):
            output = output.float()
        return output

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the cure where a hook of the block takes a gradient of a gradient, which compiled graphs do not have."""
        try:
            yield
        except HookError as fault:
            if self._compiled is not None and _NO_SECOND_GRADIENT in str(fault):
                raise extended(fault, "; set compile: off for this stack") from fault.__cause__
            raise


def _nothing() -> None:
    """Do nothing."""
