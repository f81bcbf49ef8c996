"""Train a run from its first step to its last: epochs, evaluations, checkpoints, exact resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from time import perf_counter
from typing import TypeVar

import torch

from buttress.console.reporter import Reporter
from buttress.console.tables import duration
from buttress.data.order import replayed
from buttress.errors import DataError, InterruptionError, WorkError
from buttress.kernels import use_backend
from buttress.nn.batchnorm import tracked_norms
from buttress.processes import StopRequest
from buttress.storage.files import remove_leftovers
from buttress.storage.run_folder import RunFolder
from buttress.training.assembly import Assembly
from buttress.training.checkpoint import remove_unfinished
from buttress.training.conclusion import conclude
from buttress.training.forecast import Forecast
from buttress.training.loggers import Loggers
from buttress.training.recovery import Recovery
from buttress.training.resumable_state import ResumableState
from buttress.training.scoreboard import Scoreboard
from buttress.training.selection import TrackSummary

T = TypeVar("T")


class Trainer:
    """Trains an assembly inside a run folder.

    Args:
        assembly: everything that the run needs, checked.
        folder: an existing run folder.
        reporter: reporter for the user.
        forecast: cost of the run, or None; the time left is computed from it until it has been measured.
    """

    def __init__(
        self, assembly: Assembly, folder: RunFolder, reporter: Reporter, forecast: Forecast | None = None
    ) -> None:
        self._assembly, self._folder, self._reporter, self._forecast = assembly, folder, reporter, forecast
        self._config, self._engine, self._length = assembly.file.config, assembly.engine, assembly.length
        self._world = assembly.engine.world
        loggers = assembly.loggers if self._world.is_main else ()
        self._loggers = Loggers(loggers, assembly.engine, folder.path, reporter.say)
        self._state = ResumableState(
            assembly.engine,
            assembly.length,
            assembly.data.fingerprint,
            folder,
            self._config.checkpoint.keep,
            reporter.say,
        )
        self._scoreboard = Scoreboard(assembly, self._state, reporter, self._write)
        self._recovery = Recovery(assembly, self._state, reporter, self._write)
        self._stop = StopRequest()
        self._is_new = True

    def run(self) -> list[TrackSummary]:
        """Train from where the assembly stands to the last epoch; returns the summary.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop; a checkpoint has been written at that very step.
            DivergenceError: the run has diverged or collapsed, and is to stop.
            WorkError: an example could not be read; a checkpoint has been written if it was a training example.
            HookError, StorageError: a plugin failed, the disk is full; the last good checkpoint is intact.
        """
        engine, config, started = self._engine, self._config, perf_counter()
        trained = engine.epoch < self._length.epochs
        if config.deterministic:
            torch.use_deterministic_algorithms(True)
        engine.start()
        with self._stop.heard(), self._reporter, use_backend(config.backend):
            self._reporter.begin(self._length.steps, engine.global_step)
            self._scoreboard.plan(self._forecast)
            try:
                if self._is_new:
                    self._state.save()  # step 0: a run that is killed anywhere can go on from a checkpoint
                if trained:
                    self._loggers.start()
                while engine.epoch < self._length.epochs:
                    self._train_epoch()
                    self._finish_epoch()
            except DataError as problem:  # the data were good when the run began: no wrong input
                kept = "What was trained is saved" if self._world.size == 1 else "The last checkpoint is whole"
                raise WorkError(
                    f"{problem}. {kept}; put back the file that the run began with, then continue "
                    f"with: buttress resume {self._folder.path}; with a repaired one, start a new run"
                ) from problem
            finally:
                self._loggers.close()
                engine.close()
        rows = self._conclude()
        if trained:
            self._reporter.say(f"done in {duration(perf_counter() - started)}")
        return rows

    def _conclude(self) -> list[TrackSummary]:
        rows: list[TrackSummary] = []
        if self._world.is_main:
            rows = conclude(self._assembly, self._folder, self._state, self._reporter)
        return self._world.from_main(rows, "summary")

    def resume(self) -> None:
        """Continue at the newest good checkpoint; a damaged one is named and passed over.

        Raises:
            CheckpointError: none can be loaded.
        """
        engine, say = self._engine, self._reporter.say
        engine.start()  # start_run sees the initial weights, as it did the first time
        path = self._state.restore()
        if self._world.is_main:
            leftovers = remove_leftovers(self._folder.path) + remove_unfinished(self._folder.checkpoints)
            if leftovers:
                say(f"removed what a killed process left unfinished: {', '.join(p.name for p in leftovers)}")
        self._is_new = False
        if self._state.put_back_files(path):
            self._state.save()
        if engine.epoch == self._length.epochs:
            say(f"this run has finished: all {engine.epoch} epochs are trained; its results again:")
            return
        say(f"resumed {path.stem}: {self._place()}")
        before, now = self._state.processes, self._world.size
        if before != now and self._config.model.batch_norm == "local" and tracked_norms(engine.model):
            say(
                f"note: this run was trained by {_processes(before)} and goes on with {now}: with batch_norm: local "
                "its statistics are those of other shares of a batch from here on"
            )

    # One epoch

    def _train_epoch(self) -> None:
        engine, config = self._engine, self._config
        first, done = divmod(engine.epoch_step, config.data.replays)
        own = self._assembly.training_set.own_batches(engine.epoch, first, self._world.rows)
        left = self._length.steps_of(engine.epoch) - engine.epoch_step
        batches = islice(replayed(own, config.data.replays, done), left)
        for batch, rows in self._saved_if_unreadable(batches):
            self._stop_if_asked()
            self._set_lr()
            self._assembly.norm_momentum.set(engine.global_step)
            engine.stop_asked = self._stop.signal is not None
            losses, _ = engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux, rows=rows)
            taken = engine.bad_steps.taken if engine.bad_steps else None
            self._state.epoch_loss.add(losses, taken)
            self._state.interval_loss.add(losses, taken)
            if engine.global_step % config.log_every == 0:
                self._log_training()
            self._reporter.advance(f"epoch {engine.epoch + 1}/{self._length.epochs}")

    def _saved_if_unreadable(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches; before the error about one that cannot be read, the run is saved."""
        try:
            yield from batches
        except (DataError, WorkError):
            if self._world.size == 1:  # other ranks are on their way into the step, and save nothing
                self._save()
            raise

    def _finish_epoch(self) -> None:
        engine, config = self._engine, self._config
        self._read_checks()
        loss = self._state.epoch_loss.take()
        self._reporter.loss(loss)
        self._folder.expect_there()  # a history would make its folder anew
        scheduled = engine.scheduled_values()
        engine.end_epoch({"loss": loss})
        done = engine.epoch  # epochs completed
        lr = engine.optimizer.param_groups[0]["lr"]
        self._write({"event": "epoch", "epoch": done, "loss": loss, "lr": lr, **scheduled, **self._skipped()})
        last = done == self._length.epochs
        if last or done % config.evaluation.every == 0:
            live = self._scoreboard.score(done)
            if self._recovery.rolled_back():
                return
            scores = self._scoreboard.finish(live, last=last)
            self._reporter.say(f"epoch {done}/{self._length.epochs}  loss {loss:.3f}  {scores}")
        if last or done % config.checkpoint.every == 0:
            self._save()

    def _set_lr(self) -> None:
        engine, schedule = self._engine, self._assembly.schedule
        t = float(engine.epoch)
        if schedule.per == "batch":
            t += (engine.epoch_step + 1) / self._length.steps_per_epoch
        engine.set_lr(schedule.factor(t, self._length.time), t)

    def _stop_if_asked(self) -> None:
        engine = self._engine
        if not (engine.stop_agreed if self._world.size > 1 else self._stop.signal):
            return
        self._save()
        signal = next(name for name in self._world.gathered(self._stop.signal, "signal") if name)
        raise InterruptionError(
            f"stopped by {signal}: {self._place()}; everything is saved; continue with: buttress resume "
            f"{self._folder.path}"
        )

    def _save(self) -> None:
        self._read_checks()  # a bad step raises here at the latest, before it is saved
        self._state.save()

    # Messages and metrics

    def _place(self) -> str:
        """``"epoch 3/12, 4 of its 10 steps done"``: epochs count from 1, as in progress lines."""
        engine, length = self._engine, self._length
        steps = length.steps_of(engine.epoch)
        return f"epoch {engine.epoch + 1}/{length.epochs}, {engine.epoch_step} of its {steps} steps done"

    def _log_training(self) -> None:
        engine = self._engine
        self._read_checks()
        loss = self._state.interval_loss.take()
        self._reporter.loss(loss)
        self._write(
            {
                "event": "train",
                "epoch": engine.epoch + 1,
                "global_step": engine.global_step,
                "loss": loss,
                "lr": engine.optimizer.param_groups[0]["lr"],
                **engine.records(),
                **self._skipped(),
            }
        )

    def _skipped(self) -> dict[str, int]:
        """Bad steps skipped since the beginning of the run, as a metric of runs that skip them."""
        guard = self._engine.bad_steps
        return {"skipped_steps": guard.skipped} if guard else {}

    def _read_checks(self) -> None:
        message = self._engine.read_checks()
        if message:
            self._reporter.say(message)

    def _write(self, record: Mapping[str, object]) -> None:
        if self._world.is_main:
            self._state.metrics.write(record)
            self._engine.log(record)
            self._loggers.log(record)


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
