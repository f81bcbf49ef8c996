"""``buttress compare --status``: which runs of a comparison are done, running, failed and waiting. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Literal

from buttress.comparing.jobs import Job
from buttress.comparing.plan_file import read_plan
from buttress.console.tables import WIDTH, duration, fitted, wrapped
from buttress.errors import RunFolderError, nearest
from buttress.launching.task_error import kept_error
from buttress.storage.holders import Holder
from buttress.storage.leases import holder_of, last_holder
from buttress.storage.regular_file import read_regular_file

State = Literal["done", "running", "failed", "waiting"]
_STATES: tuple[State, ...] = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class JobStatus:
    """The state of a run of a comparison.

    Args:
        method: label of its variant.
        seed: its seed.
        state: ``done``, ``running``, ``failed`` or ``waiting``.
        run: its folder, which may be missing.
        doing: description of its work at the last sign of life, such as ``"epoch 3/12, loss 1.250"``.
        share: share of the work that is done.
        left: seconds of work left, or None.
        host: machine that works on it, or did when it was lost.
        pid: number of its process there.
        job: id of the job that it was last handed to a queue as.
        since: time at which the process took it over.
        error: reason of its failure.
        log: file with the output of its process, where there is one.
    """

    method: str
    seed: int
    state: State
    run: str
    doing: str = ""
    share: float | None = None
    left: float | None = None
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    since: str | None = None
    error: str | None = None
    log: str | None = None


def status_of(runs: Path, name: str) -> list[JobStatus]:
    """The state of every run that any command has asked for, in the order of the table.

    Args:
        runs: folder of all runs.
        name: name of the comparison.

    Raises:
        RunFolderError: there is no such comparison.
        CheckpointError: its plan is damaged.
    """
    folder = runs / name
    if not (folder / "plan.json").is_file():
        beside = sorted(path.parent.name for path in runs.glob("*/plan.json"))
        raise RunFolderError(f"{folder} is no comparison: it has no plan.json{nearest(name, beside)}", path=folder)
    return [
        status_of_run(Job(member.label, seed, str(folder / member.variant.run(seed)), "", ()))
        for member in read_plan(folder).members
        for seed in member.seeds
    ]


def status_of_run(job: Job) -> JobStatus:
    """The state of one run."""
    now = time()
    holder, queued = holder_of(job.lease, now), job.log.with_suffix(".job")
    before = None if holder else last_holder(job.lease)
    is_lost = before is not None and not before.released
    error = None if holder else kept_error(job.error_file)
    state: State = "waiting"
    if holder is not None:
        state = "running"
    elif job.folder.summary.exists():
        state, error = "done", None
    elif error is not None or is_lost:
        state = "failed"
        error = error or "its process has gone without a word"
    facts: dict[str, Any] = {}
    if holder is not None or (before is not None and state == "failed"):
        facts = _facts(holder or before)
    elif before is not None and state == "waiting":
        facts = {"doing": before.doing, "share": before.share}
    if queued.is_file():
        facts["job"] = read_regular_file(queued).decode()
    log = str(job.log) if job.log.is_file() else None
    return JobStatus(job.label, job.seed, state, job.path, error=error, log=log, **facts)


def _facts(holder: Holder | None) -> dict[str, Any]:
    return {key: getattr(holder, key) for key in ("doing", "share", "left", "host", "pid", "job", "since")}


def status_json(rows: Sequence[JobStatus]) -> list[dict[str, object]]:
    """The states as JSON values."""
    return [asdict(row) for row in rows]


def status_text(rows: Sequence[JobStatus]) -> str:
    """The states as a table of at most 80 columns, with the errors of failed runs and their logs below it."""
    counts = Counter(row.state for row in rows)
    summary = ", ".join(f"{counts[state]} {state}" for state in _STATES)
    lines = [[row.method, str(row.seed), row.state, _progress(row), _where(row)] for row in rows]
    failures = [_failure(row) for row in rows if row.state == "failed"]
    text = fitted(["method", "seed", "state", "progress", "where"], lines, WIDTH, names=5)
    return "\n\n".join([f"{len(rows)} runs: {summary}", text, *(wrapped(each, WIDTH) for each in failures)])


def _failure(row: JobStatus) -> str:
    return f"{row.method}, seed {row.seed}: {row.error}{f'; see {row.log}' if row.log else ''}"


def _where(row: JobStatus) -> str:
    if row.state == "done":
        return ""
    process = f"{row.host}, process {row.pid}" if row.host else ""
    job = f"job {row.job}" if row.job else ""
    since = f"for {_age(row.since)}" if row.state == "running" and row.since else ""
    return ", ".join(filter(None, [process, job, since]))


def _age(since: str) -> str:
    return duration(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()))


def _progress(row: JobStatus) -> str:
    if row.state == "done" or not row.doing:
        return ""
    epoch = row.doing.partition(",")[0]
    return f"{epoch}, {100 * (row.share or 0):.0f} %"
