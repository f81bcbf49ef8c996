"""The view of the run that every hook gets as ``ctx``, and the services of the core that it offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from torch import Tensor

from buttress.components.curves import NO_EPOCHS
from buttress.engine.drawing import Drawing
from buttress.engine.sharing import Sharing
from buttress.errors import ConfigError
from buttress.settings import Curve, PerEpoch, resolve_epoch
from buttress.storage.history import History, Store

if TYPE_CHECKING:
    from buttress.engine.state import Phase, RunState
    from buttress.types import Adv, Batch

T = TypeVar("T")


class Context(Sharing, Drawing):
    """One plugin's view of the run; handed to its hooks as ``ctx``."""

    def __init__(self, state: RunState, plugin: str) -> None:
        self._state, self.plugin = state, plugin

    @property
    def phase(self) -> Phase:
        """The part of the run that calls: ``attack``, ``perturb``, ``train``, ``ensemble``, ``evaluate``, ``setup``."""
        return self._state.phase

    @property
    def step(self) -> int:
        """0-based, within the epoch."""
        return self._state.step

    @property
    def replays(self) -> int:
        """Number of steps in a row on each batch."""
        return self._state.replays

    @property
    def examples(self) -> int | None:
        """Number of training examples, above every position in ``batch.index``, or None where it is not known."""
        return self._state.examples

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Number of labelled training examples of each class, or None where they are not known."""
        return self._state.classes

    @property
    def skipped(self) -> Tensor:
        """A 0-dim bool on the device: whether the step was taken back, because of ``nonfinite: skip``.

        A plugin that remembers something of every step remembers nothing of such a one:
        ``torch.where(ctx.skipped, old, new)``. False where no steps are skipped.

        Raises:
            RuntimeError: asked for elsewhere than in ``ensemble_weights`` at event ``step``.
        """
        return self._state.skipped

    @property
    def folder(self) -> Path | None:
        """The run's folder, for loggers to write into; None elsewhere."""
        return self._state.folder

    @property
    def store(self) -> PluginStore:
        """Where big append-only state goes."""
        return PluginStore(self._state.store, self.plugin)

    def resolve_epoch(self, value: int | float) -> int:
        """The 0-based epoch of a setting of type ``buttress.settings.Epoch``."""
        return resolve_epoch(value, self.epochs)

    def value(self, setting: PerEpoch[T]) -> T:
        """The value of a setting of type ``buttress.settings.PerEpoch`` in the present epoch; a plain one as it is.

        Raises:
            ConfigError: a schedule over epochs in an evaluation, which has none; or one that does not fit the run.
        """
        if not isinstance(setting, Curve):
            return setting
        if self.phase == "evaluate":
            raise ConfigError(f"{self.plugin}: {NO_EPOCHS}, got {setting}")
        return setting.at(self.epoch, self.epochs)

    def grads(
        self, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> tuple[Tensor | None, ...]:
        """Gradients of ``loss`` (0-dim) with respect to ``params``, each in its own memory; None where nothing flows.

        The one door to weight gradients, which leaves ``.grad`` alone. In a step on several processes ``loss`` is a
        mean over the rows of each, and the gradients are those of the mean over all. Within ``perturb_weights`` use
        ``objective.grads``, which comes through here, keeps buffers as found, and expects finite gradients.

        Args:
            loss: 0-dim loss.
            params: tensors on which it depends.
            retain_graph: whether the graph of ``loss`` stays for another gradient; None: as ``create_graph``.
            create_graph: whether the gradients have a graph of their own, so that a loss may contain them.
        """
        return self._state.part.gradients(
            loss, params, "ctx.grads", retain_graph=retain_graph, create_graph=create_graph
        )

    @property
    def input_grad(self) -> Tensor | None:
        """``[B,*]`` gradient of the total training loss with respect to ``adv.x``, detached; zero where nothing flows.

        It comes out of the backward of the step, so a plugin with ``input_grad = True`` has it for no pass of its own.
        None where no plugin of the stack has this trait.

        Raises:
            RuntimeError: asked for elsewhere than in ``adjust_grads``.
        """
        return self._state.input_grad

    def outputs(self, x: Tensor) -> Tensor | None:
        """Logits ``[B,K]``, with graph, that the last call ``model(x)`` in this ``compute_loss`` gave for ``x`` itself.

        ``x`` is a tensor of the batch or of ``adv``, for example ``adv.x``. None where the model was not called on it,
        or only without gradients; an equal tensor, a view or a part of a longer batch is another one.

        Raises:
            RuntimeError: outside of ``compute_loss``.
        """
        if self._state.outputs is None:
            raise RuntimeError(
                "ctx.outputs(x) is available in compute_loss only, for its provider and its wrappers; elsewhere call "
                "model(x)"
            )
        return self._state.outputs.of(x)

    def losses(self, x_adv: Tensor) -> Tensor:
        """``[B]`` training losses of the batch at attacked inputs ``x_adv [B,*]``, in ``generate_adv`` in training.

        They are those of ``compute_loss`` with its wrappers, without the penalty, in the mode of the attack, with
        gradient to ``x_adv``. ``ctx.phase`` is ``attack`` meanwhile, and ``adv.aux`` is empty.

        Raises:
            RuntimeError: called elsewhere: an evaluation, for one, has no training loss.
            HookError: the training loss does not depend on ``x_adv``.
        """
        if self._state.attacked_losses is None:
            raise RuntimeError(
                "ctx.losses is available in generate_adv of a training attack only; choose another loss elsewhere"
            )
        return self._state.attacked_losses(x_adv)

    def batches(self, split: Literal["train", "validation"] = "train") -> Iterable[Batch]:
        """A split, batch by batch, in the same order every time.

        Args:
            split: ``train``: the training set in a fixed order, as ``transform_batch`` makes it. ``validation``: the
                validation split in its order, as it is, without positions.

        Raises:
            ConfigError: the engine was not given it (``Engine(batches=..., validation=...)``).
        """
        if split == "train":
            return self._state.training_batches(self.plugin)
        if split == "validation":
            return (replace(batch, index=None) for batch in self._state.validation_batches())
        raise ValueError(f"ctx.batches: expected 'train' or 'validation', got {split!r}")

    def attack(self, batch: Batch) -> Adv:
        """Adversarial examples for any batch by the run's training attack, in eval mode, at the current weights.

        The attack draws from streams that belong to this plugin, and what it records is no metric of the run.

        Raises:
            RuntimeError: in other hooks than ``ensemble_weights`` at event ``epoch``, and ``end_epoch``.
            DataError: the batch is of a wrong kind or outside the box.
        """
        if self._state.attack is None or self.phase != "ensemble":
            raise RuntimeError(
                "ctx.attack(batch) is available in ensemble_weights at event 'epoch' and in end_epoch only; within "
                "perturb_weights call objective.attack()"
            )
        return self._state.attack(self.plugin, batch)

    def record(self, name: str, value: Tensor | float) -> None:
        """Add to a metric that is averaged over the logging interval; a tensor (0-dim) stays on its device.

        In a step on several processes each gives the mean over its own rows, or a number that all have alike.

        Raises:
            TypeError: ``value`` is no number; the error that a user sees names the plugin.
        """
        if isinstance(value, Tensor):
            if value.numel() != 1 or value.is_complex():
                raise TypeError(
                    f"ctx.record({name!r}): expected a number or a tensor of one, got a tensor of shape "
                    f"{list(value.shape)} and {value.dtype}; give its mean(), or another number"
                )
            value = value.detach()
        elif not isinstance(value, (int, float, np.number)):
            raise TypeError(f"ctx.record({name!r}): expected a number, got {type(value).__name__}")
        self._state.record(f"{self.plugin}.{name}", value)


class PluginStore:
    """The part of the run's store that belongs to one plugin."""

    def __init__(self, store: Store, plugin: str) -> None:
        self._store, self._plugin = store, plugin

    def history(self, where: Literal["disk", "memory"], *, budget: int | None = None) -> History:
        """An append-only sequence of named tensors.

        Args:
            where: ``disk`` (one file a snapshot in the run's ``history/``) or ``memory``.
            budget: bytes that a history in memory may take.
        """
        return self._store.history(self._plugin.replace("#", "-"), where, budget)
