"""A run of a trial as a task for a launcher, and how it is asked to stop alone: by a file, on any machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from buttress.comparing.jobs import Job
from buttress.comparing.jobs import work as work_on_job
from buttress.launching.launcher import Task
from buttress.processes import Channel
from buttress.storage.files import make_folder, storage_errors

# Seconds between looks for the file.
_LOOK = 0.5


def task_of(job: Job) -> Task:
    """The work on a run; an earlier request to stop it is withdrawn."""
    with storage_errors(_stop_file(job)):
        _stop_file(job).unlink(missing_ok=True)
    return Task(str(job), work, {"job": asdict(job), "stop": str(_stop_file(job))}, job.log, job.error_file)


def stop(job: Job) -> None:
    """Ask the process at work on a run to save it and to end."""
    with storage_errors(_stop_file(job)):
        make_folder(_stop_file(job).parent)
        _stop_file(job).touch()


def _stop_file(job: Job) -> Path:
    return job.log.with_suffix(".stop")


def work(order: Mapping[str, Any], channel: Channel) -> None:
    """Carry out a task of ``task_of`` in a process of its own."""
    over = threading.Event()
    threading.Thread(target=_stop_when_asked, args=(Path(order["stop"]), over), daemon=True).start()
    try:
        work_on_job(order["job"], channel)
    finally:
        over.set()


def _stop_when_asked(path: Path, over: threading.Event) -> None:
    """Wait for the file, then ask this process to stop as Ctrl-C does: a run saves itself first."""
    while not over.wait(_LOOK):
        if path.exists():
            os.kill(os.getpid(), signal.SIGINT)
            return
