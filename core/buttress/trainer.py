"""A run from its first step to its last: epochs, evaluation, checkpoints, exact resume."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from buttress.analysis.loss_groups import EDGES, group_counts
from buttress.build import Assembly
from buttress.checkpoint import remove_unfinished, restore_newest, save_checkpoint, weights_copy
from buttress.collapse import Collapse, CollapseGuard
from buttress.curves import draw_curves
from buttress.data import Split, epoch_order
from buttress.errors import DivergenceError, InterruptionError
from buttress.evaluation import attack_name
from buttress.files import cut_to_lines, has_sha256, link_file, make_folder, remove_leftovers, storage_errors
from buttress.kernels import use_backend
from buttress.loggers import Loggers
from buttress.models import fit_weights
from buttress.reporter import Reporter
from buttress.run_folder import RunFolder
from buttress.seals import write_sealed, write_weights
from buttress.selection import Record, Row, best_epoch, summarize
from buttress.tables import duration, summary_table


class Trainer:
    """Trains an assembly inside a run folder.

    Args:
        assembly: everything that the run needs, checked.
        folder: an existing run folder.
        reporter: tells the user.
    """

    def __init__(self, assembly: Assembly, folder: RunFolder, reporter: Reporter) -> None:
        self._assembly, self._folder, self._reporter = assembly, folder, reporter
        self._config = assembly.file.config
        self._engine = assembly.engine
        self._loggers = Loggers(assembly.loggers, assembly.engine, folder.path, reporter.say)
        self._records: list[Record] = []
        self._epoch_loss = _Mean(self._engine.device)
        self._interval_loss = _Mean(self._engine.device)
        self._rollbacks = 0
        self._weights: dict[str, str] = {}  # name of a weights file to its sha256
        self._metrics_bytes, self._metrics_sha256 = 0, hashlib.sha256()
        self._metrics_expected = ""  # sha256 in the checkpoint that was loaded
        self._stop: str | None = None
        splits = assembly.data.splits()
        by, guards = self._config.evaluation.best_by, self._config.guards
        self._collapse = (
            None
            if guards.collapse == "off"
            else CollapseGuard(self._engine, by, splits[by], self._config.evaluation.batch_size)
        )
        self._splits: dict[str, Split] = {
            name: split for name, split in splits.items() if name != "train" or self._config.evaluation.train
        }

    def run(self) -> list[Row]:
        """Train from where the assembly stands to the last epoch; returns the summary.

        Raises:
            InterruptionError: Ctrl-C or SIGTERM; a checkpoint has been written at that very step.
            HookError, StorageError: a plugin failed, the disk is full; the last good checkpoint is intact.
        """
        engine, config, started = self._engine, self._config, perf_counter()
        trained = engine.epoch < config.epochs
        if config.deterministic:
            torch.use_deterministic_algorithms(True)
        engine.start()
        with self._signals(), self._reporter, use_backend(config.backend):
            self._reporter.begin(config.epochs * self._assembly.steps, engine.global_step)
            try:
                if trained:
                    self._loggers.start()
                while engine.epoch < config.epochs:
                    self._train_epoch()
                    self._finish_epoch()
            finally:
                self._loggers.close()
                engine.close()
        rows = self._conclude()
        if trained:
            self._reporter.say(f"done in {duration(perf_counter() - started)}")
        return rows

    def resume(self) -> None:
        """Continue at the newest good checkpoint; a damaged one is named and passed over.

        Raises:
            CheckpointError: none can be loaded.
        """
        self._engine.start()  # start_run sees the initial weights, as it did the first time
        path = restore_newest(self._folder.checkpoints, self._load_state, self._reporter.say)
        leftovers = remove_leftovers(self._folder.path) + remove_unfinished(self._folder.checkpoints)
        if leftovers:
            self._reporter.say(f"removed what a killed process left unfinished: {', '.join(p.name for p in leftovers)}")
        self._fit_weights(path)
        self._fit_metrics()
        engine = self._engine
        if engine.epoch == self._config.epochs:
            self._reporter.say(f"this run has finished: all {engine.epoch} epochs are trained; its results again:")
            return
        self._reporter.say(f"resumed {path.stem}: epoch {engine.epoch}, step {engine.epoch_step} of the epoch")

    # One epoch

    def _train_epoch(self) -> None:
        engine, config, train = self._engine, self._config, self._assembly.data.train
        order = epoch_order(len(train), config.seed, engine.epoch)[: self._assembly.steps * config.data.batch_size]
        for batch in train.batches(order, config.data.batch_size, start=engine.epoch_step):
            self._stop_if_asked()
            self._set_lr()
            losses, _ = engine.step(batch.x, batch.y, index=batch.index)
            taken = engine.bad_steps.taken if engine.bad_steps else None
            self._epoch_loss.add(losses, taken)
            self._interval_loss.add(losses, taken)
            if engine.global_step % config.log_every == 0:
                self._log_training()
            self._reporter.advance(f"epoch {engine.epoch + 1}/{config.epochs}")

    def _finish_epoch(self) -> None:
        engine, config = self._engine, self._config
        self._read_checks()
        loss = self._epoch_loss.take()
        self._folder.expect_there()  # a history would make its folder anew
        engine.end_epoch({"loss": loss})
        done = engine.epoch  # epochs completed
        lr = engine.optimizer.param_groups[0]["lr"]
        self._write({"event": "epoch", "epoch": done - 1, "loss": loss, "lr": lr, **self._skipped()})
        last = done == config.epochs
        if last or done % config.evaluation.every == 0:
            live = self._score(done - 1, "live")
            collapse = self._collapse and self._collapse.look(self._records)
            if collapse and self._rolled_back(collapse):
                return
            self._evaluate(done - 1, loss, last, live)
        if last or done % config.checkpoint.every == 0:
            self._save()

    def _set_lr(self) -> None:
        engine, schedule = self._engine, self._assembly.schedule
        t = float(engine.epoch)
        if schedule.per == "batch":
            t += (engine.epoch_step + 1) / self._assembly.steps
        engine.set_lr(schedule.factor(t, self._config.epochs), t)

    def _log_training(self) -> None:
        engine = self._engine
        self._read_checks()
        self._write(
            {
                "event": "train",
                "epoch": engine.epoch,
                "global_step": engine.global_step,
                "loss": self._interval_loss.take(),
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
        said = self._engine.read_checks()
        if said:
            self._reporter.say(said)

    # Evaluation

    def _evaluate(self, epoch: int, loss: float, last: bool, live: list[Record]) -> None:
        self._keep_weights("live", epoch, last)
        lines = [f"live {_percent(live)}"]
        for track in self._engine.tracks():
            if track.weights is None:  # not begun: the live model stands in, and is not evaluated twice
                self._add([Record(**{**asdict(record), "track": track.name}) for record in live])
                self._keep_weights(track.name, epoch, last)
                continue
            with self._engine.track(track):
                lines.append(f"{track.name} {_percent(self._score(epoch, track.name))}")
                self._keep_weights(track.name, epoch, last)
        attack = attack_name(self._assembly.evaluator.attack)
        self._reporter.say(
            f"epoch {epoch + 1}/{self._config.epochs}  loss {loss:.3f}  test clean/{attack}: {', '.join(lines)}"
        )

    def _score(self, epoch: int, track: str) -> list[Record]:
        records = []
        for name, split in self._splits.items():
            score = self._assembly.evaluator.score(split)
            records.append(Record(epoch, track, name, score.clean, score.robust, score.n))
            if name == "train":
                counts = group_counts(score.robust_losses).tolist()
                self._write({"event": "losses", "epoch": epoch, "track": track, "edges": EDGES, "counts": counts})
        self._add(records)
        return records

    def _add(self, records: list[Record]) -> None:
        self._records += records
        for record in records:
            self._write({"event": "evaluation", **asdict(record)})

    def _keep_weights(self, track: str, epoch: int, last: bool) -> None:
        best = best_epoch(self._records, track, self._config.evaluation.best_by) == epoch
        for which in [name for name, wanted in (("best", best), ("last", last)) if wanted]:
            path = self._folder.weights_file(which, track)
            make_folder(path.parent)
            facts = {"track": track, "epoch": epoch}
            self._weights[path.name] = write_weights(path, self._engine.model.state_dict(), facts)

    def _rolled_back(self, collapse: Collapse) -> bool:
        """Do about a collapse what the config says; whether the run is back where it was healthy.

        Raises:
            DivergenceError: the run is to stop, or has been rolled back too often.
            CheckpointError: no checkpoint from before the collapse can be loaded.
        """
        guards = self._config.guards
        if guards.collapse == "warn":
            self._reporter.say(f"warning: {collapse}")
            self._write({"event": "collapse", **collapse.to_json()})
            return False
        if guards.collapse == "stop" or self._rollbacks == guards.max_rollbacks:
            after = f" after {self._rollbacks} roll-backs" if self._rollbacks else ""
            raise DivergenceError(f"{collapse}; stopped{after}; lower the learning rate, or set guards.collapse: warn")
        steps, count = (collapse.healthy_epoch + 1) * self._assembly.steps, self._rollbacks + 1
        path = restore_newest(self._folder.checkpoints, self._load_state, self._reporter.say, at_most=steps)
        self._rollbacks = count
        self._engine.scale_lr(guards.lr_factor)
        self._reporter.rewind(self._engine.global_step)
        self._reporter.say(
            f"warning: {collapse}; rolled back to {path.stem} ({count} of at most {guards.max_rollbacks} times), "
            f"learning rates times {guards.lr_factor:g} from there on"
        )
        self._fit_weights(path)
        self._fit_metrics()
        self._write({"event": "rollback", "to_step": self._engine.global_step, **collapse.to_json()})
        self._save()  # a run that is killed now does not come back to the old learning rate
        return True

    def _conclude(self) -> list[Row]:
        config, attack = self._config, attack_name(self._assembly.evaluator.attack)
        rows = summarize(self._records, config.evaluation.best_by)
        summary = {
            "best_by": config.evaluation.best_by,
            "attack": self._assembly.resolved["evaluation"]["attack"],
            "seed": config.seed,
            "rollbacks": self._rollbacks,
            **self._skipped(),
            "tracks": [row.to_json() for row in rows],
        }
        write_sealed(self._folder.summary, summary)
        drops = self._assembly.schedule.drops(config.epochs)
        title, by = f"{config.name}, seed {config.seed}", config.evaluation.best_by
        draw_curves(self._folder.curves, self._records, rows, drops, title, attack, by)
        chosen = f"best epoch chosen on {by}"
        n, seed = rows[0].n, config.seed
        self._reporter.say(
            f"\n{summary_table(rows, attack)}\n\nTest accuracies in %, n = {n}, seed {seed}, one run; {chosen}."
            f"\nLearning curves: {self._folder.curves}\nRun folder: {self._folder.path}"
        )
        return rows

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "model": dict(self._engine.model.state_dict()),
            "optimizer": self._engine.optimizer.state_dict(),
            "engine": self._engine.state_dict(),
            "global_rng": torch.get_rng_state(),  # for dropout in the user's model; nothing built in draws from it
            "cuda_rng": torch.cuda.get_rng_state(self._engine.device) if self._engine.device.type == "cuda" else None,
            "records": [asdict(record) for record in self._records],
            "rollbacks": self._rollbacks,
            "epoch_loss": self._epoch_loss.state,
            "interval_loss": self._interval_loss.state,
            "weights": dict(self._weights),
            "metrics_bytes": self._metrics_bytes,
            "metrics_sha256": self._metrics_sha256.hexdigest(),
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        engine = self._engine
        fit_weights(engine.model, state["model"], "the checkpoint")
        engine.load_state_dict(state["engine"])
        engine.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["global_rng"])
        if state["cuda_rng"] is not None and engine.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], engine.device)
        self._records = [Record(**record) for record in state["records"]]
        self._epoch_loss.state = state["epoch_loss"].to(engine.device)
        self._interval_loss.state = state["interval_loss"].to(engine.device)
        self._weights = dict(state["weights"])
        self._metrics_bytes, self._metrics_expected = state["metrics_bytes"], state["metrics_sha256"]
        self._rollbacks = state["rollbacks"]

    def _save(self) -> None:
        self._read_checks()  # what is saved is good: a step that was not is found here at the latest
        self._folder.expect_there()
        with storage_errors(self._folder.metrics), self._folder.metrics.open("rb+") as stream:
            os.fsync(stream.fileno())  # the checkpoint counts its bytes
        save_checkpoint(
            self._folder.checkpoints,
            self._engine.global_step,
            self.state_dict(),
            self._config.checkpoint.keep,
            [self._folder.weights / name for name in self._weights],
        )

    def _fit_weights(self, checkpoint: Path) -> None:
        """Put back the weights files that belong to the checkpoint: damaged, lost, or replaced after it."""
        for name, sha256 in list(self._weights.items()):
            path, copy = self._folder.weights / name, weights_copy(checkpoint, name)
            if has_sha256(path, sha256):
                continue
            if has_sha256(copy, sha256):
                make_folder(path.parent)
                link_file(copy, path)
                self._reporter.say(f"{path} was not that of {checkpoint.stem}, and is again")
            else:
                del self._weights[name]
                self._reporter.say(
                    f"{path} is damaged or missing, and so is its copy {copy}: these weights are lost; training is not "
                    "touched by it"
                )

    def _fit_metrics(self) -> None:
        """Cut off the records that were written after the checkpoint."""
        path, expected = self._folder.metrics, self._metrics_bytes
        with storage_errors(path):
            path.touch()
            found = path.stat().st_size
            if found > expected:
                os.truncate(path, expected)
        if found < expected:
            self._reporter.say(
                f"{path} has lost its end: {found} of {expected} bytes are left; training is not touched by "
                "it, and the evaluations are in the checkpoint"
            )
            self._metrics_bytes = cut_to_lines(path)
        with storage_errors(path):
            self._metrics_sha256 = hashlib.sha256(path.read_bytes())
        changed = self._metrics_sha256.hexdigest() != self._metrics_expected
        if found >= expected and self._metrics_expected and changed:
            self._reporter.say(
                f"{path} is damaged: its sha256 is not the recorded one; training is not touched by it, and the "
                "evaluations are in the checkpoint"
            )

    def _write(self, record: dict[str, object]) -> None:
        line = f"{json.dumps(record)}\n".encode()
        with storage_errors(self._folder.metrics), self._folder.metrics.open("ab") as stream:
            stream.write(line)
        self._metrics_bytes += len(line)
        self._metrics_sha256.update(line)
        self._engine.log(record)
        self._loggers.log(record)

    # Stopping

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM stops after the current step, a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, _: object) -> None:
            for known, handler in before.items():
                signal.signal(known, handler)
            self._stop = signal.Signals(number).name
            # os.write: print may be interrupted in the middle of itself
            os.write(2, b"\nstopping after this step or evaluation; once more to stop at once\n")

        before = {known: signal.signal(known, ask) for known in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for known, handler in before.items():
                signal.signal(known, handler)

    def _stop_if_asked(self) -> None:
        if self._stop is None:
            return
        self._save()
        engine = self._engine
        raise InterruptionError(
            f"stopped by {self._stop} at epoch {engine.epoch}, step {engine.epoch_step} of the epoch; everything is "
            f"saved; continue with: buttress resume {self._folder.path}"
        )


class _Mean:
    """A running mean that stays on the device until it is taken."""

    def __init__(self, device: torch.device) -> None:
        self.state = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, losses: Tensor, taken: Tensor | None) -> None:
        """``taken`` is a 0-dim bool: whether the losses count; None: they do."""
        total, count = losses.sum(), len(losses)
        self.state[0] += total if taken is None else torch.where(taken, total, 0)
        self.state[1] += count if taken is None else taken * count

    def take(self) -> float:
        """The mean so far, and start again; synchronises with the device."""
        total, count = self.state.tolist()
        self.state.zero_()
        return float(total / count) if count else float("nan")


def _percent(records: list[Record]) -> str:
    test = next(record for record in records if record.split == "test")
    return f"{100 * test.clean:.1f}/{100 * test.robust:.1f}"
