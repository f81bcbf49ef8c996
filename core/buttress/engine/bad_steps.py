"""Skip bad steps on the device: a step whose loss, gradients or weights are not finite is taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.engine.first_bad import FirstBad, Giver
from buttress.engine.world import World
from buttress.errors import DivergenceError, describe, moment
from buttress.nn.as_found import can_be_written
from buttress.nn.finite import FiniteTensors
from buttress.nn.scratch import Scratch
from buttress.nn.weights import norms_of


class _Update:
    """The giver to blame where the new weights are not finite: the optimizer's step."""

    def fault(self, message: str, when: tuple[int, int] | None = None) -> DivergenceError:
        first = f" first at {moment(*when)}" if when else ""
        return DivergenceError(f"{self}{first}: {message}")

    def failure(self, problem: BaseException) -> DivergenceError:
        return self.fault(describe(problem))

    def __str__(self) -> str:
        return "the optimizer's step"


class _Forwards(_Update):
    """The giver to blame where buffers are not finite: the forwards of a step, which move them."""

    def __str__(self) -> str:
        return "the model's forwards"


_UPDATE, _FORWARDS = _Update(), _Forwards()


class BadSteps:
    """Takes back every step whose training loss, gradients, new weights or buffers are not finite, and counts them.

    Weights, buffers, the optimizer's state and the records of that step get the values from before it by
    ``torch.where``, so the host does not wait. There is one exception: state that the optimizer keeps on the host, or
    creates in that step (its first), cannot be chosen on the device. In that case the host waits.

    Args:
        limit: number of consecutive bad steps that ends the run.
        device: device of the model.
        finite: knows which buffers of the model must be finite.
        world: ranks of the run, which take a step back all together.
    """

    def __init__(self, limit: int, device: torch.device, finite: FiniteTensors, world: World) -> None:
        self._limit, self._finite, self._memory, self._world = limit, finite, Scratch(), world
        self._first_bad = FirstBad(device)
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)  # all, in a row now, longest row since read
        self._reported = 0
        self.skipped = 0
        """Steps skipped in the whole run, as of the last ``read``."""
        self.taken = torch.ones((), dtype=torch.bool, device=device)
        """0-dim bool: whether the last step was taken."""

    def begin(
        self, model: nn.Module, weights: Sequence[Tensor], optimizer: Optimizer, records: Mapping[str, list[Any]]
    ) -> Before:
        """Copy all that a step changes, before the step; ``weights`` holds copies of the parameters of ``model``."""
        self.taken = torch.ones_like(self.taken)
        return Before(model, weights, optimizer, records, self._memory)

    def note(self, who: Giver, good: Tensor, when: tuple[int, int], names: Sequence[str]) -> None:
        """Mark the step as bad unless all of ``good`` is true, and remember the first culprit since ``read``."""
        self.taken = self.taken & good.all()
        self._first_bad.note(who, good, when, names)

    def end(self, before: Before, when: tuple[int, int], *, wait: bool) -> None:
        """Take the step back if it was a bad one; with ``wait`` the host reads the verdict, and does nothing else."""
        weights = dict(before.model.named_parameters())
        good = torch.isfinite(norms_of([weight.detach() for weight in weights.values()]))
        # The update is not to blame where the loss or the gradients were bad already.
        self.note(_UPDATE, good | ~self.taken, when, [f"the weight {name!r}" for name in weights])
        names, fine = self._finite.finite_buffers()
        if names:
            self.note(_FORWARDS, fine | ~self.taken, when, [f"the buffer {name!r}" for name in names])
        self.taken = self._world.all(self.taken, "bad steps")
        if not wait or not self.taken:
            before.restore_unless(self.taken)
        total, row, longest = self._counts.unbind()
        total.add_(~self.taken)
        row.copy_(torch.where(self.taken, 0, row + 1))
        longest.copy_(torch.maximum(longest, row))

    def expect_progress(self) -> None:
        """Expect fewer consecutive bad steps than the limit; synchronises with the device.

        Raises:
            DivergenceError: the number of consecutive bad steps has reached the limit.
        """
        if int(self._counts[2]) >= self._limit:
            self.read()

    def read(self) -> str:
        """A sentence about the steps skipped since the last call, or nothing; synchronises with the device.

        Raises:
            DivergenceError: the number of consecutive bad steps has reached the limit.
        """
        self.skipped, row, longest = self._counts.tolist()
        new, self._reported = self.skipped - self._reported, self.skipped
        if not new:
            return ""
        self._counts[2] = row
        first = self._culprit()
        if longest >= self._limit:
            raise DivergenceError(
                f"the run has diverged: {longest} steps in a row had to be skipped; since the last look, {first}; "
                "lower the learning rate, or raise max_skipped"
            )
        return f"{new} bad step{'s' if new > 1 else ''} skipped, {first}"

    def _culprit(self) -> str:
        """A clause about the first bad step, on several ranks that of the one that saw what the fewest others saw."""
        verdict = self._first_bad.take()
        here = verdict and (
            f"the first at {moment(verdict.epoch, verdict.step)}: {verdict.part} is not finite ({verdict.who})"
        )
        seen = [(rank, each) for rank, each in enumerate(self._world.gathered(here, "bad steps")) if each]
        assert seen  # every step that was counted was noted
        texts = [each for _, each in seen]
        rank, first = min(seen, key=lambda pair: texts.count(pair[1]))
        return first if texts.count(first) == self._world.size else f"{first}, on rank {rank}"

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._counts.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts.copy_(state["counts"])
        self._reported = self.skipped = int(self._counts[0])  # who was to blame is not part of the state


