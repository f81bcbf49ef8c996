"""The launcher ``submitit``: jobs of a Slurm cluster, or submitit's own executors on this machine."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from buttress.errors import ConfigError, PluginError, WorkError
from buttress.launching.failure import reason_of
from buttress.launching.launcher import Launcher, Task, TaskEnd
from buttress.launching.supervisor import Supervisor
from buttress.processes import Reference
from buttress.storage.files import make_folder, storage_errors, write_text
from buttress.storage.regular_file import read_regular_file

# Number of tasks that a queue takes at once where ``--jobs`` says nothing.
_MOST = 10_000
# Seconds between looks at the jobs: a look at a cluster reads its file system, and now and then asks Slurm.
_PAUSE = {"slurm": 2.0, "local": 0.2, "debug": 0.0}
# Seconds after which a job that has ended has no result: shared file systems delay news.
_DELAY = {"slurm": 60.0, "local": 0.0, "debug": 0.0}
# States of a job that waits, works, or comes back into the queue.
_LIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED", "SUSPENDED", "CONFIGURING", "RESIZING")
# End of the name of the file with the id of a task's job, beside the task's log.
_JOB = ".job"


@dataclass
class _Submitted:
    """A task in the queue or at work: its job, since when, when the job was first seen ended, and
    whether and how often it was asked to stop.
    """

    task: Task
    job: Any
    started: float
    ended: float | None = None
    stopped: bool = False
    signals: int = 0


class SlurmJobs(Launcher):
    """Jobs of a Slurm cluster through submitit: those that begin together are one array.

    A job that reaches its time limit, or is preempted, saves its run and goes into the queue again. The command may end
    meanwhile: the jobs go on, and the same command waits for them again. Needs the package submitit (extra ``slurm``).
    The executors ``local`` and ``debug`` are processes of this machine; they know the settings executor, timeout_min,
    signal_delay_s, requeues, gpus_per_node and setup, and pass over the others.

    Args:
        executor: ``slurm``; ``local``, processes of this machine with the time limit and the requeues of a cluster;
            ``debug``, one task after the other; ``auto``: slurm where there is ``srun``, else local.
        name: name of the jobs in the queue; by default ``buttress-`` and the name of the folder they work for.
        partition: partition of the cluster.
        account: account that is charged.
        qos: quality of service.
        timeout_min: time limit of a job in minutes; a run that takes longer goes on in the next job.
        signal_delay_s: seconds before the time limit at which a run is asked to save itself.
        requeues: largest number of times that a run reaches the time limit.
        gpus_per_node: number of GPUs of a job.
        cpus_per_task: number of processors of a job, and of threads unless OMP_NUM_THREADS is set.
        mem_gb: memory of a job in GB.
        gres: generic resources, as sbatch takes them.
        constraint: features that the node must have.
        nodelist: nodes to use.
        exclude: nodes not to use.
        array_parallelism: largest number of jobs of an array at work at once.
        setup: shell commands before the work begins, such as ``[module load cuda]``.
        srun_args: further arguments of srun.
        additional_parameters: further options of sbatch, without dashes: ``{reservation: course}``.
    """

    def __init__(
        self,
        *,
        executor: Literal["auto", "slurm", "local", "debug"] = "auto",
        name: str | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        timeout_min: Annotated[int, Ge(1)] = 240,
        signal_delay_s: Annotated[int, Ge(1)] = 300,
        requeues: Annotated[int, Ge(0)] = 100,
        gpus_per_node: Annotated[int, Ge(0)] | None = None,
        cpus_per_task: Annotated[int, Ge(1)] | None = None,
        mem_gb: Annotated[float, Gt(0)] | None = None,
        gres: str | None = None,
        constraint: str | None = None,
        nodelist: str | None = None,
        exclude: str | None = None,
        array_parallelism: Annotated[int, Ge(1)] = 256,
        setup: list[str] | None = None,
        srun_args: list[str] | None = None,
        additional_parameters: dict[str, str | int] | None = None,
    ) -> None:
        try:
            self._submitit = import_module("submitit")
        except ImportError as problem:
            raise PluginError(
                f"launcher submitit: its package is not installed ({problem}); pip install 'buttress[slurm]', or leave "
                "--launcher out"
            ) from None
        has_slurm = shutil.which("srun") is not None and shutil.which("sbatch") is not None
        if executor == "slurm" and not has_slurm:
            raise ConfigError(
                "there is no sbatch and srun here; give the command where jobs are submitted, or choose local",
                key="executor",
            )
        if signal_delay_s >= 60 * timeout_min:
            raise ConfigError(
                f"expected less than the time limit of {60 * timeout_min} s, got {signal_delay_s}", key="signal_delay_s"
            )
        self._cluster = executor if executor != "auto" else "slurm" if has_slurm else "local"
        self._name, self._requeues = name, requeues
        everywhere = {
            "timeout_min": timeout_min,
            "mem_gb": mem_gb,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
            "nodes": 1,
            "tasks_per_node": 1,
        }
        on_slurm = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "signal_delay_s": signal_delay_s,
            "gres": gres,
            "constraint": constraint,
            "nodelist": nodelist,
            "exclude": exclude,
            "array_parallelism": array_parallelism,
            "setup": setup,
            "srun_args": srun_args,
            "additional_parameters": additional_parameters,
        }
        self._parameters = {**everywhere, **{f"slurm_{key}": value for key, value in on_slurm.items()}}
        self._local = {"setup": tuple(setup or ()), "signal_delay_s": signal_delay_s}
        self._jobs, self._looked = 1, 0.0
        self._submitted: list[_Submitted] = []
        self._left: dict[str, None] = {}  # an ordered set of ids
        self._earlier: dict[Path, Any] = {}

    def open(self, folder: Path, jobs: int | None) -> None:
        self._jobs = jobs or (_MOST if self._cluster == "slurm" else 1)
        self._folder = (folder / "submitit").absolute()
        with storage_errors(self._folder):
            make_folder(self._folder)
        limits = {f"{self._cluster}_max_num_timeout": self._requeues} if self._cluster != "debug" else {}
        self._executor = self._submitit.AutoExecutor(folder=self._folder, cluster=self._cluster, **limits)
        name = self._name or f"buttress-{folder.absolute().parent.name}"
        self._executor.update_parameters(name=name, **self._parameters)
        if self._cluster == "local":
            self._executor._executor.parameters |= self._local  # AutoExecutor has no way to the second of them
        if self._cluster == "slurm":  # all of them at once, so that Slurm is asked once
            ids = {file: read_regular_file(file).decode() for file in folder.glob(f"*{_JOB}")}
            self._earlier = {file: self._submitit.SlurmJob(self._folder, identity) for file, identity in ids.items()}

    def terms(self, count: int) -> str:
        where = "jobs of Slurm" if self._cluster == "slurm" else f"jobs of submitit's executor {self._cluster}"
        return f"{min(self._jobs, count)} at once, {where}, whose own files are in {self._folder}"

    def room(self) -> int:
        return self._jobs - len(self._submitted)

    def takes_up(self, task: Task) -> bool:
        return self._earlier_job(task) is not None

    def submit(self, tasks: Sequence[Task]) -> None:
        earlier = {task: job for task in tasks if (job := self._earlier_job(task)) is not None}
        new = [task for task in tasks if task not in earlier]
        jobs = {**earlier, **dict(zip(new, self._submit_new(new), strict=True))}
        self._submitted += [_Submitted(task, jobs[task], monotonic()) for task in tasks]

    def ended(self) -> list[TaskEnd]:
        is_asked = any(each.stopped for each in self._submitted)
        if monotonic() - self._looked < _PAUSE[self._cluster] and not is_asked:
            return []
        ends = {submitted.task: self._end_of(submitted) for submitted in self._submitted}
        self._submitted = [each for each in self._submitted if ends[each.task] is None]
        self._looked = monotonic()
        return [end for end in ends.values() if end is not None]

    def stop(self, *, at_once: bool = False) -> None:
        for each in self._submitted:
            if self._cluster == "slurm":
                self._left[each.job.job_id] = None
            elif self._cluster == "local" and each.signals < 1 + at_once:
                each.job._process.terminate()  # its controller passes the signal on
                each.signals += 1
            each.stopped = True

    def close(self) -> None:
        if self._cluster == "local":
            self.stop()
            for each in self._submitted:
                each.job._process.wait()
        self._submitted = []

    def left_behind(self) -> str:
        if not self._left:
            return ""
        arrays = dict.fromkeys(job.partition("_")[0] for job in self._left)
        count = "1 job goes" if len(self._left) == 1 else f"{len(self._left)} jobs go"
        return f"{count} on in Slurm; the same command waits for them again; scancel {' '.join(arrays)} ends them"

    def _submit_new(self, tasks: Sequence[Task]) -> list[Any]:
        """Jobs for tasks, as one array where there are several."""
        work = [
            Supervisor(
                Reference(task.function.__module__, task.function.__qualname__),
                task.order,
                task.log.absolute(),
                in_queue=self._cluster != "debug",
            )
            for task in tasks
        ]
        for task in tasks:
            with storage_errors(task.error_file):
                task.error_file.unlink(missing_ok=True)
        environment = self._submitit.helpers.environment_variables
        try:
            # A file of the working folder is no module of submitit; and Ctrl-C on the terminal is ours.
            with environment(PYTHONSAFEPATH="1"), _ctrl_c_ignored():
                jobs = list(self._executor.submit_array(work)) if work else []
        except (self._submitit.core.utils.FailedJobError, self._submitit.core.utils.FailedSubmissionError) as problem:
            raise WorkError(f"launcher submitit: sbatch refuses the jobs: {' '.join(str(problem).split())}") from None
        if self._cluster == "slurm":
            for task, job in zip(tasks, jobs, strict=True):
                write_text(job_file(task), job.job_id)
        return jobs

    def _earlier_job(self, task: Task) -> Any:
        """The job that an earlier command has begun for a task, and that waits or works still; or None."""
        job = self._earlier.get(job_file(task))
        return job if job is not None and not job.paths.result_pickle.exists() and _is_live(job) else None

    def _end_of(self, submitted: _Submitted) -> TaskEnd | None:
        """The end of a task, or None where it waits or works."""
        task, job = submitted.task, submitted.job
        seconds = monotonic() - submitted.started
        if submitted.stopped and self._cluster == "slurm":
            return TaskEnd(task, None, "", seconds, stopped=True)
        if not job.done() or (self._cluster == "slurm" and not job.paths.result_pickle.exists() and _is_live(job)):
            submitted.ended = None
            return None
        if self._cluster == "debug" or job.paths.result_pickle.exists():
            if (problem := job.exception()) is not None:
                return TaskEnd(task, None, _last_line(problem), seconds, submitted.stopped)
            code, log_size = job.result()
            error = reason_of(task, code, log_size) if code else ""
            return TaskEnd(task, code, error, seconds, submitted.stopped)
        submitted.ended = submitted.ended or monotonic()
        if monotonic() - submitted.ended < _DELAY[self._cluster] and not submitted.stopped:
            return None
        words = f"Slurm says {job.state}" if self._cluster == "slurm" else "its process ended"
        return TaskEnd(
            task, None, f"{words}, and it left no result; see {job.paths.stderr}", seconds, submitted.stopped
        )


def job_file(task: Task) -> Path:
    """The file with the id of the job that a task was submitted as."""
    return task.log.with_suffix(_JOB)


def _is_live(job: Any) -> bool:
    """Whether a job of Slurm waits, works, or comes back into the queue."""
    return str(job.state).split(" ")[0] in _LIVE


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let the processes that are started in the block ignore Ctrl-C, as they inherit it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _last_line(problem: BaseException) -> str:
    """The reason in an exception of submitit, whose text has a traceback and names files."""
    lines = [line.strip() for line in str(problem).splitlines()]
    errors = [line for line in lines if "Error: " in line and not line.startswith("File ")]
    return (errors or [line for line in lines if line] or [type(problem).__name__])[-1]
