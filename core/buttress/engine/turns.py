"""Compare after each call of a hook all that it must leave unchanged, and name the plugin that changed it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from buttress.engine.checks import ValueChecks
from buttress.engine.first_bad import Giver
from buttress.engine.given import Given
from buttress.engine.process_state import ProcessState
from buttress.nn.modes import Modes
from buttress.nn.parts import Parts


class Watch:
    """Makes the turns of the plugins of one engine.

    Args:
        checks: at level ``always`` values and the process are compared too; otherwise only things that cost no time.
    """

    def __init__(self, checks: ValueChecks) -> None:
        self.thorough = checks.level == "always"
        self.lenient = False
        """Whether nothing is refused, for the examination of a plugin, which looks at one thing after the other."""
        self.process = os.getpid()
        self.at_work: Giver | None = None
        """The plugin whose turn it is."""
        self.parts: Parts | None = None
        self.weights_move: bool | None = None
        """Whether the model's own forward writes into its parameters, so that no plugin is to blame for a write; None
        where that is not known yet."""
        self._moved: Tensor | None = None

    def begin(self, model: nn.Module) -> None:
        """Expect after every turn from now on that ``model`` consists of the parts that it has now."""
        self.process = os.getpid()
        if self.parts is None or self.parts.model is not model or self.parts.exchanged():
            self.parts = Parts(model)

    def parts_of(self, model: nn.Module) -> Parts:
        """The parts that ``model`` is expected to have."""
        if self.parts is None or self.parts.model is not model:
            self.parts = Parts(model)
        return self.parts

    def compare(self, model: nn.Module, before: Sequence[Tensor]) -> None:
        """Find out whether forwards write into the weights of ``model``, of which ``before`` holds earlier copies.

        Once for an engine. Without level ``always`` the verdict stays on the device until ``settle``.
        """
        if self.weights_move is None and self._moved is None:
            with torch.no_grad():
                changed = [(weight != old).any() for weight, old in zip(model.parameters(), before, strict=True)]
                self._moved = torch.stack(changed).any()
            if self.thorough:
                self.settle()

    def settle(self) -> None:
        """Read the verdict of ``compare``, where there is one; may wait for the device."""
        if self._moved is not None:
            self.weights_move = bool(self._moved) or self.weights_move is True
            self._moved = None

    def turn(self, who: Giver, arguments: Mapping[str, Any], writes: bool) -> Turn:
        """Begin a turn.

        Args:
            who: plugin whose turn it is.
            arguments: arguments of the hook, by name.
            writes: whether the hook may write into the model's parameters.
        """
        if (model := arguments.get("model")) is not None:
            self.parts_of(model)
        return Turn(self, who, arguments, writes or self.weights_move is True)


class Turn:
    """A ``with`` block in which a plugin is at work; made right before the block begins.

    Raises:
        ButtressError: at the end of a block that has not raised, in the plugin's name. The plugin has written into a
            tensor that it was given to read, exchanged a part of the model, moved weights that it must not move, or
            changed the process. Inputs, labels and the process are restored.
    """

    __slots__ = ("_arguments", "_around", "_given", "_parts", "_process", "_versions", "_watch", "_who")

    def __init__(self, watch: Watch, who: Giver, arguments: Mapping[str, Any], writes: bool) -> None:
        self._watch, self._who, self._arguments, self._parts = watch, who, arguments, watch.parts
        self._around = watch.at_work
        self._given = Given(arguments, watch.thorough)
        self._versions = None if writes or self._parts is None else self._parts.versions()
        self._process = ProcessState.now() if watch.thorough else None

    def __enter__(self) -> None:
        self._watch.at_work = self._who

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._watch.at_work = self._around
        if os.getpid() != self._watch.process:
            self._leave_child()
        if error is not None:
            self.put_back()
        elif not self._watch.lenient:
            self.expect_clean()

    def put_back(self) -> None:
        """Restore inputs, labels and the process, of which level ``always`` keeps copies."""
        self._given.put_back()
        if self._process is not None:
            self._process.put_back()

    def expect_unwritten(self) -> None:
        """Expect no writes into the tensors that the plugin was given to read."""
        if self._watch.lenient:
            return
        if name := self._given.written():
            self._given.put_back()
            raise self._who.fault(
                f"{name} was changed in place; a hook reads what it is given: work on a copy, {name}.clone()"
            )

    def expect_whole(self) -> None:
        """Expect a model that consists of the same parts as before."""
        if self._parts is not None and not self._watch.lenient and (change := self._parts.exchanged()):
            raise self._who.fault(
                f"{change}; the optimizer and the other plugins hold the old one: change values in place, and "
                "build the model, in its dtype, before the engine is made"
            )

    def expect_clean(self) -> None:
        """Expect both, and no writes into weights where the hook must not write them, and an unchanged process."""
        self.expect_unwritten()
        self.expect_whole()
        self._expect_weights()
        if self._process is not None and (change := self._process.changed()):
            self._process.put_back()
            raise self._who.fault(
                f"{change}, for everybody; put it back before the hook ends, as a context manager does"
            )

    def _expect_weights(self) -> None:
        if self._parts is None or self._versions is None:
            return
        name = self._parts.written_since(self._versions)
        if name and not self._written_by_forward():
            raise self._who.fault(
                f"the weight {name!r} was changed; this hook reads the weights: change them in perturb_weights, or in "
                "ensemble_weights with writes_back = True"
            )

    def _written_by_forward(self) -> bool:
        """Whether a forward of the model writes into its own parameters."""
        parts, batch = self._parts, self._arguments.get("batch")
        assert parts is not None
        if batch is None:
            return False
        before = parts.versions()
        with torch.no_grad(), Modes(parts.model).buffers_as_found(), suppress(Exception):
            parts.model(batch.x.clone())
        if moved := bool(parts.written_since(before)):
            self._watch.weights_move = True
        return moved

    def _leave_child(self) -> NoReturn:
        """End a process that was forked in this turn; the run, its folder and its locks belong to the parent."""
        fault = self._who.fault(
            "the hook came back in a process that it has forked, which ends here; end a child with os._exit()"
        )
        with suppress(OSError):
            os.write(2, f"error: {fault}\n".encode(errors="replace"))
        os._exit(1)
