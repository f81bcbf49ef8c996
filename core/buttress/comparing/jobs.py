"""The runs of a comparison, each in a process of its own and some at a time: one that crashes ends no other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from buttress.cli import exit_code_of
from buttress.comparing.board import Board, listener_to
from buttress.config import ConfigFile
from buttress.discovery.own_modules import expect_unchanged
from buttress.discovery.plugins_file import PluginsFile, read_plugins_file
from buttress.errors import CheckpointError, InterruptionError, RunFolderError
from buttress.evaluating.assessment import assess
from buttress.evaluating.subject import load_subject
from buttress.processes import StopRequest
from buttress.reporter import Reporter
from buttress.storage.files import make_folder, storage_errors
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed, write_sealed
from buttress.tables import duration
from buttress.training.launch import continue_run, launch
from buttress.yaml_source import parse_yaml, read_yaml

# Seconds between looks at the processes.
_LOOK = 0.05
# Keys of a config that no number depends on; of ``modules``, the manifest knows the files.
_CHANGES_NOTHING = ("loggers", "modules")


@dataclass(frozen=True)
class Job:
    """One run, and the comparison's own attacks on its weights.

    Args:
        label: of the variant.
        seed: of the run.
        path: its run folder, ``runs/<comparison>/<run>``.
        config: the resolved config, as YAML: that which was checked, whatever happens to the file meanwhile.
        attacks: as in ``buttress evaluate --attack``.
        plugins_text: what stands in the config's ``plugins_file``, if it has one.
    """

    label: str
    seed: int
    path: str
    config: str
    attacks: tuple[str, ...]
    plugins_text: str | None = None

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"

    @property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.path))

    @property
    def log(self) -> Path:
        """Where its process speaks."""
        return self.folder.path.parent / "logs" / f"{self.folder.path.name}.log"

    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Attack to track to accuracy of the ``best`` and the ``last`` weights, as far as measured."""
        path = self.folder.path / "compare.json"
        found: dict[str, dict[str, dict[str, float]]] = read_sealed(path) if path.exists() else {}
        return found

    def is_done(self) -> bool:
        return self.folder.summary.exists() and set(self.attacks) <= set(self.scores())

    def file(self) -> ConfigFile:
        """The config of a run that is to be started."""
        source = parse_yaml(self.config, "config")
        if self.plugins_text is None:
            return ConfigFile(source)
        return ConfigFile(source, PluginsFile(Path(source.value["plugins_file"]), self.plugins_text))

    def check(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            RunFolderError: a run of another config, or no run at all.
        """
        folder, cure = self.folder, "choose another --name, or move that folder away"
        if folder.config.is_file():
            there, asked = (
                {key: value for key, value in source.value.items() if key not in _CHANGES_NOTHING}
                for source in (read_yaml(folder.config), parse_yaml(self.config, ""))
            )
            if there != asked:
                keys = [key for key in {**there, **asked} if there.get(key) != asked.get(key)]
                raise RunFolderError(f"{folder.path} holds a run of another config: {', '.join(keys)} differ; {cure}")
            name = asked.get("plugins_file")
            if name and read_plugins_file(folder.path / name).text != self.plugins_text:
                raise RunFolderError(f"{folder.path} holds a run of another {name}; {cure}")
            with suppress(CheckpointError):  # a damaged manifest: what it said is not known
                expect_unchanged(read_sealed(folder.manifest).get("modules", {}), folder.path)
        elif folder.path.exists() and not folder.metrics.exists() and any(folder.path.iterdir()):
            raise RunFolderError(f"{folder.path} is no run folder, and a run is to live there; {cure}")


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Make the folder of a comparison and keep others out of it; yields the descriptor that holds it.

    Raises:
        RunFolderError: a comparison is at work there, or a run that outlived one.
    """
    path = folder / "logs" / "lock"
    with storage_errors(path):
        make_folder(path.parent)
        stream = path.open("w")
    with stream:
        with storage_errors(path):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{folder}: a comparison is at work there; wait for it, stop it, or choose another --name"
                ) from None
        yield stream.fileno()