class Before:
    """A copy of all that a step changes, made before the step.

    Args:
        model: model whose buffers are copied.
        weights: copies of its parameters.
        optimizer: optimizer whose ``state`` is copied; values that it keeps elsewhere (in its groups) are not.
        records: metrics of plugins: name to total and count.
        memory: memory for the copies, used again in every step.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Sequence[Tensor],
        optimizer: Optimizer,
        records: Mapping[str, list[Any]],
        memory: Scratch,
    ) -> None:
        self.model, self._weights, self._optimizer, self._records = model, weights, optimizer, records
        self._totals = {name: list(total) for name, total in records.items()}
        buffers = {name: value for name, value in model.named_buffers() if can_be_written(value)}
        state = optimizer.state
        tensors = [*buffers.values(), *(v for own in state.values() for v in own.values() if isinstance(v, Tensor))]
        copies = iter(memory.copies(tensors))
        self._buffers = {name: next(copies) for name in buffers}
        self._state = {
            weight: {key: next(copies) if isinstance(value, Tensor) else deepcopy(value) for key, value in own.items()}
            for weight, own in state.items()
        }

    @torch.no_grad()
    def restore_unless(self, taken: Tensor) -> None:
        """Restore everything where ``taken``, a 0-dim bool on the device, is false."""
        for weight, old in zip(self.model.parameters(), self._weights, strict=True):
            _choose(taken, weight, old)
        buffers = dict(self.model.named_buffers())
        for name, old in self._buffers.items():
            _choose(taken, buffers[name], old)
        for name, total in self._records.items():
            earlier = self._totals.get(name, [0.0, 0.0])
            total[:] = [torch.where(taken, now, old) for now, old in zip(total, earlier, strict=True)]
        if self._on_device(taken.device):
            for parameter, own in self._optimizer.state.items():
                for key, value in own.items():
                    if value is not None:
                        _choose(taken, value, self._state[parameter][key])
        elif not taken:
            self._optimizer.state.clear()
            self._optimizer.state.update({weight: _cloned(own) for weight, own in self._state.items()})

    def _on_device(self, device: torch.device) -> bool:
        """Whether every entry of the optimizer's state existed before the step and lies on the device."""
        state: Mapping[Tensor, Mapping[str, Any]] = self._optimizer.state
        return all(
            value is None
            or (isinstance(value, Tensor) and value.device == device and key in self._state.get(weight, ()))
            for weight, own in state.items()
            for key, value in own.items()
        )


def _cloned(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in own.items()}


def _choose(taken: Tensor, value: Tensor, old: Tensor) -> None:
    torch.where(taken, value.detach(), old, out=value.detach())
