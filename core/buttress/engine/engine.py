"""Train with any stack of plugins in a loop of one's own; ``step.py`` is the page on which a step is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.curves import expect_curves_fit
from buttress.engine.arguments import expect_accumulation, expect_replays, expect_sizes, expect_word
from buttress.engine.attack import Attack
from buttress.engine.attacking import ModelAtWork
from buttress.engine.bad_steps import BadSteps
from buttress.engine.between_steps import BetweenSteps
from buttress.engine.checks import CheckLevel, ValueChecks
from buttress.engine.compilation import Compile
from buttress.engine.controls import Controls
from buttress.engine.groups import Groups, OptimizerFactory
from buttress.engine.hooks import Hooks
from buttress.engine.joined import BatchNorm, joined
from buttress.engine.perturbation import Copies
from buttress.engine.stack import load_states, stack_of, states_of
from buttress.engine.state import RunState
from buttress.engine.step import Step, StepResult
from buttress.engine.tracks import Batches, Tracks
from buttress.engine.training_threat import TrainingThreat
from buttress.engine.world import World
from buttress.errors import ModelError
from buttress.nn.contract import device_of, expect_learnable
from buttress.nn.finite import FiniteTensors
from buttress.nn.modes import ATTACK_MODES, AttackMode, takes_gradients
from buttress.precision import Precision
from buttress.storage.history import Store
from buttress.threat import ThreatModel, expect_threat
from buttress.types import Adv, Batch, Rows, Track

logger = logging.getLogger("buttress")


class Engine(Controls):
    """Trains a model with any stack of plugins; resets neither the model nor the optimizer.

    Args:
        model: any module that maps ``[B,*]`` to logits ``[B,K]``; on one device, any floating dtype.
        optimizer: an optimizer over the model's parameters, or a factory ``groups -> optimizer`` (required by plugins
            that split parameter groups), for example ``functools.partial(torch.optim.SGD, lr=0.1)``.
        plugins: plugin objects, or entries as in a config: ``["pgd", {"meat": {"start": 60}}]``. Order is call order.
        threat: the threat model.
        training_eps: radius in training, or a schedule over epochs, as a config has them; None: the threat model's.
        seed: seed of every random draw that a plugin makes.
        epochs: number of epochs of the whole run; needed where a setting is a fraction of the epochs.
        steps_per_epoch: number of steps of an epoch, for plugins that ask.
        replays: number of steps in a row on each batch, which ``step`` is given as many times: the transforms of these
            steps make the same draws, and each of the steps counts.
        examples: number of training examples, for plugins that keep a value per example; positions ``index`` are below.
        classes: number of labelled training examples of each class, for plugins that ask.
        attack_mode: ``train``, ``train_notrack`` or ``eval``; None takes the attack plugin's own setting, else eval.
        precision: ``float32``, ``bf16``, ``tf32`` or ``float64``, or one of these for each of ``attack``, ``train`` and
            ``score``; None: that of the weights.
        compile: ``off``, ``model`` (forwards by ``torch.compile``) or ``graphs`` (CUDA graphs of attack steps).
        checks: level of the checks of values: ``always`` (default on the CPU), ``interval`` (default on CUDA), ``off``.
        nonfinite: ``stop`` raises where loss, gradients or weights are not finite, ``skip`` takes the step back.
        max_skipped: number of consecutive skipped steps that ends the run.
        history: folder for snapshots that plugins keep on disk.
        batches: makes an iterable over the training set, on which batch-norm statistics are measured; its batches pass
            through ``transform_batch`` first, as in training.
        validation: makes an iterable over the validation split, for plugins that measure something on it.
        world: processes that train the model together; None: torch's default process group, or this process alone.
        accumulate: number of parts in which forwards and backwards of a step are made, for the memory of one part.
        batch_norm: batch-norm statistics of a step on several processes: ``local``, of each process's rows, with the
            running ones averaged after every step; or ``sync``, of the whole batch as in one process.

    Raises:
        PluginError: the plugins do not fit together.
        ConfigError: no threat model, no list of plugins, an option that is none of the words above, or a schedule of a
            setting that does not fit the epochs.
        ModelError: the model has no parameters, has them on several devices, or has some that cannot learn.
    """

    @takes_gradients
    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | OptimizerFactory,
        plugins: Sequence[Any],
        threat: ThreatModel,
        *,
        training_eps: object = None,
        seed: int = 0,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        replays: int = 1,
        examples: int | None = None,
        classes: Sequence[int] | None = None,
        attack_mode: AttackMode | None = None,
        precision: Precision | str | Mapping[str, str] | None = None,
        compile: Compile = "off",
        checks: CheckLevel | None = None,
        nonfinite: Literal["stop", "skip"] = "stop",
        max_skipped: int = 20,
        history: Path | str | None = None,
        batches: Callable[[], Iterable[Batch]] | None = None,
        validation: Callable[[], Iterable[Batch]] | None = None,
        world: World | None = None,
        batch_norm: BatchNorm = "local",
        accumulate: int = 1,
    ) -> None:
        device = device_of(model, "engine")
        expect_learnable(model, "engine")
        passes = None if precision is None else Precision.read(precision)
        self.at_work = ModelAtWork(model, passes, compile=compile, who="engine", accumulate=accumulate)
        """The model and the way its passes are made, for attacks and verdicts beside the steps."""
        self.world = World.present() if world is None else world
        """The processes that train the model together."""
        expect_threat(threat, "engine")
        expect_word("batch_norm", batch_norm, get_args(BatchNorm))
        checks = checks or ("always" if device.type == "cpu" else "interval")
        expect_word("checks", checks, get_args(CheckLevel))
        expect_word("nonfinite", nonfinite, ("stop", "skip"))
        self.model = model
        self.plugins = stack_of(plugins)
        expect_accumulation(accumulate, compile, batch_norm, self.plugins, "engine: accumulate: ")
        expect_curves_fit(self.plugins, epochs)
        expect_sizes(examples, classes)
        expect_replays(replays, steps_per_epoch)
        self._state = RunState(
            TrainingThreat(threat, training_eps, epochs),
            device,
            seed=seed,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            replays=replays,
            examples=examples,
            classes=None if classes is None else tuple(classes),
            store=Store(Path(history) if history is not None else None, self.world),
            world=self.world,
        )
        finite = FiniteTensors(model)
        self.bad_steps = BadSteps(max_skipped, device, finite, self.world) if nonfinite == "skip" else None
        """The steps that were skipped, where ``nonfinite`` is ``skip``."""
        self._checks = ValueChecks(checks, device, self.bad_steps, finite)
        self.hooks = Hooks(self.plugins, self._state, self._checks)
        self._build(optimizer, attack_mode, batch_norm)
        self._tracks.offer_splits(batches, validation)
        self._started = False

    def _build(
        self, optimizer: Optimizer | OptimizerFactory, attack_mode: AttackMode | None, batch_norm: BatchNorm
    ) -> None:
        """Make the parts of the engine, which share model, hooks, state and memory for copies."""
        model, hooks, state = self.model, self.hooks, self._state
        local = joined(model, state, batch_norm)
        at_work, copies = self.at_work, Copies()
        self._between_steps = BetweenSteps(model, hooks, state, copies)
        with self._between_steps():
            self._groups = Groups(model, optimizer, hooks)
        self.optimizer = self._groups.optimizer
        attack = hooks.provider("generate_adv")
        mode: AttackMode = attack_mode or (attack and attack.traits.attack_mode) or "eval"
        expect_word("attack_mode", mode, ATTACK_MODES)
        self._attack = Attack(at_work, hooks, state, mode)
        self._step = Step(at_work, self.optimizer, hooks, state, self._attack, copies, self._checks, local)
        self._tracks = Tracks(at_work, hooks, state, self._attack, self._between_steps, self._checks.finite)

    # One training step

    @takes_gradients
    def step(
        self,
        x: Tensor,
        y: Tensor,
        *,
        index: Tensor | None = None,
        aux: Mapping[str, Tensor] | None = None,
        draws: Mapping[str, Tensor] | None = None,
        rows: Rows | None = None,
    ) -> StepResult:
        """Make one training step; nothing here waits for the device. Ctrl-C ends it before the update, or after it.

        All processes make it, each with the whole batch, of which it trains on its rows, or with ``rows`` alone.

        Args:
            x: ``[B,*]`` inputs inside the threat model's box.
            y: ``[B]`` int64 labels, or ``[B,K]`` soft labels.
            index: ``[B]`` positions in the training set, for plugins that keep a value per example.
            aux: further tensors ``[B,...]`` by name, for plugins that read ``batch.aux``.
            draws: random draws that take the place of a plugin's own: ``{"pgd.start": noise}``.
            rows: rows of the whole batch that x holds on this process: ``engine.world.rows(total)``.

        Raises:
            DataError: x, y, index or aux is of a wrong kind, x is outside the box, a label is none of the model's
                classes, or a position is none of the training set.
            ModelError: the model is in eval mode, or its forward does not give logits ``[B,K]``.
            HookError: a plugin raised, gave a wrong answer or changed a thing that it must not; the model is as before
                the step (after an error of ``ensemble_weights``, which follows the update, the weights stay updated).
            DivergenceError: ``max_skipped`` bad steps in a row.
            WorkError: the optimizer raised; weights of which there was no copy (docs/guards.md) may be half updated.
            RanksError: another process has ended, or makes other collectives; no further step can be made.
        """
        with self.world.together():
            self.start()
            if not self.model.training:
                raise ModelError(
                    "engine.step: the model is in eval mode; call model.train() after evaluating (to train with frozen "
                    "batch norm, put only those modules into eval mode)"
                )
            batch = self.hooks.answers.inputs(Batch(x, y, index, {} if aux is None else aux))
            with self.at_work.doing("train"):
                result = self._step(batch, draws or {}, rows)
            self.stop_agreed = self.world.agree(stop=self.stop_asked)
            return result

    # Epochs and tracks

    @takes_gradients
    def start(self) -> None:
        """Fire ``start_run`` with the current weights; the first step does so by itself."""
        if not self._started:
            with self._between_steps():
                self.hooks.start_run(self.model)
            self._started = True

    @takes_gradients
    def end_epoch(
        self, metrics: Mapping[str, float] | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> None:
        """Close the epoch: ensembles take their snapshot, then the next epoch begins.

        Args:
            metrics: measures of the epoch, for plugins that implement ``end_epoch``.
            draws: random draws that take the place of a plugin's own, as in ``step``.

        Raises:
            DataError: no plugin asks for one of the draws.
            HookError: there is a fault on the device's record; or a plugin raised, and the weights are as before.
            DivergenceError: the weights are no longer finite.
        """
        self.start()
        if skipped := self.read_checks():
            logger.warning(skipped)
        self._state.phase = "ensemble"
        with self._between_steps(), self._attack.offered(), self._state.injecting(draws or {}, "engine.end_epoch"):
            self.hooks.ensemble_weights(self.model, "epoch")
            self.hooks.end_epoch(metrics or {})
        self._state.end_epoch()

    @takes_gradients
    def tracks(self) -> list[Track]:
        """The weights that plugins want evaluated beside the live model's."""
        self.start()
        return self._tracks.all()

    @contextmanager
    def track(self, track: Track, batches: Batches | None = None) -> Iterator[nn.Module]:
        """The model with a track's weights in it; the live weights and buffers come back bit for bit afterwards.

        Args:
            track: one of ``tracks()``.
            batches: makes an iterable over the training set, where batch norm is to be re-estimated; None: the engine's
                own.

        Raises:
            DivergenceError: the track's weights or batch-norm statistics are not finite.
        """
        with self._tracks.swapped_in(track, batches) as model:
            yield model

    def attack(self, batch: Batch, reader: str) -> Adv:
        """The training attack on any batch, in eval mode, from random streams of the ``reader``'s own.

        Raises:
            HookError: the attack fails on it.
        """
        with self._state.streams_apart(reader), self._between_steps():
            return self._attack(batch, "eval")

    def log(self, record: Mapping[str, object]) -> None:
        """Hand a record to the plugins that log."""
        with self._between_steps():
            self.hooks.log(record)

    @takes_gradients
    def close(self) -> None:
        """Fire ``end_run``."""
        if self._started:
            self._started = False
            with self._between_steps():
                self.hooks.end_run(self.model)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Counters and the plugins' states: tensors and plain values. Model and optimizer are the caller's to save.

        Raises:
            HookError: a plugin's ``state_dict`` raises.
        """
        return {
            **self._state.state_dict(),
            "bad_steps": self.bad_steps.state_dict() if self.bad_steps else None,
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
        self._state.load_state_dict(state)
        if self.bad_steps and state.get("bad_steps"):
            self.bad_steps.load_state_dict(state["bad_steps"])
