"""Tasks as jobs of submitit: of a Slurm made up of scripts, and of submitit's own executors."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buttress.errors import ConfigError, PluginError, WorkError
from buttress.launching import slurm
from buttress.launching.chosen import load_launcher
from buttress.launching.launcher import Launcher, Task, TaskEnd

from . import fake_slurm
from .tasks import carry_out

Open = Callable[..., Launcher]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens launchers ``submitit``, in the folder of the test; Slurm is made of scripts."""
    fake_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(slurm, "_DELAY", dict.fromkeys(slurm._DELAY, 0.0))
    monkeypatch.setattr(slurm, "_PAUSE", dict.fromkeys(slurm._PAUSE, 0.1))
    launchers = []

    def make(executor: str, jobs: int | None = None, *options: str) -> Launcher:
        if executor == "slurm":
            monkeypatch.setenv("PATH", f"{tmp_path / 'slurm' / 'bin'}{os.pathsep}{os.environ['PATH']}")
        launcher = load_launcher("submitit", [f"executor={executor}", *options])
        launcher.open(tmp_path / "logs", jobs)
        launchers.append(launcher)
        return launcher

    yield make
    for each in launchers:
        each.close()


def task(folder: Path, do: str) -> Task:
    order = {"folder": str(folder), "do": do}
    return Task(do, carry_out, order, folder / "logs" / f"{do}.log", folder / f"{do}.json")


def until(condition: Callable[[], Any]) -> Any:
    """The value of a condition, once it is true."""
    deadline = time.monotonic() + 120
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited for 120 seconds"
        time.sleep(0.05)
    return value


def all_ends(launcher: Launcher, count: int) -> dict[str, TaskEnd]:
    ends: dict[str, TaskEnd] = {}

    def complete() -> bool:
        ends.update({end.task.name: end for end in launcher.ended()})
        return len(ends) == count

    until(complete)
    return ends


# The executor debug leaves its logs open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("executor", ["slurm", "local", "debug"])
def test_tasks_end_with_their_codes_and_the_reasons_of_failures(opened: Open, tmp_path: Path, executor: str):
    launcher = opened(executor, 3)
    launcher.submit([task(tmp_path, do) for do in ("nothing", "fail", "kill")])
    assert launcher.room() == 0
    ends = all_ends(launcher, 3)
    assert {name: (end.code, end.error.partition(" The traceback")[0]) for name, end in ends.items()} == {
        "nothing": (0, ""),
        "fail": (1, "of no use"),
        "kill": (-9, "ended by SIGKILL (out of memory?)"),
    }
    assert "ConfigError: of no use" in (tmp_path / "logs" / "fail.log").read_text()
    assert (launcher.room(), launcher.ended(), launcher.left_behind()) == (3, [], "")
    if executor == "slurm":
        assert (tmp_path / "logs" / "fail.job").read_text() == "100_1"  # one array


@pytest.mark.parametrize("executor", ["slurm", "local"])
def test_a_preempted_task_saves_itself_and_goes_on_in_the_queue(opened: Open, tmp_path: Path, executor: str):
    launcher = opened(executor, 1, "cpus_per_task=1")
    launcher.submit([task(tmp_path, "save")])
    os.kill(int(until(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())), signal.SIGUSR2)
    end = all_ends(launcher, 1)["save"]
    assert (end.code, end.error, end.stopped) == (0, "", False)
    assert (tmp_path / "saved").read_text() == "SIGUSR2"
    environment = "100 1" if executor == "slurm" else "None None"
    assert (tmp_path / "tries").read_text().splitlines() == [environment, environment]


def test_a_task_that_reaches_the_time_limit_too_often_has_failed(opened: Open, tmp_path: Path):
    launcher = opened("local", 1, "requeues=0", "timeout_min=1", "signal_delay_s=57")  # the signal comes after 3 s
    launcher.submit([task(tmp_path, "save")])
    end = all_ends(launcher, 1)["save"]
    assert end.code is None
    assert end.error.endswith("Job not requeued because: timed-out too many times.")