class Pool:
    """Runs jobs in processes.

    Args:
        jobs: all of the comparison; those that are done already are only counted.
        slots: processes at once; each gets its share of the processors as threads, unless OMP_NUM_THREADS says more.
        lock: descriptor that every process holds too, see ``alone``.
        say: where progress goes.
    """

    def __init__(self, jobs: Sequence[Job], slots: int, lock: int, say: Callable[[str], None]) -> None:
        self._waiting = [job for job in jobs if not job.is_done()]
        self._total, self._new = len(jobs), len(self._waiting)
        self._slots, self._lock, self._say, self._board = slots, lock, say, Board(say)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // slots)))
        self._environment = {**os.environ, "OMP_NUM_THREADS": threads}
        self._running: dict[subprocess.Popen[bytes], tuple[Job, float, int]] = {}
        self._failed: dict[tuple[str, int], str] = {}
        self._started = monotonic()
        self._stop, self._kill = StopRequest(self._end_at_once), False

    def run(self) -> dict[tuple[str, int], str]:
        """Finish all; returns, by label and seed, why each failed one did.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves. A second Ctrl-C
                ends them at once.
        """
        if self._waiting:
            threads = self._environment["OMP_NUM_THREADS"]
            self._say(
                f"{self._total} runs, {self._total - self._new} done before; {min(self._slots, self._new)} at once, "
                f"OMP_NUM_THREADS={threads} each; logs: {self._waiting[0].log.parent}"
            )
        with self._stop.heard(), self._board:
            try:
                while (self._waiting and not self._stop.signal) or self._running:
                    while self._waiting and len(self._running) < self._slots and not self._stop.signal:
                        self._start(self._waiting.pop(0))
                    sleep(_LOOK)
                    self._board.look()
                    self._pass_on()
                    self._collect()
            finally:
                for process in self._running:  # something went wrong here: no run goes on without us
                    process.terminate()
                for process in self._running:
                    process.wait()
        if self._stop.signal:
            raise InterruptionError(
                f"stopped by {self._stop.signal}; what was trained is saved; give the same command again to go on"
            )
        return self._failed

    def _end_at_once(self) -> None:
        self._kill = True

    def _pass_on(self) -> None:
        """Tell the processes to stop: they save themselves; after a second Ctrl-C they are ended."""
        asked = (self._stop.signal is not None) + self._kill
        for process, (job, started, told) in self._running.items():
            if told < asked:
                process.send_signal(signal.SIGTERM if told == 0 else signal.SIGKILL)
                self._running[process] = (job, started, told + 1)

    def _start(self, job: Job) -> None:
        with tempfile.TemporaryFile() as order, storage_errors(job.log), job.log.open("wb") as log:
            channel = self._board.begin(str(job))
            order.write(json.dumps({"job": asdict(job), "channel": channel}).encode())
            order.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-c", "from buttress.comparing.jobs import work; work()"],
                stdin=order,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C on the terminal is ours; we pass it on once
                pass_fds=(self._lock, channel),
            )
            os.close(channel)
        self._running[process] = (job, monotonic(), 0)

    def _collect(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            job, started, told = self._running.pop(process)
            self._board.end(str(job))
            if told:
                continue
            outcome = "done"
            if process.returncode != 0:
                self._failed[job.label, job.seed] = _reason(process.returncode, job.log)
                outcome = f"failed, see {job.log}"
            left = len(self._waiting) + len(self._running)
            forecast = (monotonic() - self._started) / (self._new - left) * left
            self._say(
                f"[{self._total - left}/{self._total}] {job}: {outcome} "
                f"({duration(monotonic() - started)})" + (f"; about {duration(forecast)} left" if left else "")
            )


def _reason(code: int, log: Path) -> str:
    """Why a process failed: the signal that ended it, or the last line that it said."""
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{hint}"
    said = log.read_text(encoding="utf-8", errors="replace").strip() or f"exit code {code} without a word"
    return said.splitlines()[-1].removeprefix("buttress: ")


def work() -> None:
    """One job, in a process of its own; the job comes as JSON on standard input."""
    order: dict[str, Any] = json.load(sys.stdin)
    job = Job(**{**order["job"], "attacks": tuple(order["job"]["attacks"])})
    sys.exit(exit_code_of(lambda: _do(job, Reporter(listener=listener_to(order["channel"])))))


def _do(job: Job, reporter: Reporter) -> None:
    folder = job.folder
    if folder.path.exists() and not folder.summary.exists() and not any(folder.checkpoints.glob("*.json")):
        shutil.rmtree(folder.path)  # it ended before its first checkpoint: there is nothing to go on from
    if not folder.path.exists():
        file = job.file()
        launch(file, folder.path.parent.parent, folder.path.name, forecast=False, reporter=reporter)
    elif not folder.summary.exists():
        continue_run(folder.path, reporter)
    tracks = [row["track"] for row in read_sealed(folder.summary)["tracks"]]
    for text in job.attacks:
        found = job.scores()
        if text not in found:
            found[text] = {
                track: {which: _accuracy(folder, text, track, which, reporter) for which in ("best", "last")}
                for track in tracks
            }
            write_sealed(folder.path / "compare.json", found)


def _accuracy(folder: RunFolder, attack: str, track: str, which: str, reporter: Reporter) -> float:
    """Accuracy under ``attack`` alone, on every test example, as the run itself measures its own attack."""
    subject = load_subject(folder.path, track=track, checkpoint=which)
    accuracy: float = assess(subject, [attack], each=True, reporter=reporter)["attacks"][-1]["accuracy"]
    return accuracy
