"""React to a collapse: warn, stop, or restore the last healthy checkpoint and train on at a lower learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from buttress.console.reporter import Reporter
from buttress.errors import DivergenceError
from buttress.training.assembly import Assembly
from buttress.training.collapse import Collapse, CollapseGuard
from buttress.training.resumable_state import ResumableState


class Recovery:
    """Looks for a collapse after every evaluation, and reacts as the section ``guards`` of the config says.

    Args:
        assembly: engine, data and config of the run.
        state: state of the run, which a roll-back restores.
        reporter: prints warnings for the user.
        write: function that writes one record of the metrics.
    """

    def __init__(
        self,
        assembly: Assembly,
        state: ResumableState,
        reporter: Reporter,
        write: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._engine, self._length, config = assembly.engine, assembly.length, assembly.file.config
        self._state, self._reporter, self._write = state, reporter, write
        self._guards, by = config.guards, config.evaluation.best_by
        self._guard = CollapseGuard(self._engine, by, assembly.data.splits()[by], config.evaluation.batch_size)

    def rolled_back(self) -> bool:
        """Whether the newest evaluation of the live model showed a collapse and the run was rolled back to before it.

        Raises:
            DivergenceError: the config asks to stop at a collapse, or the limit of roll-backs is reached.
            CheckpointError: no checkpoint from before the collapse can be loaded.
        """
        guards, count = self._guards, self._state.rollbacks
        collapse = None
        if guards.collapse != "off":
            seen = self._guard.look(self._state.records) if self._engine.world.is_main else None
            collapse = self._engine.world.from_main(seen, "collapse guard")
        if collapse is None:
            return False
        if guards.collapse == "warn":
            self._reporter.say(f"warning: {collapse}")
            self._write({"event": "collapse", **collapse.to_json()})
            return False
        if guards.collapse == "stop" or count == guards.max_rollbacks:
            after = f" after {count} roll-backs" if count else ""
            raise DivergenceError(f"{collapse}; stopped{after}; lower the learning rate, or set guards.collapse: warn")
        self._roll_back(collapse, count + 1)
        return True

    def _roll_back(self, collapse: Collapse, count: int) -> None:
        engine, guards = self._engine, self._guards
        path = self._state.restore(at_most=collapse.healthy_epoch * self._length.steps_per_epoch)
        self._state.put_back_files(path)
        self._state.rollbacks = count
        engine.scale_lr(guards.lr_factor)
        self._reporter.rewind(engine.global_step)
        self._reporter.say(
            f"warning: {collapse}; rolled back to {path.stem} ({count} of at most {guards.max_rollbacks} times), "
            f"learning rates times {guards.lr_factor:g} from there on"
        )
        self._write({"event": "rollback", "to_step": engine.global_step, **collapse.to_json()})
        self._state.save()  # so that a run killed now resumes with the lower learning rate
