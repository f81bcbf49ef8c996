"""Ask for trials, run them through a launcher, report, prune and tell: until a search has its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from time import monotonic, sleep

from buttress.comparing.board import Board
from buttress.comparing.jobs import BUSY, Job
from buttress.comparing.same_examples import expect_same_data_as_started
from buttress.console.tables import percent
from buttress.errors import InputError, InterruptionError, WorkError
from buttress.launching.launcher import Launcher, Task, TaskEnd
from buttress.launching.task_error import is_of_training
from buttress.processes import StopRequest
from buttress.searching.accuracy import CurveWatch, accuracy_of, curve_of
from buttress.searching.progress import SearchProgress
from buttress.searching.study import OptunaStudy, SearchTrial
from buttress.searching.task import stop, task_of
from buttress.storage.leases import holder_of

# Seconds between looks at the tasks, at the records of runs at work, and at runs that other processes are at work on.
_LOOK, _READ, _ELSEWHERE = 0.05, 1.0, 5.0
# Number of trials in a row without a value that ends a search.
_MOST_IN_A_ROW = 10


@dataclass
class _AtWork:
    """A trial that has begun: its runs that wait, and what its finished runs came to, by seed."""

    trial: SearchTrial
    waiting: list[Job]
    watch: CurveWatch
    seeds: int
    values: dict[int, float] = field(default_factory=dict)

    @property
    def first_is_done(self) -> bool:
        return self.watch.job.seed in self.values


class Driver:
    """Runs the trials of a search.

    Args:
        study: study that chooses them.
        launcher: launcher, opened.
        runs_of: function that makes the runs of a trial, or raises an InputError where its settings are refused.
        trials: number of trials that are to have ended.
        track: track whose robust accuracy on the validation split is maximised.
        say: function that receives lines of progress.
        board: board that shows the runs at work.
        taken_over: event after which another process is at work on the search.
    """

    def __init__(
        self,
        study: OptunaStudy,
        launcher: Launcher,
        runs_of: Callable[[SearchTrial], Sequence[Job]],
        trials: int,
        track: str,
        say: Callable[[str], None],
        board: Board,
        taken_over: Event,
    ) -> None:
        self._study, self._launcher, self._runs_of = study, launcher, runs_of
        self._total, self._track, self._board, self._taken_over = trials, track, board, taken_over
        self._at_work: dict[int, _AtWork] = {}
        self._running: dict[Task, Job] = {}
        known = study.trials()
        self._ended = sum(each.state in ("done", "pruned", "broken") for each in known)
        self._progress, self._read = SearchProgress(known, self._ended, trials, say), 0.0
        self._failures, self._in_a_row = 0, 0
        self._passed_over: dict[str, float] = {}  # path of a run to the time of the next look
        self._stop, self._kill = StopRequest(self._end_at_once), False

    def run(self) -> int:
        """Finish all trials; returns how many failed.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves. A second Ctrl-C
                ends them at once.
            RunFolderError, DataError: the folder of a run that is to go on holds another one, or the data have changed.
            WorkError: several trials in a row come to no value, or another process has taken over.
        """
        if self._left:
            self._progress.begin(self._launcher.terms(self._left))
        with self._stop.heard(), self._board:
            try:
                for trial in self._study.unfinished():
                    self._begin(trial)
                while not self._stop.signal and self._goes_on():
                    self._submit()
                    self._look()
                while self._running and self._stop.signal:
                    self._launcher.stop(at_once=self._kill)
                    self._look()
            finally:
                self._launcher.close()  # where something went wrong here, no run goes on without us
        if self._stop.signal:
            cure = self._launcher.left_behind() or "what was trained is saved; give the same command again to go on"
            raise InterruptionError(f"stopped by {self._stop.signal}; {cure}")
        return self._failures

    def _end_at_once(self) -> None:
        self._kill = True

    def _goes_on(self) -> bool:
        return bool(self._at_work or self._running or self._left)

    @property
    def _left(self) -> int:
        """Number of trials that have not begun."""
        return max(0, self._total - self._ended - self._failures - len(self._at_work))

    # Beginning

    def _submit(self) -> None:
        """Hand over as many runs as the launcher has room for."""
        while self._launcher.room() > 0 and (job := self._next()) is not None:
            task = task_of(job)
            self._launcher.submit([task])
            self._running[task] = job
            if (answers := self._launcher.answers(task)) is not None:
                self._board.begin(task.name, answers)
            else:
                self._board.watch(task.name, job.lease)

    def _next(self) -> Job | None:
        """The next run: of a trial whose first run came through, then of a new trial, then of any other.

        A trial may be pruned by its first run, so its other runs come last.
        """
        order = sorted(self._at_work.values(), key=lambda each: not each.first_is_done)
        sure = [each for each in order if each.first_is_done or each.watch.job in each.waiting]
        if (job := self._of(sure)) is not None:
            return job
        while self._left:
            begun = self._begin(self._study.ask())
            if begun is not None and (job := self._of([begun])) is not None:
                return job
        return self._of(order)

    def _of(self, trials: Sequence[_AtWork]) -> Job | None:
        """The first waiting run of these trials that no other process is at work on."""
        for each in trials:
            for job in each.waiting:
                if monotonic() < self._passed_over.get(job.path, 0.0):
                    continue
                holder = holder_of(job.lease)
                if holder is None or self._launcher.takes_up(task_of(job)):
                    each.waiting.remove(job)
                    return job
                if job.path not in self._passed_over:
                    self._progress.say(f"{job}: another process is at work on it ({holder}); the search waits for it")
                self._passed_over[job.path] = monotonic() + _ELSEWHERE
        return None

    def _begin(self, trial: SearchTrial) -> _AtWork | None:
        """Put a trial to work; None where that has ended it already."""
        try:
            jobs = list(self._runs_of(trial))
        except InputError as problem:
            self._fail(trial, f"refused: {problem}")
            return None
        for job in jobs:
            job.check()
        expect_same_data_as_started(jobs)
        at_work = _AtWork(trial, jobs, CurveWatch(jobs[0], self._track), len(jobs))
        self._at_work[trial.number] = at_work
        for job in [job for job in jobs if job.is_done()]:
            at_work.waiting.remove(job)
            self._came_through(at_work, job)
        return self._at_work.get(trial.number)

    # Looking

    def _look(self) -> None:
        sleep(_LOOK)
        if self._taken_over.is_set():
            raise WorkError("this process seemed lost, and another one has taken over its search")
        self._board.look()
        for end in self._launcher.ended():
            self._collect(end)
        if monotonic() - self._read > _READ and not self._stop.signal:
            self._read = monotonic()
            for each in list(self._at_work.values()):
                if not each.first_is_done:
                    self._report(each, each.watch.curve())

    def _collect(self, end: TaskEnd) -> None:
        job = self._running.pop(end.task)
        self._board.end(end.task.name)
        at_work = next((each for each in self._at_work.values() if each.trial.number == _number(job)), None)
        if at_work is None:  # pruned, or failed by another run of it
            return
        if end.code == BUSY:
            at_work.waiting.insert(0, job)
        elif job.is_done():
            self._came_through(at_work, job)
        elif not end.stopped and is_of_training(job.error_file):
            self._break_off(at_work.trial, f"seed {job.seed}: {end.error}")
        elif not end.stopped:
            self._fail(at_work.trial, f"seed {job.seed}: {end.error} (see {job.log})")

    def _came_through(self, at_work: _AtWork, job: Job) -> None:
        """A run has finished: the first one's whole curve may still prune the trial, however fast it was."""
        if job == at_work.watch.job and self._report(at_work, curve_of(job.folder, self._track)):
            return
        at_work.values[job.seed] = accuracy_of(job.folder, self._track)
        if len(at_work.values) == at_work.seeds:
            number = at_work.trial.number
            self._study.finish(number, dict(sorted(at_work.values.items())))
            self._end(number)
            self._in_a_row = 0
            self._progress.done(self._study.trials()[number])

    def _report(self, at_work: _AtWork, curve: dict[int, float]) -> bool:
        """Report the curve of a trial's first run, epoch by epoch; returns whether that ended the trial."""
        number = at_work.trial.number
        for epoch, accuracy in sorted(curve.items()):
            if self._study.report(number, epoch, accuracy):
                self._study.prune(number)
                self._end(number)
                self._in_a_row = 0
                self._progress.ended(at_work.trial, f"pruned after epoch {epoch}, at {percent(accuracy)} %")
                return True
        return False

    # Ending

    def _break_off(self, trial: SearchTrial, reason: str) -> None:
        self._study.break_off(trial.number, reason)
        self._end(trial.number)
        self._progress.ended(trial, f"broken off: {reason}")
        self._count_without_value(reason)

    def _fail(self, trial: SearchTrial, reason: str) -> None:
        self._study.fail(trial.number, reason)
        self._failures += 1
        self._stop_runs(trial.number)
        self._progress.ended(trial, f"failed: {reason}")
        self._count_without_value(reason)

    def _count_without_value(self, reason: str) -> None:
        self._in_a_row += 1
        if self._in_a_row >= _MOST_IN_A_ROW:
            raise WorkError(f"{self._in_a_row} trials in a row came to no value, the last one so: {reason}")

    def _end(self, number: int) -> None:
        self._ended += 1
        self._stop_runs(number)

    def _stop_runs(self, number: int) -> None:
        """Take a trial from work; its runs save themselves and end."""
        self._at_work.pop(number, None)
        for job in self._running.values():
            if _number(job) == number:
                stop(job)


def _number(job: Job) -> int:
    """The number of the trial that a run belongs to."""
    return int(job.label.split()[-1])
