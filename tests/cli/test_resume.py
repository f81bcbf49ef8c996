"""A run that was stopped and resumed equals the uninterrupted one, bit for bit."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from buttress.cli import main
from buttress.config.file import load_config
from buttress.console.reporter import Reporter
from buttress.errors import CheckpointError, InterruptionError, RunFolderError, WorkError
from buttress.evaluation.assess import assess
from buttress.evaluation.subject import load_subject
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import write_weights
from buttress.storage.tensor_tree import split_tensors
from buttress.training.assembly import assemble
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint
from buttress.training.dataset import load_data
from buttress.training.launch import continue_run, launch
from buttress.training.records import read_metrics
from buttress.training.trainer import Trainer

STEPS = 16  # 4 epochs of 4 steps, the last batch of each incomplete

DROPOUT = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, hidden):
        layers = nn.Linear(64, hidden), nn.BatchNorm1d(hidden), nn.Dropout(0.5), nn.Linear(hidden, 4)
        super().__init__(nn.Flatten(), *layers)
"""


class InterruptingReporter(Reporter):
    """Sends the process Ctrl-C after a number of steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def advance(self, description: str) -> None:
        super().advance(description)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def start_and_stop(after: int, name: str, *overrides: str) -> Path:
    """A run stopped by Ctrl-C after ``after`` steps."""
    file = load_config(Path("small.yaml"), overrides)
    data, settings = load_data(file)
    folder = RunFolder(Path("runs") / name)
    assembly = assemble(file, data, settings, folder.history)
    torch.manual_seed(file.config.seed)
    folder.create(yaml.safe_dump(assembly.resolved), {"hardware": {"torch_threads": torch.get_num_threads()}})
    epoch, done = divmod(after, assembly.length.steps_per_epoch)
    place = f"epoch {epoch + 1}/{file.config.epochs}, {done} of its {assembly.length.steps_per_epoch} steps done"
    with pytest.raises(InterruptionError, match=f": {place}; everything is saved; continue with: buttress resume"):
        Trainer(assembly, folder, InterruptingReporter(after)).run()
    return folder.path


def fingerprint(run: Path) -> dict[str, object]:
    """Everything that training left: state, tensors, history, metrics, summary, weights."""
    newest = list_checkpoints(run / "checkpoints")[0]
    tree, tensors = split_tensors(load_checkpoint(newest))
    return {
        "newest": newest.name,
        "tree": json.dumps(tree),
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "files": {
            str(path.relative_to(run)): file_sha256(path)
            for path in sorted(run.rglob("*"))
            if path.is_file()
            and (path.parent.name in ("meat", "weights") or path.name in ("metrics.jsonl", "summary.json"))
        },
    }


@pytest.mark.parametrize("memory", [False, True], ids=["history on disk", "history in memory"])
def test_resume_equals_the_uninterrupted_run(workspace: Path, memory: bool):
    overrides = ["meat.history=memory"] if memory else []
    launch(load_config(Path("small.yaml"), overrides), Path("runs"), "whole")
    whole = fingerprint(Path("runs/small/whole"))
    assert whole["newest"] == f"step-{STEPS:08d}.json"
    for after in (1, 3, 4, 6, 8, 11, 15) if not memory else (6, 12):
        run = start_and_stop(after, f"stopped-{after}", *overrides)
        continue_run(run)
        assert fingerprint(run) == whole, f"stopped after {after} steps"


def test_resume_twice_and_with_dropout_equals_the_uninterrupted_run(workspace: Path):
    (workspace / "dropout_net.py").write_text(DROPOUT)
    overrides = ['model={target: "dropout_net:Net", args: {hidden: 8}}', "log_every=3"]
    launch(load_config(Path("small.yaml"), overrides), Path("runs"), "whole")
    run = start_and_stop(5, "stopped", *overrides)
    file = load_config(run / "config.yaml")
    data, settings = load_data(file)
    folder = RunFolder(run)
    again = Trainer(assemble(file, data, settings, folder.history), folder, InterruptingReporter(5))
    again.resume()
    with pytest.raises(InterruptionError):
        again.run()
    continue_run(run)
    assert fingerprint(run) == fingerprint(Path("runs/small/whole"))


@pytest.mark.parametrize("precision", ["bf16", "{attack: bf16, train: float32, score: bf16}", "float64"])
def test_resume_is_exact_in_every_precision(precision: str, workspace: Path):
    overrides = [f"precision={precision}", "epochs=2"]
    launch(load_config(Path("small.yaml"), overrides), Path("runs"), "whole", forecast=False)
    whole = fingerprint(Path("runs/small/whole"))
    for after in (3, 5):
        run = start_and_stop(after, f"stopped-{after}", *overrides)
        continue_run(run)
        assert fingerprint(run) == whole, f"stopped after {after} steps"


def test_order_of_the_data_differs_between_epochs(workspace: Path):
    from buttress.data.order import epoch_order

    orders = [epoch_order(40, 3, epoch).tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert orders == [epoch_order(40, 3, epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    run = Path("runs/small/whole")
    whole = fingerprint(run)
    newest = list_checkpoints(run / "checkpoints")[0].with_suffix(".safetensors")
    newest.write_bytes(newest.read_bytes()[:-7])
    continue_run(run)
    said = capsys.readouterr().out
    assert f"{newest.name} is damaged" in said
    assert "resumed step-00000012: epoch 4/4, 0 of its 4 steps done" in said
    assert fingerprint(run) == whole


def test_a_missing_history_file_is_never_a_smaller_median(workspace: Path):
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    run = Path("runs/small/whole")
    (run / "history" / "meat" / "00000.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of 2 is whole, the newest because"):
        continue_run(run)


def test_a_snapshot_lost_while_the_run_is_at_work_is_never_a_smaller_median(workspace: Path):
    file = load_config(Path("small.yaml"))
    data, settings = load_data(file)
    folder = RunFolder(Path("runs/small/a"))
    assembly = assemble(file, data, settings, folder.history)
    folder.create(yaml.safe_dump(assembly.resolved), {})

    class Losing(Reporter):
        def say(self, text: str) -> None:
            super().say(text)
            if text.startswith("epoch 2/"):  # the first evaluation, after which one snapshot is there
                (folder.history / "meat" / "00000.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"meat.*00000\.safetensors is missing"):
        Trainer(assembly, folder, Losing()).run()


def test_a_metrics_file_that_lost_its_end_is_said_and_never_padded(workspace: Path, capsys: pytest.CaptureFixture[str]):
    run = start_and_stop(12, "stopped")
    metrics = run / "metrics.jsonl"
    os.truncate(metrics, metrics.stat().st_size - 20)
    continue_run(run)
    assert "metrics.jsonl has lost its end" in capsys.readouterr().out
    assert read_metrics(RunFolder(run)).records  # every line is a record
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    assert fingerprint(run)["tensors"] == fingerprint(Path("runs/small/whole"))["tensors"]
    truncated = RunFolder(run)
    truncated.metrics.unlink()
    continue_run(run)
    assert "0 of" in capsys.readouterr().out


def test_a_damaged_manifest_does_not_keep_a_run_from_going_on(workspace: Path, capsys: pytest.CaptureFixture[str]):
    run = start_and_stop(6, "stopped")
    (run / "manifest.json").write_text("{}")
    continue_run(run)
    said = capsys.readouterr().out
    assert "manifest.json is damaged" in said
    assert "loss: no plugin provides one, so it is cross_entropy" in said


def test_a_config_that_was_changed_is_refused_with_the_line(workspace: Path):
    run = start_and_stop(6, "stopped")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 3", "seed: 2"))
    with pytest.raises(RunFolderError, match=r"config\.yaml:\d+: damaged or edited: expected 'seed: 3', .* 'seed: 2'"):
        continue_run(run)
    config.write_text(config.read_text().replace("seed: 2", "seed: 3") + "x")
    with pytest.raises(RunFolderError, match=r"expected '', with which the run was started, got 'x'; put it back"):
        continue_run(run)


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_best_weights_of_a_lost_future_give_way_to_those_of_the_checkpoint(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    run = start_and_stop(11, "stopped")
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    best = run / "weights" / "best-live.safetensors"
    other = Path("other.safetensors")
    write_weights(other, {"w": torch.ones(3)}, {"track": "live", "epoch": 3})
    other.replace(best)
    continue_run(run)
    assert "best-live.safetensors was not that of step-00000011, and is again" in capsys.readouterr().out
    assert fingerprint(run) == fingerprint(Path("runs/small/whole"))


def test_weights_damaged_under_both_names_are_said_and_never_evaluated(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    run = Path("runs/small/whole")
    flip_last_bit(run / "weights" / "best-live.safetensors")
    with pytest.raises(CheckpointError, match=r"best-live\.safetensors is damaged"):
        assess(load_subject(run), ["clean"])
    continue_run(run)
    assert "best-live.safetensors is damaged or missing, and so is its copy" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="is damaged"):
        assess(load_subject(run), ["clean"])


def test_metrics_with_a_flipped_bit_are_said_and_training_goes_on(workspace: Path, capsys: pytest.CaptureFixture[str]):
    run = start_and_stop(12, "stopped")
    metrics = run / "metrics.jsonl"
    content = metrics.read_bytes()
    metrics.write_bytes(content.replace(b'"epoch": 1', b'"epoch": 9', 1))
    continue_run(run)
    assert "metrics.jsonl is damaged: its sha256 is not the recorded one" in capsys.readouterr().out
    metrics.write_bytes(metrics.read_bytes().replace(b"}", b"", 1))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged or edited"):
        read_metrics(RunFolder(run))


def test_a_run_whose_metrics_were_damaged_is_resumed_and_reported(workspace: Path, capsys: pytest.CaptureFixture[str]):
    run = start_and_stop(12, "stopped")
    metrics = run / "metrics.jsonl"
    damaged = metrics.read_bytes().replace(b'"event"', b'"event" ', 1)  # the size of the checkpoint is amid a line now
    metrics.write_bytes(damaged)
    continue_run(run)
    assert "what is left of it is kept as metrics.damaged.jsonl" in capsys.readouterr().out
    assert (run / "metrics.damaged.jsonl").read_bytes() == damaged
    launch(load_config(Path("small.yaml")), Path("runs"), "whole")
    evaluations = [record for record in read(metrics) if record["event"] == "evaluation"]
    whole = read(Path("runs/small/whole/metrics.jsonl"))
    assert evaluations == [record for record in whole if record["event"] == "evaluation"]
    continue_run(run)  # it has finished: the metrics are those that its checkpoint knows by now
    assert "kept as" not in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "losses before its metrics file was damaged and written anew are missing (see metrics.damaged.jsonl)" in page


def read(metrics: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def test_a_run_at_work_is_not_resumed_by_a_second_process(workspace: Path):
    run = start_and_stop(6, "stopped")
    with RunFolder(run).held(), pytest.raises(RunFolderError, match="a process is at work there; wait for it"):
        continue_run(run)
    continue_run(run)


class SpoilingReporter(Reporter):
    """Puts NaN into the weights after a number of steps, as a gradient of 0/0 would."""

    def __init__(self, after: int, model: nn.Module) -> None:
        super().__init__()
        self._left, self._model = after, model

    def advance(self, description: str) -> None:
        super().advance(description)
        self._left -= 1
        if self._left == 0:
            with torch.no_grad():
                next(self._model.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("after", [10, STEPS])
@pytest.mark.parametrize("checks", ["always", "interval"])
def test_weights_that_are_not_finite_are_never_saved(workspace: Path, after: int, checks: str):
    file = load_config(Path("small.yaml"), [f"checks={checks}", "meat.start=0"])
    data, settings = load_data(file)
    folder = RunFolder(Path("runs/small/a"))
    assembly = assemble(file, data, settings, folder.history)
    folder.create(yaml.safe_dump(assembly.resolved), {})
    with pytest.raises(WorkError, match=r"diverged|finite"):
        Trainer(assembly, folder, SpoilingReporter(after, assembly.engine.model)).run()
    newest = load_checkpoint(list_checkpoints(folder.checkpoints)[0])
    assert newest["engine"]["global_step"] == 4 * ((after - 1) // 4)
    assert all(bool(torch.isfinite(value).all()) for value in newest["model"].values())


def test_ctrl_c_after_a_bad_step_does_not_save_it(workspace: Path):
    file = load_config(Path("small.yaml"), ["checks=interval"])
    data, settings = load_data(file)
    folder = RunFolder(Path("runs/small/a"))
    assembly = assemble(file, data, settings, folder.history)
    folder.create(yaml.safe_dump(assembly.resolved), {})

    class Both(SpoilingReporter):
        def advance(self, description: str) -> None:
            super().advance(description)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(WorkError, match="diverged"):
        Trainer(assembly, folder, Both(6, assembly.engine.model)).run()
    assert [path.stem for path in list_checkpoints(folder.checkpoints)] == ["step-00000004", "step-00000000"]
