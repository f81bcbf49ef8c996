"""``buttress search`` as a user runs it."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import yaml

from buttress.cli import main
from buttress.comparing.jobs import Job
from buttress.processes import start_apart
from buttress.searching.accuracy import curve_of
from buttress.searching.study import OptunaStudy
from buttress.searching.task import stop, task_of
from buttress.storage.leases import leased
from buttress.storage.run_folder import RunFolder
from buttress.training.checkpoint import list_checkpoints
from buttress.training.summary_file import read_summary

from ..here import Done

Said = pytest.CaptureFixture[str]


@pytest.fixture
def small(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; a config with RWP and an average; runs are carried out in this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    plugins = [{"pgd": {"steps": 2}}, {"rwp": {"k2": 1}}, {"ema": {"tau": 0.9}}]
    changed = {**config, "plugins": plugins, "epochs": 2, "evaluation": {"attack": {"pgd": {"steps": 2}}}}
    changed |= {"schedule": {"name": "constant"}, "checkpoint": {"every": 100}}
    (workspace / "small.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    return workspace


def words(*more: str, name: str = "s", trials: int = 3) -> list[str]:
    return ["search", "small.yaml", *more, "--trials", str(trials), "--name", name]


def result(folder: Path, name: str = "s") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "runs" / name / "search.json").read_text())
    return content


SEARCHED = ("optimizer.lr=log(1e-3,1)", "pgd.steps=1:2", "ema.tau=0.5:0.9", "rwp.variant=paper,official")


def test_a_search_has_a_table_a_picture_a_config_and_the_test_of_its_best_trial(small: Path, capfd: Said):
    assert main(words(*SEARCHED, "--seeds", "2,5", "--track", "ema")) == 0
    printed = capfd.readouterr().out
    content, folder = result(small), small / "runs" / "s"
    assert [each["state"] for each in content["trials"]] == ["done"] * 3
    for trial in content["trials"]:
        values = []
        for seed in (2, 5):
            run = RunFolder(folder / f"trial-{trial['trial']:03d}-s{seed}")
            values.append(max(curve_of(run, "ema").values()))
            assert yaml.safe_load(run.config.read_text())["optimizer"]["lr"] == float(trial["settings"]["optimizer.lr"])
        assert trial["validation"]["seeds"] == {"2": values[0], "5": values[1]}
        assert trial["validation"]["mean"] == pytest.approx(mean(values))
        assert trial["settings"]["pgd.steps"] in ("1", "2")
    best = min(content["trials"], key=lambda each: each["rank"])
    assert best["validation"]["mean"] == max(each["validation"]["mean"] for each in content["trials"])
    assert content["best"]["trial"] == best["trial"]
    tests = []
    for seed in (2, 5):
        run = RunFolder(folder / f"trial-{best['trial']:03d}-s{seed}")
        tests += [row["robust_best"] for row in read_summary(run.summary).body["tracks"] if row["track"] == "ema"]
    robust = content["best"]["test"]["robust best"]
    assert (robust["mean"], robust["deviation"]) == (pytest.approx(mean(tests)), pytest.approx(stdev(tests)))
    assert robust["n"] == 2
    assert content["best"]["n"] == 20
    assert f"Best: trial {best['trial']}: optimizer.lr={best['settings']['optimizer.lr']}" in printed
    assert "n = 20, 2 runs:" in " ".join(printed.split())
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    assert all(len(line) <= 80 for line in printed.partition("rank  trial")[2].splitlines())
    assert "|   rank |   trial |" in (folder / "search.md").read_text()
    chosen = yaml.safe_load((folder / "best.yaml").read_text())
    assert (chosen["name"], chosen["seed"]) == ("small", 2)
    assert main(["train", str(folder / "best.yaml"), "--dry-run"]) == 0


def test_the_test_split_decides_nothing(small: Path, monkeypatch: pytest.MonkeyPatch):
    """Other test examples give the same trials, values and best trial."""
    assert main(words(SEARCHED[0], "--seeds", "1")) == 0
    with np.load("small.npz") as file:
        arrays = dict(file)
    arrays["y_test"] = np.full_like(arrays["y_test"], np.bincount(arrays["y_test"]).argmax())
    np.savez("small.npz", **arrays)
    assert main(words(SEARCHED[0], "--seeds", "1", name="other")) == 0
    one, other = result(small), result(small, "other")
    assert one["trials"] == other["trials"]
    assert one["best"]["settings"] == other["best"]["settings"]
    assert one["best"]["test"] != other["best"]["test"]


def test_the_same_command_again_adds_what_is_missing(small: Path, capfd: Said):
    assert main(words(SEARCHED[0], trials=1)) == 0
    assert main(words(SEARCHED[0], trials=2)) == 0
    printed = capfd.readouterr().out
    assert "2 trials, 1 ended before" in printed
    assert printed.count("[2/2] trial 1 (optimizer.lr=") == 1
    assert main(words(SEARCHED[0], trials=1)) == 0  # nothing leaves a search
    assert len(result(small)["trials"]) == 2
    assert main(words(SEARCHED[0], trials=2, name="whole")) == 0
    assert result(small, "whole")["trials"] == result(small)["trials"]


OTHERS = [
    (["optimizer.lr=log(1e-3,2)"], 'space.optimizer.lr is "log(0.001,1.0)" there and "log(0.001,2.0)" here'),
    (["optimizer.lr=log(1e-3,1)", "threat.eps=4/255"], 'config.threat.eps is "8/255" there and "4/255" here'),
    (["optimizer.lr=log(1e-3,1)", "--seeds", "2"], "seeds is [0] there and [0, 1] here"),
    (["optimizer.lr=log(1e-3,1)", "--seed", "4"], "seed is 0 there and 4 here"),
    (["optimizer.lr=log(1e-3,1)", "--pruner", "none"], 'pruner is "median" there and "none" here'),
]


def test_another_search_of_the_same_name_is_refused(small: Path, capfd: Said):
    assert main(words("optimizer.lr=log(1e-3,1)", trials=1)) == 0
    before = result(small)
    for given, expected in OTHERS:
        assert main(words(*given, trials=2)) == 2
        error = capfd.readouterr().err
        assert f"runs/s holds another search: {expected}" in error
        assert "choose another --name, or give its own command again" in error
    assert result(small) == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["rwp.gama=0.1:1"], "override 'rwp.gama=0.1'"),
        (["rpw.gamma=0.1:1"], "unknown key 'rpw.gamma'; did you mean 'rwp'?"),
        (["optimizer.lr=-1:1.5"], "optimizer.lr=-1.0"),
        (["pgd.steps=0.5:3"], "pgd.steps=0.5"),
        (["ema.tau=0.5:3.5"], "ema.tau=3.5"),
        (["rwp.variant=paper,papre"], "rwp.variant=papre"),
        (["optimizer.lr=0.1:1", "evaluation.best_by=test"], "a search chooses by the validation split"),
        (["optimizer.lr=0.1:1", "--track", "emma"], "--track 'emma': there is no such track; did you mean 'ema'?"),
        (["optimizer.lr=0.1:1", "--trials", "0"], "--trials 0: expected a number >= 1"),
        (["optimizer.lr=0.1:1", "--jobs", "0"], "--jobs 0: expected a number >= 1"),
        (["optimizer.lr=0.1:1", "--seeds", "x"], "--seeds 'x': expected a number of seeds >= 1"),
        (["optimizer.lr=0.1:1", "--pruner", "medain"], "did you mean 'median'?"),
        (["optimizer.lr=0.1:1", "--name", "../up"], "name"),
        (["optimizer.lr=0.1"], "nothing to search"),
        ([], "expected key=log(a,b)|a:b|a,b,c|value..."),
    ],
)
def test_wrong_input_is_one_error_and_leaves_nothing(small: Path, capfd: Said, given: list[str], expected: str):
    assert main(["search", "small.yaml", *given]) == 2
    error = capfd.readouterr().err
    assert expected in error
    assert error.count("error: ") == 1
    assert not (small / "runs").exists()


def test_settings_that_change_the_validation_examples_cannot_be_searched(small: Path, capfd: Said):
    config = yaml.safe_load((small / "small.yaml").read_text())
    config["data"] = {"name": "digits", "train_per_class": 4, "validation": 20}
    (small / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(words("data.validation=10:20")) == 2
    assert "trials would be measured on different validation examples" in capfd.readouterr().err
    assert not (small / "runs").exists()


def test_without_optuna_the_cure_is_named(small: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(words(SEARCHED[0])) == 2
    assert "pip install 'buttress[search]'" in capfd.readouterr().err
    assert not (small / "runs").exists()


def test_a_comparison_and_a_search_at_work_are_left_alone(small: Path, capfd: Said):
    folder = small / "runs" / "s"
    with leased(folder / "logs" / "search.lease"):
        assert main(words(SEARCHED[0])) == 2
    assert "another process is at work on the search in runs/s (" in capfd.readouterr().err
    (folder / "plan.json").write_text("{}")
    assert main(words(SEARCHED[0])) == 2
    assert "runs/s holds a comparison; choose another --name" in capfd.readouterr().err


def test_trials_that_diverge_are_broken_off_and_a_search_needs_others(small: Path, capfd: Said):
    assert main(words("optimizer.lr=0.1,1e30", "optimizer.weight_decay=1e-4,0.1", trials=4)) == 0
    printed = capfd.readouterr().out
    states = {each["settings"]["optimizer.lr"]: each["state"] for each in result(small)["trials"]}
    assert states == {"0.1": "done", "1e30": "broken"}
    assert "broken off: seed 0: " in printed
    assert " broken off: seed 0: plugin" in " ".join(printed.partition("rank  trial")[2].split())
    assert main(words("optimizer.lr=1e30,1e31", trials=1, name="none")) == 1
    assert "no trial came through" in capfd.readouterr().err
    assert result(small, "none")["best"] is None


class Lost(Done):
    """A process that the system has ended at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.stdout, self.returncode = tempfile.TemporaryFile(), -9  # noqa: SIM115 - the board closes it


