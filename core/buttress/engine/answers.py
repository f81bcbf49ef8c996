"""Check every answer of a hook, and every batch from a caller, for kind, shape and values; name who gave it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from buttress.engine.checks import ValueChecks
from buttress.engine.first_bad import Giver, Provider
from buttress.engine.labels import (
    are_labels,
    are_positions,
    first_wrong_label,
    wrong_kind_of_aux,
    wrong_kind_of_labels,
)
from buttress.engine.named_manager import NamedManager
from buttress.engine.state import RunState
from buttress.engine.turns import Turn
from buttress.engine.wrong_values import nonfinite_gradients, outside_box, outside_threat, range_of, unlike
from buttress.errors import DataError, describe, moment
from buttress.nn.contract import form_of, is_dense
from buttress.nn.layout import plain_strides
from buttress.nn.modes import usable
from buttress.nn.weights import norms_of
from buttress.storage.files import PLAIN_NAME
from buttress.types import Adv, Batch, BatchNormInputs, Loss, ParamGroup, Track, TrackBuffers


class Answers:
    """Accepts answers: each method returns the answer in its final form, or raises an error that names the giver.

    Args:
        state: has the threat model, and the step for messages.
        checks: decides when values are checked.
    """

    def __init__(self, state: RunState, checks: ValueChecks) -> None:
        self._state, self._checks = state, checks
        self._classes: int | None = None
        self._unclassed: list[tuple[Giver, Tensor]] = []

    def expect_classes(self, classes: int) -> None:
        """Expect labels of this many classes, in the labels of this step and in all later ones.

        Raises:
            DataError, HookError: a label of this step is none of these classes.
        """
        self._classes = classes
        for who, y in self._unclassed:
            self._labels(who, y)
        self._unclassed.clear()

    def inputs(self, batch: Batch, who: Caller | None = None) -> Batch:
        """A batch from a caller: ``who``, or ``engine.step`` where None.

        Raises:
            DataError: x, y, index or aux is of a wrong kind, x is outside the box, a label is none of the model's
                classes, or a position is none of the training set.
        """
        who = who or _STEP
        x, y, index = batch.x, batch.y, batch.index
        device = self._state.device
        good_kind = is_dense(x) and x.is_floating_point() and x.dim() >= 2 and x.device == device
        if not good_kind or len(x) == 0:
            raise who.fault(
                f"expected dense floating-point x [B,*] with at least one example on {device}, got {form_of(x)}"
            )
        if wrong := wrong_kind_of_labels(batch) or wrong_kind_of_aux(batch):
            raise who.fault(wrong)
        x, y, index = plain_strides(usable(x)), usable(y), None if index is None else usable(index)
        if self._checks.level != "off":
            self._values(who, self._state.threat.box_contains(x), lambda: outside_box(x))
        self._unclassed.clear()
        self._labels(who, y)
        self._positions(who, index)
        return Batch(x, y, index, {name: usable(value) for name, value in batch.aux.items()})

    def batch(self, who: Giver, answer: Any, batch: Batch) -> Batch:
        """The answer of ``transform_batch`` to ``batch``."""
        if not isinstance(answer, Batch):
            raise who.fault(f"expected a Batch, got {form_of(answer)}; return the batch, changed or as it came")
        if answer is batch:  # checked already
            return batch
        x, y = answer.x, answer.y
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise who.fault(f"expected tensors x and y, got {form_of(x)} and {form_of(y)}")
        if not is_dense(x) or x.dtype != batch.x.dtype or x.device != batch.x.device or x.dim() < 2 or len(x) == 0:
            raise who.fault(f"expected x [B,*] of {batch.x.dtype} on {batch.x.device}, got {form_of(x)}")
        if wrong := wrong_kind_of_labels(answer) or wrong_kind_of_aux(answer):
            raise who.fault(wrong)
        if lost := [name for name in batch.aux if name not in answer.aux]:
            raise who.fault(
                f"the batch has lost aux {lost[0]!r}; return dataclasses.replace(batch, x=...), which keeps the rest"
            )
        for name, value in (("x", x), ("y", y)):
            if value.requires_grad:
                raise who.fault(f"expected a detached {name}, got one with a graph; return {name}.detach()")
        if self._checks.level != "off" and x is not batch.x:
            self._values(who, self._state.threat.box_contains(x), lambda: outside_box(x))
        if y is not batch.y:
            self._labels(who, y)
        plain = plain_strides(x)
        return answer if plain is x else replace(answer, x=plain)

    def as_is(self, x: Tensor) -> Tensor:
        """``x`` to compare a later answer with: a copy where nobody else would notice a write into it."""
        return x.clone() if self._checks.level == "interval" else x  # at level always a Turn compares copies

    def adv(self, who: Giver, answer: Any, batch: Batch, x: Tensor | None = None, *, radius: float = 1.0) -> Adv:
        """The answer of ``generate_adv`` to ``batch``, or one yielded by a weight perturbation.

        ``x`` holds the inputs of the batch as they were before the call, where they may have been written into;
        ``radius`` is the largest distance from them, in units of eps.
        """
        adv = Adv(answer) if isinstance(answer, Tensor) else answer
        if not isinstance(adv, Adv) or not isinstance(adv.x, Tensor):
            raise who.fault(f"expected an Adv or a tensor, got {form_of(answer)}; return Adv(x)")
        x = batch.x if x is None else x
        if adv.x.shape != x.shape or adv.x.dtype != x.dtype or adv.x.device != x.device:
            raise who.fault(f"expected adversarial examples like the batch's x, {form_of(x)}, got {form_of(adv.x)}")
        if adv.x.requires_grad:
            raise who.fault("expected detached adversarial examples; return x_adv.detach()")
        for name, value in adv.aux.items():
            if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != len(x):
                raise who.fault(f"aux {name!r}: expected a tensor [{len(x)},...], got {form_of(value)}")
        if self._checks.level != "off":
            good = self._state.threat.contains(adv.x, x, radius)
            self._values(who, good, lambda: outside_threat(self._state.threat, adv.x, x, radius))
        if type(adv.x) is not Tensor:  # all that is computed from it, even the weights, would be of its class
            adv = replace(adv, x=adv.x.as_subclass(Tensor))
        if adv.x.is_inference():  # autograd refuses it
            adv = replace(adv, x=usable(adv.x), aux={name: usable(value) for name, value in adv.aux.items()})
        plain = plain_strides(adv.x)
        return adv if plain is adv.x else replace(adv, x=plain)

    def loss(self, who: Giver, answer: Any, batch: Batch) -> Loss:
        """The answer of ``compute_loss`` for ``batch``."""
        loss = Loss(answer) if isinstance(answer, Tensor) else answer
        if not isinstance(loss, Loss):
            raise who.fault(f"expected losses [B] or a Loss, got {form_of(answer)}; return per-example losses")
        losses, penalty = loss.per_example, loss.penalty
        good_kind = isinstance(losses, Tensor) and losses.is_floating_point() and losses.device == batch.x.device
        if not good_kind or losses.shape != batch.y.shape[:1]:
            raise who.fault(
                f"expected floating-point losses of shape ({len(batch.y)},) on {batch.x.device}, got {form_of(losses)}"
                "; return one loss per example (reduction='none')"
            )
        if penalty is not None and not (isinstance(penalty, Tensor) and penalty.dim() == 0):
            raise who.fault(f"expected a 0-dim penalty, got {form_of(penalty)}")
        if self._checks.watches_finite:
            message = (
                "expected a finite training loss, got a non-finite one; the run has diverged: lower the learning rate"
            )
            self._finite(who, torch.isfinite(loss.total().detach()), lambda: message)
        return loss

    def gradients(self, who: Giver, named: Callable[[], Mapping[str, Tensor]]) -> None:
        """Gradients by parameter name: those of the loss, of a perturbation, or as ``adjust_grads`` has left them."""
        if not self._checks.watches_finite:
            return  # before the names are made, which costs microseconds
        if grads := named():
            good = torch.isfinite(norms_of(list(grads.values())))
            names = [f"the gradient of {name!r}" for name in grads]
            self._finite(who, good, lambda: nonfinite_gradients(list(grads), good), names)

    def masked(self, who: Giver, answer: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The answer of a loss plugin's ``masked_loss`` for ``batch``.

        The mean leaves out an example whose loss is not finite; the training loss of the same step shows it.
        """
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise who.fault(f"expected (mean, kept), got {form_of(answer)}")
        mean, kept = answer
        for name, value, good in (
            ("a 0-dim floating-point mean", mean, isinstance(mean, Tensor) and mean.is_floating_point()),
            ("a 0-dim int64 number kept", kept, isinstance(kept, Tensor) and kept.dtype == torch.int64),
        ):
            if not good or value.dim() != 0 or value.device != batch.x.device:
                raise who.fault(f"expected {name} on {batch.x.device}, got {form_of(value)}")
        if self._checks.watches_finite:
            self._finite(who, torch.isfinite(mean.detach()), lambda: "expected a finite mean of losses")
        return mean, kept

    def manager(
        self, who: Giver, answer: Any, batch: Batch, turn: Turn, radius: float
    ) -> AbstractContextManager[Adv | None] | None:
        """The answer of ``perturb_weights``: a manager that yields adversarial examples for ``batch``, or nothing.

        ``turn`` lasts from entering the manager to leaving it; ``radius`` is that of the examples, see ``adv``.
        """
        if answer is None or isinstance(answer, NamedManager):
            return answer
        if not isinstance(answer, AbstractContextManager):
            raise who.fault(f"expected a context manager or None, got {form_of(answer)}")
        return NamedManager(answer, who, turn, lambda given: self.adv(who, given, batch, radius=radius))

    def groups(self, who: Giver, answer: Any, groups: list[ParamGroup]) -> list[ParamGroup]:
        """The answer of ``param_groups`` to ``groups``."""
        if not isinstance(answer, list) or not all(isinstance(group, ParamGroup) for group in answer):
            raise who.fault(f"expected a list of ParamGroup, got {form_of(answer)}")
        before, after = (sorted(name for group in some for name in group.names) for some in (groups, answer))
        if before != after:
            wrong = sorted(set(before) ^ set(after) | {name for name in after if after.count(name) > 1})
            raise who.fault(
                f"expected every parameter in exactly one group; lost, made up or twice: {', '.join(wrong)}"
            )
        return answer

    def track(self, who: Provider, answer: Any, model: nn.Module, taken: Collection[str]) -> Track:
        """The answer of ``ensemble_weights`` at event ``evaluate``; ``taken`` holds the names of earlier tracks.

        Raises:
            PluginError: the name is taken, or no file can have it. It is a setting, so the user can change it.
        """
        if not isinstance(answer, Track):
            raise who.fault(f"expected a Track or None at event 'evaluate', got {form_of(answer)}")
        if not isinstance(answer.name, str) or not PLAIN_NAME.fullmatch(answer.name):
            raise who.refusal(
                f"track name {answer.name!r}: expected letters, digits, . _ - (no path): files are named after it"
            )
        if answer.name in taken:
            raise who.refusal(f"the track name {answer.name!r} is taken; give it another one (setting 'track')")
        for field, allowed in (("buffers", get_args(TrackBuffers)), ("bn_inputs", get_args(BatchNormInputs))):
            if getattr(answer, field) not in allowed:
                raise who.fault(
                    f"track {answer.name!r}: {field}: expected one of {', '.join(allowed)}, "
                    f"got {getattr(answer, field)!r}"
                )
        places = dict(model.named_parameters())
        wrong = (
            [] if answer.weights is None else unlike(answer.weights, places) + sorted(set(places) - {*answer.weights})
        )
        if wrong:
            raise who.fault(
                f"track {answer.name!r}: expected a tensor for every parameter of the model, of its shape; "
                f"wrong: {', '.join(wrong[:5])}"
            )
        wrong = unlike(answer.given_buffers, dict(model.named_buffers()))
        if wrong:
            raise who.fault(
                f"track {answer.name!r}: given_buffers: expected tensors by the names of the model's buffers, of their "
                f"shapes; wrong: {', '.join(wrong[:5])}"
            )
        return answer

    def _labels(self, who: Giver, y: Tensor) -> None:
        """Expect labels ``[B]`` of the model's classes, or soft labels ``[B,K]``, distributions over them."""
        classes = self._classes
        if classes is None:
            self._unclassed.append((who, y))
        elif y.dim() == 2 and y.shape[1] != classes:
            raise who.fault(
                f"expected soft labels [{len(y)},{classes}], one probability for each of the model's classes, got "
                f"{form_of(y)}; give those, or int64 labels [B]"
            )
        if self._checks.level != "off":
            self._values(who, are_labels(y, classes), lambda: first_wrong_label(y, classes))

    def _positions(self, who: Giver, index: Tensor | None) -> None:
        """Expect positions ``[B]`` in the training set, where its size is known."""
        examples = self._state.examples
        if index is not None and examples is not None and self._checks.level != "off":
            message = f"expected positions index from 0 to {examples - 1}, those of the {examples} training examples"
            self._values(who, are_positions(index, examples), lambda: f"{message}, got {range_of(index)}")

    def _values(self, who: Giver, good: Tensor, describe: Callable[[], str]) -> None:
        self._checks.expect(who, good, (self._state.epoch, self._state.step), describe)

    def _finite(
        self, who: Giver, good: Tensor, describe: Callable[[], str], names: Sequence[str] = ("the loss",)
    ) -> None:
        self._checks.expect_finite(who, good, (self._state.epoch, self._state.step), describe, names)


class Caller:
    """A caller from outside who hands examples in, named in errors about them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def fault(self, message: str, when: tuple[int, int] | None = None) -> DataError:
        first = f" first at {moment(*when)}" if when else ""
        return DataError(f"{self._name}{first}: {message}")

    def failure(self, problem: BaseException) -> DataError:
        return self.fault(describe(problem))


_STEP = Caller("engine.step")
