"""A Slurm of one machine for tests: sbatch, srun, sacct and scontrol, with jobs as processes in the background.

``python fake_slurm.py VERB ARGUMENTS``; the state lies in the folder FAKE_SLURM: for each job a file with its
state, and the wish to be requeued.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

VERBS = ("sbatch", "srun", "sacct", "scontrol")


def install(folder: Path) -> None:
    """Put the commands into ``folder/bin``."""
    (folder / "bin").mkdir(parents=True)
    for verb in VERBS:
        command = folder / "bin" / verb
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P {__file__} {verb} "$@"\n')
        command.chmod(0o755)


def sbatch(state: Path, script: str) -> None:
    number = 100 + len(list(state.glob("*.script")))
    text = Path(script).read_text()
    (state / f"{number}.script").write_text(text)
    array = re.search(r"--array='?0-(\d+)%", text)
    jobs = [f"{number}_{index}" for index in range(int(array[1]) + 1)] if array else [str(number)]
    for job in jobs:
        (state / f"{job}.state").write_text("PENDING")
        subprocess.Popen(
            [sys.executable, "-P", __file__, "work", job],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    print(f"Submitted batch job {number}")  # noqa: T201


def work(state: Path, job: str) -> None:
    """Carry a job out, again where it was requeued."""
    number, _, index = job.partition("_")
    array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index} if index else {}
    environment = {**os.environ, **array, "SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1", "FAKE_JOB": job}
    wish = state / f"{job}.requeue"
    while True:
        (state / f"{job}.state").write_text("RUNNING")
        code = subprocess.run(["bash", state / f"{number}.script"], env=environment, check=False).returncode
        if not wish.exists():
            break
        wish.unlink()
    (state / f"{job}.state").write_text("COMPLETED" if code == 0 else "NODE_FAIL")


def srun(state: Path, *words: str) -> None:
    options = dict(zip(words[1:5:2], words[2:5:2], strict=True))
    streams = [os.open(_named(options[key]), os.O_WRONLY | os.O_CREAT | os.O_APPEND) for key in ("--output", "--error")]
    for stream, descriptor in zip(streams, (1, 2), strict=True):
        os.dup2(stream, descriptor)
    os.execvp(words[5], words[5:])


def _named(path: str) -> str:
    environment = os.environ
    path = path.replace("%A_%a", environment["FAKE_JOB"]).replace("%j", environment["FAKE_JOB"])
    return path.replace("%t", "0")


def sacct(state: Path, *_: str) -> None:
    print("JobID|State|NodeList")  # noqa: T201
    for file in sorted(state.glob("*.state")):
        print(f"{file.stem}|{file.read_text()}|node1")  # noqa: T201


def scontrol(state: Path, verb: str, job: str) -> None:
    assert verb == "requeue"
    (state / f"{job}.requeue").touch()
    (state / f"{job}.state").write_text("REQUEUED")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    {each.__name__: each for each in (sbatch, work, srun, sacct, scontrol)}[verb](
        Path(os.environ["FAKE_SLURM"]), *arguments
    )
