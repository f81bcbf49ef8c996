"""Runs that collapse: noticed within an evaluation, told apart, logged, and rolled back where the config says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from buttress import Batch, Split, ThreatModel
from buttress.config.file import load_config
from buttress.console.reporter import Reporter
from buttress.errors import ConfigError, DivergenceError
from buttress.storage.run_folder import RunFolder
from buttress.training.assembly import assemble
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint
from buttress.training.collapse import CollapseGuard, has_collapsed
from buttress.training.dataset import load_data
from buttress.training.launch import continue_run
from buttress.training.records import read_metrics
from buttress.training.resumable_state import ResumableState
from buttress.training.selection import Record
from buttress.training.trainer import Trainer
from tests.core.helpers import engine_of, plugin
from tests.models import Halfspace

CONFIG = {
    "name": "collapse",
    "data": {"name": "circles", "per_class": 100, "batch_size": 50},
    "model": {"name": "mlp", "hidden": [16]},
    "threat": {"norm": "linf", "eps": "1/5", "box": None},
    "plugins": [{"pgd": {"steps": 2}}, {"ema": {"tau": 0.9}}],
    "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.9},
    "epochs": 8,
    "evaluation": {"every": 2, "attack": {"pgd": {"steps": 5}}},
    "device": "cpu",
    "log_every": 3,
    "seed": 1,
}


class Breaks(Reporter):
    """Sets the weights to zero after some steps, while the learning rate is above ``above``: the model gives up."""

    def __init__(self, steps: tuple[int, ...], above: float = 0.0) -> None:
        super().__init__()
        self._steps, self._above, self._count = steps, above, 0
        self.engine: Any = None

    def advance(self, description: str) -> None:
        super().advance(description)
        self._count += 1
        if self._count in self._steps and self.engine.optimizer.param_groups[0]["lr"] > self._above:
            with torch.no_grad():
                for weight in self.engine.model.parameters():
                    weight.zero_()
            self.engine.optimizer.state.clear()


def run(folder: str, *overrides: str, steps: tuple[int, ...] = (), above: float = 0.0, kind: Any = Breaks) -> RunFolder:
    Path("c.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    file = load_config(Path("c.yaml"), overrides)
    data, settings = load_data(file)
    made = RunFolder(Path(folder))
    torch.manual_seed(file.config.seed)
    assembly = assemble(file, data, settings, made.history)
    made.create(yaml.safe_dump(assembly.resolved), {"hardware": {"torch_threads": torch.get_num_threads()}})
    reporter = kind(steps, above)
    reporter.engine = assembly.engine
    reporter.write_to(made.log)
    Trainer(assembly, made, reporter).run()
    return made


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# 4 steps an epoch: the weights are lost in the last step of epoch 5 (0-based 4), evaluated after epoch 6.
LOST = (20, 21, 22, 23, 24)


def test_a_collapse_is_said_at_the_next_evaluation_and_training_goes_on():
    folder = run("a", steps=LOST)
    said = folder.log.read_text()
    assert said.count("warning: collapse to chance in epochs 5 to 6: robust accuracy fell from") == 1
    (event,) = read_metrics(folder).events("collapse")
    assert (event["epoch"], event["healthy_epoch"], event["chance"]) == (6, 4, 0.5)
    assert event["robust"] <= 0.5 < event["best"]
    assert json.loads(folder.summary.read_text())["rollbacks"] == 0


def test_a_run_without_a_collapse_says_nothing_and_off_is_off():
    assert "collapse" not in run("a").log.read_text()
    assert "collapse" not in run("b", "guards.collapse=off", steps=LOST).log.read_text()


def test_stop_ends_the_run_and_keeps_the_checkpoint_from_before():
    with pytest.raises(
        DivergenceError, match=r"collapse to chance in epochs 5 to 6.*; stopped; lower the learning rate"
    ):
        run("a", "guards.collapse=stop", steps=LOST)
    assert list_checkpoints(Path("a/checkpoints"))[0].stem == "step-00000020"


def test_roll_back_returns_to_the_healthy_checkpoint_with_a_lower_learning_rate():
    folder = run("a", "guards.collapse=roll_back", steps=LOST, above=0.2)
    said = folder.log.read_text()
    assert "rolled back to step-00000016 (1 of at most 3 times), learning rates times 0.5 from there on" in said
    records = read_metrics(folder).records
    (event,) = [record for record in records if record["event"] == "rollback"]
    assert (event["to_step"], event["kind"]) == (16, "collapse to chance")
    # a history without the lost epochs
    epochs = [(record["epoch"], record["lr"]) for record in records if record["event"] == "epoch"]
    assert epochs == [(epoch, 0.3 if epoch <= 4 else 0.15) for epoch in range(1, 9)]
    summary = json.loads(folder.summary.read_text())
    assert summary["rollbacks"] == 1
    assert summary["tracks"][0]["robust_last"] > 0.6


def test_rolled_back_with_nothing_changed_the_run_equals_one_that_never_fell():
    """The state before the collapse is restored whole: weights, optimizer, ensembles, streams, counters."""
    fell, whole = run("a", "guards.collapse=roll_back", "guards.lr_factor=1.0", steps=LOST), run("b")
    own = [record for record in read_metrics(fell).records if record["event"] != "rollback"]
    assert own == read_metrics(whole).records
    for name in ("best-live", "last-live", "best-ema", "last-ema"):
        file = f"weights/{name}.safetensors"
        assert (fell.path / file).read_bytes() == (whole.path / file).read_bytes(), name


def test_a_run_that_falls_again_and_again_is_stopped():
    with pytest.raises(DivergenceError, match="stopped after 2 roll-backs"):
        run("a", "guards.collapse=roll_back", "guards.max_rollbacks=2", steps=tuple(range(20, 99)))


class Dies(Breaks):
    """Raises two steps after the roll-back, as if the process had been killed there."""

    _left = -1

    def rewind(self, done: int) -> None:
        super().rewind(done)
        self._left = 2

    def advance(self, description: str) -> None:
        super().advance(description)
        self._left -= 1
        if self._left == 0:
            raise ZeroDivisionError


def test_a_run_killed_after_the_roll_back_resumes_with_the_lower_learning_rate():
    whole = run("a", "guards.collapse=roll_back", steps=LOST, above=0.2)
    with pytest.raises(ZeroDivisionError):
        run("b", "guards.collapse=roll_back", steps=LOST, above=0.2, kind=Dies)
    killed = RunFolder(Path("b"))
    continue_run(killed.path)
    assert read_metrics(killed).records == read_metrics(whole).records
    assert load_checkpoint(list_checkpoints(killed.checkpoints)[0])["rollbacks"] == 1


MOMENTS = {
    "before the newer checkpoint is removed": "training.checkpoint._remove",
    "when its JSON is gone": "training.checkpoint.shutil.rmtree",
    "before the metrics are cut": "training.metrics_file.MetricsFile.put_back",
    "before the healthy checkpoint is written anew": "training.recovery.ResumableState.save",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_within_the_roll_back_lowers_the_learning_rate_once(monkeypatch: pytest.MonkeyPatch, moment: str):
    whole = run("a", "guards.collapse=roll_back", steps=LOST, above=0.2)
    restore = ResumableState.restore

    class Killed(Breaks):
        """Loses the weights by the run's own steps: the resumed run loses them too."""

        def begin(self, total: int, done: int) -> None:
            super().begin(total, done)
            self._count = done

    def killed(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:

        def rolling_back(self: ResumableState, at_most: int | None = None) -> Path:
            patch.setattr(f"buttress.{MOMENTS[moment]}", killed)
            return restore(self, at_most)

        patch.setattr(ResumableState, "restore", rolling_back)
        with pytest.raises(ZeroDivisionError):
            run("b", "guards.collapse=roll_back", steps=LOST, above=0.2)
    resumed("b", Killed(LOST, above=0.2))
    assert read_metrics(RunFolder(Path("b"))).records == read_metrics(whole).records
    assert json.loads(Path("b/summary.json").read_text())["rollbacks"] == 1


def resumed(folder: str, reporter: Breaks) -> None:
    made = RunFolder(Path(folder))
    file = load_config(made.config)
    data, settings = load_data(file)
    assembly = assemble(file, data, settings, made.history)
    reporter.engine = assembly.engine
    trainer = Trainer(assembly, made, reporter)
    trainer.resume()
    trainer.run()


@pytest.mark.parametrize(("attack", "kind"), [("clean", "catastrophic overfitting"), ("pgd", "collapse to chance")])
def test_catastrophic_overfitting_is_what_the_training_attack_does_not_see(attack: str, kind: str):
    """The half-space is right on every clean point, and wrong wherever an attack that works may move it."""
    x = torch.tensor([[0.45, 0.5], [0.55, 0.5]]).repeat(50, 1)
    split = Split(x - 0.5, torch.tensor([1, 0]).repeat(50))
    threat = ThreatModel("linf", "1/10", box=None)
    engine = engine_of(Halfspace(torch.tensor([1.0, 0.0])), attack, threat=threat)
    guard = CollapseGuard(engine, "validation", split, 30)
    records = [
        Record(epoch, "live", "validation", 1.0, robust, 100) for epoch, robust in ((0, 0.8), (1, 0.9), (2, 0.0))
    ]
    assert guard.look(records[:1]) is None
    assert guard.look(records[:2]) is None
    collapse = guard.look(records)
    assert collapse is not None
    assert (collapse.kind, collapse.epoch, collapse.healthy_epoch, collapse.best) == (kind, 2, 1, 0.9)
    assert collapse.training_attack == (1.0 if attack == "clean" else 0.0)
    assert guard.look([*records, Record(3, "live", "validation", 1.0, 0.0, 100)]) is None  # said once


def test_a_training_attack_that_cannot_attack_the_split_leaves_the_kind_open():
    def generate_adv(self: Any, batch: Batch) -> Any:
        return self.kept[batch.index]

    split = Split(torch.zeros(100, 2), torch.arange(100) % 2)
    engine = engine_of(Halfspace(torch.ones(2)), plugin("keeps", generate_adv=generate_adv, kept=torch.zeros(9, 2)))
    records = [Record(epoch, "live", "validation", 1.0, robust, 100) for epoch, robust in ((0, 0.9), (1, 0.0))]
    collapse = CollapseGuard(engine, "validation", split, 30).look(records)
    assert collapse is not None
    assert collapse.training_attack is None
    assert str(collapse).startswith("collapse to chance in epochs 1 to 1: robust accuracy fell from 90.0 to 0.0 %")


@pytest.mark.parametrize(
    ("robust", "best", "chance", "n", "expected"),
    [
        (0.10, 0.50, 0.1, 1000, True),
        (0.00, 0.50, 0.1, 1000, True),
        (0.118, 0.50, 0.1, 1000, True),  # within two standard errors of 0.0095
        (0.125, 0.50, 0.1, 1000, False),
        (0.10, 0.13, 0.1, 1000, False),  # never was clearly above chance
        (0.40, 0.50, 0.1, 1000, False),  # robust overfitting is no collapse
        (0.52, 0.80, 0.5, 100, True),
    ],
)
def test_fallen_is_at_chance_after_having_been_above_it(
    robust: float, best: float, chance: float, n: int, expected: bool
):
    assert has_collapsed(robust, best, chance, n) is expected


def test_a_roll_back_without_a_checkpoint_to_return_to_is_refused_at_the_start():
    with pytest.raises(
        ConfigError, match=r"guards\.collapse: roll_back needs.*checkpoint\.keep at least 4, got 1 and 3"
    ):
        run("a", "guards.collapse=roll_back", "evaluation.every=4")
    with pytest.raises(ConfigError, match=r"checkpoint\.every at most 2"):
        run("a", "guards.collapse=roll_back", "checkpoint.every=3")
