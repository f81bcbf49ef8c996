"""Read and set, between the steps of an engine: its place in the run, the attack mode, the learning rate."""

from __future__ import annotations

from typing import Any

from buttress.components.curves import current_values
from buttress.components.loaded import LoadedPlugin
from buttress.engine.arguments import expect_word
from buttress.engine.attack import Attack
from buttress.engine.checks import ValueChecks
from buttress.engine.groups import Groups
from buttress.engine.run_view import RunView
from buttress.engine.training_threat import TrainingThreat
from buttress.epochs import Curve
from buttress.nn.modes import ATTACK_MODES, AttackMode


class Controls(RunView):
    """The part of an engine that a loop reads and sets between steps.

    ``attack_mode``, ``epoch`` and ``global_step`` may be written at any time.
    """

    plugins: tuple[LoadedPlugin, ...]
    _attack: Attack
    _checks: ValueChecks
    _groups: Groups
    stop_asked: bool = False
    """Whether this process asks all to stop; the next step tells the others."""
    stop_agreed: bool = False
    """Whether any process had asked to stop at the last step."""

    @property
    def training_threat(self) -> TrainingThreat:
        """The threat models of all epochs; ``threat`` is that of the present one."""
        return self._state.training_threat

    @property
    def epoch(self) -> int:
        """0-based."""
        return super().epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._state.go_to_epoch(value)

    @property
    def epoch_step(self) -> int:
        """0-based step within the epoch."""
        return self._state.step

    @property
    def global_step(self) -> int:
        """0-based, within the run."""
        return super().global_step

    @global_step.setter
    def global_step(self, value: int) -> None:
        self._state.global_step = value

    @property
    def attack_mode(self) -> AttackMode:
        """Mode of the model during the attacks of training."""
        return self._attack.mode

    @attack_mode.setter
    def attack_mode(self, mode: AttackMode) -> None:
        expect_word("attack_mode", mode, ATTACK_MODES)
        self._attack.mode = mode

    def scheduled_values(self) -> dict[str, Any]:
        """Name to value in the present epoch, of all that follows a schedule over epochs: ``"trades.beta"``."""
        changes = isinstance(self.training_threat.eps, Curve)
        radius = {"threat.training_eps": float(self.threat.eps)} if changes else {}
        return {**radius, **current_values(self.plugins, self.epoch, self.epochs)}

    def set_lr(self, factor: float, t: float) -> None:
        """Set every group's learning rate to its initial one times ``factor``, or times its own ``lr_scale(t)``.

        Args:
            factor: factor of the schedule at time t.
            t: time in epochs since the start, fractions allowed.
        """
        self._groups.set_lr(factor, t)

    def scale_lr(self, factor: float) -> None:
        """Multiply every group's initial learning rate, from which all later ones follow; the optimizer saves it."""
        self._groups.scale_lr(factor)

    def records(self) -> dict[str, float]:
        """Means of the metrics that plugins recorded since the last call; synchronises with the device."""
        return self._state.take_records()

    def read_checks(self) -> str:
        """Raise the first fault on record at level ``interval``, or that of the weights; synchronises with the device.

        Returns:
            A sentence about the steps skipped since the last call, or nothing.

        Raises:
            HookError: a plugin gave a wrong answer at an earlier step.
            DivergenceError: a parameter or a buffer that was finite holds NaN or infinity, or too many consecutive
                steps had to be skipped.
        """
        return self._checks.read(self._state.between_steps)