@pytest.mark.parametrize(("executor", "message"), [("slurm", "Slurm says NODE_FAIL"), ("local", "its process ended")])
def test_a_job_that_is_lost_is_a_failure_that_names_a_log(opened: Open, tmp_path: Path, executor: str, message: str):
    launcher = opened(executor)
    launcher.submit([task(tmp_path, "kill the job")])
    end = all_ends(launcher, 1)["kill the job"]
    assert end.code is None
    assert end.error.startswith(f"{message}, and it left no result; see {tmp_path / 'logs' / 'submitit'}")


def test_jobs_of_slurm_go_on_without_the_command_and_are_taken_up(opened: Open, tmp_path: Path):
    launcher = opened("slurm")
    tasks = [task(tmp_path, "save"), task(tmp_path, "nothing")]
    launcher.submit(tasks)
    ready = until(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())
    for _ in range(3):
        launcher.stop()
    assert {end.stopped for end in launcher.ended()} <= {True, False}
    assert launcher.left_behind().endswith("on in Slurm; the same command waits for them again; scancel 100 ends them")
    launcher.close()
    again = opened("slurm")
    same = task(tmp_path, "save")
    assert again.takes_up(same)
    assert not again.takes_up(task(tmp_path, "fail"))
    again.submit([same])
    os.kill(int(ready), signal.SIGUSR2)
    assert all_ends(again, 1)["save"].code == 0
    assert len((tmp_path / "tries").read_text().splitlines()) == 2
    assert not opened("slurm").takes_up(same)
    assert [each.name for each in (tmp_path / "slurm").glob("*.script")] == ["100.script"]  # nothing was begun twice


@pytest.mark.parametrize("at_once", [False, True])
def test_jobs_of_this_machine_stop_with_the_command(opened: Open, tmp_path: Path, at_once: bool):
    launcher = opened("local")
    launcher.submit([task(tmp_path, "wait")])
    until(lambda: (tmp_path / "ready").exists())
    launcher.stop()
    if at_once:
        launcher.stop(at_once=True)
    end = all_ends(launcher, 1)["wait"]
    assert end.stopped
    assert launcher.left_behind() == ""
    if not at_once:
        assert (tmp_path / "saved").read_text() == "SIGTERM"


def test_what_sbatch_refuses_is_one_sentence(opened: Open, tmp_path: Path):
    launcher = opened("slurm")
    sbatch = tmp_path / "slurm" / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid\n partition' >&2\nexit 1\n")
    with pytest.raises(WorkError, match=r"^launcher submitit: sbatch refuses the jobs: .*: invalid partition$"):
        launcher.submit([task(tmp_path, "nothing")])


def test_settings_reach_sbatch(opened: Open, tmp_path: Path):
    options = ["partition=gpu", "gpus_per_node=1", "additional_parameters={reservation: course}", "mem_gb=1.5"]
    launcher = opened("slurm", None, *options, "setup=[export MADE=1]")
    launcher.submit([task(tmp_path, "nothing")])
    all_ends(launcher, 1)
    script = (tmp_path / "slurm" / "100.script").read_text().splitlines()
    wanted = ["partition=gpu", "gpus-per-node=1", "reservation=course", "mem=1536MB", "time=240", "signal=USR2@300"]
    assert {f"#SBATCH --{each}" for each in wanted} <= set(script)
    assert f"#SBATCH --job-name=buttress-{tmp_path.name}" in script
    assert "export MADE=1" in script


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["partitoin=gpu"], "launcher 'submitit' has no setting 'partitoin'; did you mean 'partition'?"),
        (["executor=slurm"], "executor: there is no sbatch and srun here; give the command where jobs are submitted"),
        (["executor=slrum"], "executor: expected 'auto', 'slurm', 'local' or 'debug', got 'slrum'"),
        (["timeout_min=4"], "signal_delay_s: expected less than the time limit of 240 s, got 300"),
    ],
)
def test_wrong_settings_are_one_sentence(options: list[str], message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises((ConfigError, PluginError)) as caught:
        load_launcher("submitit", options)
    assert message in str(caught.value)


def test_a_missing_package_is_one_sentence_with_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(PluginError, match=r"submitit: its package is not installed .*pip install 'buttress\[slurm\]'"):
        load_launcher("submitit")
