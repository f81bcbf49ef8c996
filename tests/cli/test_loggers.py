"""Loggers are told the metrics, and change nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from buttress import Engine, ThreatModel, hookimpl
from buttress.comparing.jobs import Job
from buttress.components import sources as installed_sources
from buttress.components.loaded import as_loaded
from buttress.errors import PluginError, RunFolderError
from buttress.training.loggers import Loggers, check_logger

from .conftest import Run
from .test_resume import fingerprint, start_and_stop

EXAMPLE = Path(__file__).parents[2] / "examples" / "csv_logger.py"


@pytest.fixture
def installed_here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Distributions in the working folder are installed for this process."""
    monkeypatch.syspath_prepend(workspace)
    installed_sources._listed.cache_clear()
    yield
    installed_sources._listed.cache_clear()


def install(folder: Path, name: str, source: str) -> None:
    """A distribution ``acme-<name>`` with the logger ``<name>``."""
    (folder / f"acme_{name}.py").write_text(source)
    info = folder / f"acme_{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.2\n")
    kind = "CsvLogger" if "CsvLogger" in source else "Logger"
    (info / "entry_points.txt").write_text(f"[buttress.loggers]\n{name} = acme_{name}:{kind}\n")


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads in a run: tag to steps and values."""
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def records(run: Path, event: str) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_tensorboard_shows_what_the_metrics_hold(buttress: Run, workspace: Path):
    done = buttress("train", "small.yaml", "--run", "a", "loggers=[tensorboard]", "log_every=3")
    assert done.returncode == 0, done.stderr
    run = workspace / "runs" / "small" / "a"
    found = curves(run)
    train = [(r["global_step"], pytest.approx(r["loss"], rel=1e-6)) for r in records(run, "train")]
    assert found["train/loss"] == train
    evaluations = [r for r in records(run, "evaluation") if (r["track"], r["split"]) == ("meat", "test")]
    assert [value for _, value in found["test/robust/meat"]] == pytest.approx([r["robust"] for r in evaluations])
    assert [step for step, _ in found["test/robust/meat"]] == [8, 16]  # after epochs 2 and 4 of 4 steps
    assert len(found["epoch/lr"]) == 4


def test_a_resumed_run_continues_its_curves(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    from buttress.training.launch import continue_run

    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.summary.writer import event_file_writer as writer

    # TensorBoard reads the files of one second by their number in the process, as text: 10 would come before 9.
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))
    words = ["loggers=[tensorboard]", "log_every=1"]
    run = start_and_stop(6, "stopped", *words)
    newest = sorted((run / "checkpoints").glob("*.json"))[-1]
    for path in run.glob(f"checkpoints/{newest.stem}*"):
        path.unlink()  # back to the end of epoch 1, step 4: the events of steps 5 and 6 are of no run
    continue_run(run)
    whole = [(r["global_step"], pytest.approx(r["loss"], rel=1e-6)) for r in records(run, "train")]
    assert curves(run)["train/loss"] == whole
    assert [step for step, _ in whole] == list(range(1, 17))


def test_loggers_change_nothing_in_training(installed_here: None, buttress: Run, workspace: Path):
    install(
        workspace,
        "nosy",
        "import torch\nfrom buttress import hookimpl\nclass Logger:\n    @hookimpl\n    def log(self, metrics, ctx):\n"
        "        ctx.record('told', 1.0)\n        ctx.generator('x').manual_seed(1)\n",
    )
    assert buttress("train", "small.yaml", "--run", "without", "log_every=2").returncode == 0
    assert buttress("train", "small.yaml", "--run", "with", "log_every=2", "loggers=[nosy]").returncode == 0
    without, with_logger = (fingerprint(workspace / "runs" / "small" / name) for name in ("without", "with"))
    assert without == with_logger


def test_the_example_logger_is_found_and_told(installed_here: None, buttress: Run, workspace: Path):
    install(workspace, "csv", EXAMPLE.read_text())
    done = buttress("train", "small.yaml", "--run", "a", "loggers=[{csv: {file: all.csv}}]")
    assert done.returncode == 0, done.stderr
    run = workspace / "runs" / "small" / "a"
    lines = (run / "all.csv").read_text().splitlines()
    assert lines == [
        ",".join(str(value) for key, value in r.items() if key != "event") for r in records(run, "evaluation")
    ]
    rows = json.loads(buttress("plugins", "list", "--kind", "logger", "--json").stdout)
    assert {row["name"] for row in rows} == {"csv", "tensorboard"}


def test_a_logger_that_fails_is_named_once_and_training_goes_on(installed_here: None, buttress: Run, workspace: Path):
    install(
        workspace,
        "broken",
        "from buttress import hookimpl\nclass Logger:\n    @hookimpl\n    def log(self, metrics):\n        1 / 0\n",
    )
    done = buttress("train", "small.yaml", "--run", "a", "loggers=[broken]", "log_every=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a logger failed and is left out from now on") == 1
    assert "'broken' (acme-broken 1.2)" in done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_a_missing_package_is_refused_with_its_cure_and_leaves_no_folder(apart: Run, workspace: Path):
    (workspace / "tensorboard.py").write_text("raise ModuleNotFoundError('no tensorboard here')\n")
    done = apart("train", "small.yaml", "--run", "a", "loggers=[tensorboard]")
    assert done.returncode == 2
    assert "pip install 'buttress[tensorboard]'" in done.stderr
    assert not (workspace / "runs").exists()


class Writing:
    @hookimpl
    def log(self, metrics):
        metrics["loss"] = 0.0


def said_by(*loggers: object) -> tuple[Loggers, list[str]]:
    said: list[str] = []
    model = nn.Linear(2, 2)
    engine = Engine(model, torch.optim.SGD(model.parameters(), lr=0.1), ["clean"], ThreatModel("linf", 0))
    return Loggers(loggers, engine, Path(), said.append), said


def test_records_are_read_only():
    loggers, said = said_by(Writing())
    record = {"event": "train", "loss": 1.0}
    loggers.log(record)
    assert record["loss"] == 1.0
    assert "does not support item assignment" in said[0]


class Meddling(Writing):
    @hookimpl
    def adjust_grads(self, model):
        pass


class Silent:
    @hookimpl
    def end_run(self):
        pass


@pytest.mark.parametrize(
    ("make", "message"), [(Meddling, "implements adjust_grads; a logger has"), (Silent, "does not implement log")]
)
def test_what_is_no_logger_is_refused(make: Callable[[], object], message: str):
    (loaded,) = as_loaded([make()])
    with pytest.raises(PluginError, match=message):
        check_logger(loaded)


def test_a_comparison_goes_on_when_loggers_are_added(tmp_path: Path):
    def job(**config: object) -> Job:
        return Job(label="a", seed=0, path=str(tmp_path), config=json.dumps({"epochs": 3, **config}), attacks=())

    (tmp_path / "config.yaml").write_text(job().config)
    job(loggers=["tensorboard"]).check()
    with pytest.raises(RunFolderError, match="another config: epochs is 3 there and 4 here"):
        job(loggers=["tensorboard"], epochs=4).check()