def test_failures_have_rows_and_many_in_a_row_end_the_search(small: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buttress.launching.local.start_apart", Lost)
    assert main(words(SEARCHED[0], "--json", trials=2)) == 1
    printed = capfd.readouterr()
    assert [each["state"] for each in json.loads(printed.out)["trials"]] == ["failed", "failed"]
    assert "failed: seed 0: ended by SIGKILL" in printed.err
    assert "2 trials failed; the table says why" in printed.err
    assert main(words(SEARCHED[0], trials=30)) == 1
    assert "10 trials in a row came to no value, the last one so: seed 0: ended by SIGKILL" in capfd.readouterr().err
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)
    assert main(words(SEARCHED[0], trials=1)) == 0  # others in their place
    assert result(small)["best"]["trial"] == 12


def test_json_is_all_that_stands_on_standard_output(small: Path, capfd: Said):
    assert main(words(SEARCHED[0], "--json", trials=1)) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["best"]["trial"] == 0
    assert "[1/1] trial 0" in printed.err


def test_trials_are_begun_before_second_seeds_that_pruning_might_save(small: Path, monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []

    def note(job: Job) -> Any:
        begun.append(str(job))
        return task_of(job)

    monkeypatch.setattr("buttress.searching.driver.task_of", note)
    assert main(words(SEARCHED[0], "--seeds", "2", "--jobs", "2", trials=3)) == 0
    assert begun[:4] == ["trial 0, seed 0", "trial 1, seed 0", "trial 0, seed 1", "trial 1, seed 1"]
    assert len(begun) == 6


def test_a_pruned_trial_leaves_its_other_seeds_out(small: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    asked = OptunaStudy.report

    def report(study: OptunaStudy, number: int, epoch: int, accuracy: float) -> bool:
        asked(study, number, epoch, accuracy)
        return (number, epoch) == (1, 2)

    monkeypatch.setattr(OptunaStudy, "report", report)
    assert main(words(SEARCHED[0], "--seeds", "2", trials=2)) == 0
    printed = capfd.readouterr().out
    assert "pruned after epoch 2, at" in printed
    trial = result(small)["trials"][1]
    assert (trial["state"], list(trial["curve"]), trial["validation"]["n"]) == ("pruned", ["1", "2"], 0)
    assert not (small / "runs" / "s" / "trial-001-s1").exists()


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 90
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, "waited for 90 seconds"
        time.sleep(0.02)


def test_a_run_that_is_told_to_stop_saves_itself(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    config |= {"name": "s", "epochs": 100_000}
    config["data"]["path"] = str(workspace / "small.npz")
    job = Job("trial 0", 3, str(workspace / "runs" / "s" / "trial-000-s3"), yaml.safe_dump(config), ())
    task = task_of(job)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = start_apart(task.function, [task.order], errors=log, start_new_session=True)
    wait_for(job.folder.metrics, '"epoch": 2')
    stop(job)
    assert process.wait(60) == 1
    assert process.stdout is not None
    process.stdout.close()
    assert "everything is saved" in job.log.read_text()
    assert list_checkpoints(job.folder.checkpoints)
    task_of(job)  # a request is withdrawn before the run goes on
    assert not list((workspace / "runs" / "s" / "logs").glob("*.stop"))


def test_an_interrupted_search_goes_on_to_the_same_end(small: Path, capfd: Said):
    given = words(SEARCHED[0], "plugins=[fgsm]", "epochs=14", "evaluation.every=5", name="cut", trials=2)
    command = [sys.executable, "-m", "buttress", *given]
    process = subprocess.Popen(command, cwd=small, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    run = small / "runs" / "cut" / "trial-000-s0"
    wait_for(run / "metrics.jsonl", '"epoch": 3')
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by SIGINT; what was trained is saved; give the same command again" in error
    assert not (run / "summary.json").exists()
    assert not (small / "runs" / "cut" / "search.json").exists()
    assert main(given) == 0
    assert "resumed step-" in (run / "log.txt").read_text()
    given[given.index("cut")] = "whole"
    assert main(given) == 0
    assert result(small, "cut")["trials"] == result(small, "whole")["trials"]
    assert result(small, "cut")["best"] == result(small, "whole")["best"]
