"""One training step, in hook order. Usable in anybody's own loop; the trainer is built on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import proxy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.registry import as_loaded, load_plugins, provides
from buttress.engine.bad_steps import BadSteps
from buttress.engine.checks import CheckLevel, ValueChecks
from buttress.engine.context import Phase, RunState
from buttress.engine.gradients import gradients
from buttress.engine.groups import Groups, OptimizerFactory
from buttress.engine.hooks import Hooks
from buttress.engine.objective import Objective
from buttress.engine.perturbation import Copies, Perturbed, perturbed
from buttress.engine.plugin_states import load_states, states_of
from buttress.errors import ButtressError, ConfigError, ModelError, WorkError, describe
from buttress.nn.as_found import AsFound
from buttress.nn.batchnorm import reestimate
from buttress.nn.contract import Forwards, device_of, expect_learnable
from buttress.nn.finite import FiniteTensors
from buttress.nn.modes import ATTACK_MODES, AttackMode, Modes, takes_gradients, usable, weights_swapped
from buttress.storage.history import Store
from buttress.streams import Streams
from buttress.threat import ThreatModel, expect_threat
from buttress.types import Adv, Batch, Loss, StepResult, Track

logger = logging.getLogger("buttress")


class Engine:
    """Runs any stack of defenses on ready objects; resets neither the model nor the optimizer.

    Args:
        model: any module that maps ``[B,*]`` to logits ``[B,K]``; on one device, any floating dtype.
        optimizer: an optimizer over the model's parameters, or a factory ``groups -> optimizer`` (required by plugins
            that split parameter groups), for example ``functools.partial(torch.optim.SGD, lr=0.1)``.
        plugins: plugin objects, or entries as in a config: ``["pgd", {"meat": {"start": 60}}]``. Order is call order.
        threat: the threat model.
        seed: of every random draw that a plugin makes.
        epochs: of the whole run; needed where a setting is a fraction of the epochs.
        steps_per_epoch: told to plugins that ask.
        attack_mode: ``train``, ``train_notrack`` or ``eval``; None takes the attack plugin's own setting, else eval.
        checks: of the values of answers: ``always`` (default on the CPU), ``interval`` (default on CUDA), ``off``.
        nonfinite: where loss, gradients or weights are not finite, ``stop`` raises, ``skip`` takes the step back on
            the device.
        max_skipped: so many skipped steps in a row end the run.
        history: folder for snapshots that plugins keep on disk.
        batches: makes an iterable over the training set, for what measures batch-norm statistics on it; its batches
            pass through ``transform_batch`` first, as training's do.

    Raises:
        PluginError: the plugins do not fit together.
        ConfigError: no threat model, no list of plugins, or a word that is none of those above.
        ModelError: the model has no parameters, has them on several devices, or has some that cannot learn.

    ``attack_mode``, ``epoch`` and ``global_step`` may be written at any time.
    """

    @takes_gradients
    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | OptimizerFactory,
        plugins: Sequence[Any],
        threat: ThreatModel,
        *,
        seed: int = 0,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        attack_mode: AttackMode | None = None,
        checks: CheckLevel | None = None,
        nonfinite: Literal["stop", "skip"] = "stop",
        max_skipped: int = 20,
        history: Path | str | None = None,
        batches: Callable[[], Iterable[Batch]] | None = None,
    ) -> None:
        device = device_of(model, "engine")
        expect_learnable(model, "engine")
        expect_threat(threat, "engine")
        checks = checks or ("always" if device.type == "cpu" else "interval")
        _expect_word("checks", checks, get_args(CheckLevel))
        _expect_word("nonfinite", nonfinite, ("stop", "skip"))
        self.model = model
        self.plugins = tuple(as_loaded(plugins))
        self._state = RunState(
            threat,
            device,
            seed=seed,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            store=Store(Path(history) if history is not None else None),
        )
        if batches is not None:
            itself = proxy(self)  # no cycle: an engine that is dropped frees its model at once
            self._state.training_batches = partial(Engine._training_batches, itself, batches)
        self._finite = FiniteTensors(model)
        self._bad_steps = BadSteps(max_skipped, device, self._finite) if nonfinite == "skip" else None
        self._checks = ValueChecks(checks, device, self._bad_steps)
        if not any(provides(plugin, "compute_loss") for plugin in self.plugins):
            self.plugins += tuple(load_plugins(["cross_entropy"]))  # the core's default, found like any plugin
            logger.info("no plugin provides compute_loss: the loss is cross_entropy")
        self.hooks = Hooks(self.plugins, self._state, self._checks)
        self._modes = Modes(model)
        self._forwards = Forwards(model, self.hooks.answers.expect_classes)
        self._copies = Copies()
        with self._kept_on_error():
            self._groups = Groups(model, optimizer, self.hooks)
        self.optimizer = self._groups.optimizer
        attack = self.hooks.provider("generate_adv")
        self.attack_mode: AttackMode = attack_mode or (attack and attack.traits.attack_mode) or "eval"
        _expect_word("attack_mode", self.attack_mode, ATTACK_MODES)
        self._started = False

    # One training step

    @takes_gradients
    def step(
        self, x: Tensor, y: Tensor, *, index: Tensor | None = None, draws: Mapping[str, Tensor] | None = None
    ) -> StepResult:
        """One whole training step; nothing here waits for the device.

        Args:
            x: ``[B,*]`` inputs inside the threat model's box.
            y: ``[B]`` int64 labels, or ``[B,K]`` soft labels.
            index: ``[B]`` positions in the training set, for plugins that keep a value per example.
            draws: random draws to use in the place of a plugin's own: ``{"pgd.start": noise}``.

        Raises:
            DataError: x or y of a wrong kind, x outside the box, or labels of other classes than the model's.
            ModelError: the model is in eval mode, or its forward does not give logits ``[B,K]``.
            HookError: a plugin raised, gave a wrong answer or changed what it must not; the model is as before the step
                (where it was ``ensemble_weights``, which comes after the update, the weights are the updated ones).
            DivergenceError: ``max_skipped`` bad steps in a row.
            WorkError: the optimizer raised.
        """
        self.start()
        batch = self._accept(x, y, index)
        state, guard = self._state, self._bad_steps
        state.rewind()  # a step that failed and is tried again draws what it drew
        state.draws, state.asked = draws or {}, set()
        before = guard.begin(self.model, self.optimizer, state.records) if guard else None
        self.hooks.watch.begin(self.model)
        found = AsFound(self.model)
        with self._forwards.watched(batch.x), found.kept_on_error():
            with found.values_kept_on_error(self._copies.before, self._copies.buffers) as saved:
                result = self._update(batch, saved)
            if guard and before:
                guard.end(before, (state.epoch, state.step))
            state.phase = "ensemble"
            self.hooks.ensemble_weights(self.model, "step")

        state.draws = {}
        state.step += 1
        state.global_step += 1
        if guard and self._checks.level == "always":
            guard.expect_progress()
        return result

    def _update(self, batch: Batch, saved: Sequence[Tensor]) -> StepResult:
        """From the batch to the optimizer's step; ``saved`` are copies of the weights."""
        state, hooks = self._state, self.hooks
        state.phase = "train"
        batch = hooks.transform_batch(batch)
        adv = self._attack(batch)
        with self._perturbed(batch, adv, saved) as perturbation:
            loss = self._loss(batch, perturbation.adv)
            self._backward(loss)
            perturbation.before_step()
            hooks.adjust_grads(self.model, self.optimizer)
            self._state.expect_draws_used()
            self._take_step()
        return StepResult(loss.per_example.detach(), perturbation.adv)

    @takes_gradients
    def _attack(self, batch: Batch, mode: AttackMode | None = None) -> Adv:
        if batch.x.is_inference():  # of a loader that was read in that mode
            batch = replace(batch, x=usable(batch.x), y=usable(batch.y))
        with self._phase("attack"), self._modes.attacking(mode or self.attack_mode):
            return self.hooks.generate_adv(self.model, batch)

    @contextmanager
    def _perturbed(self, batch: Batch, adv: Adv, saved: Sequence[Tensor]) -> Iterator[Perturbed]:
        self._state.phase = "perturb"
        objective = Objective(self.model, batch, self.hooks, self._modes, self._attack)
        try:
            manager = self.hooks.perturb_weights(self.model, batch, adv, objective)
            if manager is None:
                objective.close()
                yield Perturbed(adv, lambda: None)
            else:
                weights, order = list(self.model.parameters()), self.hooks.exit_order
                with perturbed(manager, adv, weights, order, saved, self._copies.after) as perturbation:
                    objective.close()
                    yield perturbation
        finally:
            objective.close()

    def _loss(self, batch: Batch, adv: Adv) -> Loss:
        self._state.phase = "train"
        for weight in self._trainable():
            weight.grad = None
        return self.hooks.compute_loss(self.model, batch, adv)

    def _backward(self, loss: Loss) -> None:
        weights, total = self._trainable(), loss.total()
        self.hooks.expect_gradient(total)
        try:
            grads = gradients(total, weights)
        except ButtressError:  # the model's, not the plugin's
            raise
        except Exception as problem:
            raise self.hooks.backward_fault(problem) from problem
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        self.hooks.expect_gradients(self.model)

    def _take_step(self) -> None:
        try:
            self.optimizer.step()
        except ButtressError:
            raise
        except Exception as problem:
            raise WorkError(
                f"optimizer {type(self.optimizer).__name__}, {self._state.place}: step() raised {describe(problem)}"
            ) from problem

    # Epochs, tracks, learning rate

    @takes_gradients
    def start(self) -> None:
        """Fire ``start_run`` with the weights as they are; the first step does it too."""
        if not self._started:
            with self._kept_on_error():
                self.hooks.start_run(self.model)
            self._started = True

    @takes_gradients
    def end_epoch(self, metrics: Mapping[str, float] | None = None) -> None:
        """Close the epoch: ensembles take their snapshot, then the next epoch begins.

        Raises:
            HookError: a fault on the device's record; or a plugin raised, and the weights are as before.
            DivergenceError: the weights are no longer finite.
        """
        self.start()
        said = self.read_checks()
        if said:
            logger.warning(said)
        self._state.phase = "ensemble"
        with self._kept_on_error():
            self.hooks.ensemble_weights(self.model, "epoch")
            self.hooks.end_epoch(metrics or {})
        self._state.epoch += 1
        self._state.step = 0

    @takes_gradients
    def tracks(self) -> list[Track]:
        """The weights that the plugins want evaluated, the live model's excluded."""
        self.start()
        with self._phase("ensemble"), self._kept_on_error():
            return self.hooks.tracks(self.model)

    @contextmanager
    def track(self, track: Track, batches: Callable[[], Iterable[Batch]] | None = None) -> Iterator[nn.Module]:
        """The model with a track's weights in it; the live weights and buffers come back bit for bit afterwards.

        Args:
            track: one of ``tracks()``.
            batches: makes an iterable over the training set; called when batch norm is to be re-estimated. Default:
                the engine's own.

        Raises:
            DivergenceError: the track's weights or batch-norm statistics are not finite.
        """
        inputs = self._bn_inputs(track, batches) if track.buffers == "reestimate" and track.weights is not None else []
        buffers = dict(track.given_buffers) if track.buffers == "given" else {}
        with weights_swapped(self.model, dict(track.weights or {}), buffers):
            if inputs:
                reestimate(self.model, inputs)
            if self._checks.level != "off":
                self._finite.expect(f"in track {track.name!r}")
            yield self.model

    def _bn_inputs(self, track: Track, given: Callable[[], Iterable[Batch]] | None) -> Iterable[Tensor]:
        name = f"track {track.name}"
        batches = self._state.training_batches(name) if given is None else self._training_batches(given, name)
        if track.bn_inputs == "clean":
            return (batch.x for batch in batches)
        # Made at the live weights, whose batch-norm statistics are their own, before the track's weights move in.
        # In eval mode, whatever the training's attack mode: evaluating a track moves nothing of the live model.
        with self._state.streams_apart(name), self._kept_on_error():
            return [self._attack(batch, "eval").x for batch in batches]

    def _training_batches(self, batches: Callable[[], Iterable[Batch]], reader: str) -> Iterator[Batch]:
        """The training set as training sees it; the draws of ``transform_batch`` are the reader's own."""
        streams: Streams = {}
        for batch in batches():
            with self._phase("ensemble"), self._state.streams_apart(reader, streams):
                transformed = self.hooks.transform_batch(batch)
            yield transformed

    @property
    def bad_steps(self) -> BadSteps | None:
        """The steps that were skipped, where ``nonfinite`` is ``skip``."""
        return self._bad_steps

    def scale_lr(self, factor: float) -> None:
        """Multiply every group's initial learning rate, of which all later ones are made; the optimizer saves it."""
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= factor

    def attack(self, batch: Batch, reader: str) -> Adv:
        """The training attack on any batch, in eval mode, from random streams of the ``reader``'s own.

        Raises:
            HookError: the attack fails on it.
        """
        with self._state.streams_apart(reader), self._kept_on_error():
            return self._attack(batch, "eval")

    def set_lr(self, factor: float, t: float) -> None:
        """Set every group's learning rate to its initial one times ``factor``, or times its own ``lr_scale(t)``.

        Args:
            factor: of the schedule at time t.
            t: epochs since the start, fractions allowed.
        """
        self._groups.set_lr(factor, t)

    def records(self) -> dict[str, float]:
        """Means of what plugins recorded since the last call; synchronises with the device."""
        records, self._state.records = self._state.records, {}
        return {name: float(total) / float(count) for name, (total, count) in records.items()}

    def read_checks(self) -> str:
        """Raise the first fault on record at level ``interval``, or the weights' own; synchronises with the device.

        Returns:
            A sentence about the steps skipped since the last call, or nothing.

        Raises:
            HookError: a wrong answer at an earlier step.
            DivergenceError: a parameter or a buffer that was finite holds NaN or infinity, or too many steps in a row
                had to be skipped.
        """
        self._checks.read()
        said = self._bad_steps.read() if self._bad_steps else ""
        if self._checks.level != "off":
            self._finite.expect(self._state.between_steps)
        return said

    def log(self, record: Mapping[str, object]) -> None:
        """Show a record to the plugins that log."""
        with self._kept_on_error():
            self.hooks.log(record)

    @takes_gradients
    def close(self) -> None:
        """Fire ``end_run``."""
        if self._started:
            self._started = False
            with self._kept_on_error():
                self.hooks.end_run(self.model)

    # State

    @property
    def threat(self) -> ThreatModel:
        return self._state.threat

    @property
    def device(self) -> torch.device:
        return self._state.device

    @property
    def epochs(self) -> int | None:
        """Number of epochs of the whole run, where that is known."""
        return self._state.epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """Number of steps of an epoch, where that is known."""
        return self._state.steps_per_epoch

    @property
    def epoch(self) -> int:
        """0-based."""
        return self._state.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._state.epoch, self._state.step = value, 0
        self._state.rewind()

    @property
    def epoch_step(self) -> int:
        """0-based step within the epoch."""
        return self._state.step

    @property
    def global_step(self) -> int:
        """0-based."""
        return self._state.global_step

    @global_step.setter
    def global_step(self, value: int) -> None:
        self._state.global_step = value

    def state_dict(self) -> dict[str, Any]:
        """Counters and the plugins' states: tensors and plain values. Model and optimizer are the caller's to save.

        Raises:
            HookError: a plugin's ``state_dict`` raises.
        """
        return {
            "epoch": self._state.epoch,
            "step": self._state.step,
            "global_step": self._state.global_step,
            "records": {name: [_plain(value) for value in total] for name, total in self._state.records.items()},
            "bad_steps": self._bad_steps.state_dict() if self._bad_steps else None,
            "plugins": states_of(self.plugins),
        }

    @takes_gradients
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken.

        Raises:
            CheckpointError: the state belongs to another stack of plugins.
        """
        self.start()
        load_states(self.plugins, state["plugins"])
        self._state.epoch, self._state.step = state["epoch"], state["step"]
        self._state.global_step = state["global_step"]
        self._state.rewind()
        self._state.records = {name: list(total) for name, total in state["records"].items()}
        if self._bad_steps and state.get("bad_steps"):
            self._bad_steps.load_state_dict(state["bad_steps"])

    # Helpers

    def _accept(self, x: Tensor, y: Tensor, index: Tensor | None) -> Batch:
        if not self.model.training:
            raise ModelError(
                "engine.step: the model is in eval mode; call model.train() after evaluating (to train with frozen "
                "batch norm, put only those modules into eval mode)"
            )
        return self.hooks.answers.inputs(x, y, index)

    def _trainable(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @contextmanager
    def _kept_on_error(self) -> Iterator[None]:
        """Outside of steps: where a hook raises, the model is put back as it was."""
        self.hooks.watch.begin(self.model)
        found, copies = AsFound(self.model), self._copies
        values = found.values_kept_on_error(copies.before, copies.buffers)
        with self._state.outside_of_steps(), found.kept_on_error(), values:
            yield

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        before, self._state.phase = self._state.phase, phase
        try:
            yield
        finally:
            self._state.phase = before


def _expect_word(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"engine: {name}: expected one of {', '.join(known)}, got {value!r}")


def _plain(value: Tensor | float) -> Tensor | float:
    """A recorded value without the kind of number that a plugin had at hand."""
    return value if isinstance(value, Tensor) else float(value)
