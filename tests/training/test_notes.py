"""Notes before and after a run: what is no error, but seldom what was meant."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Data, Split, ThreatModel
from buttress.config.file import load_config
from buttress.errors import PluginError
from buttress.training.assembly import check_config
from buttress.training.notes import before_training, kind_of_outputs, never_above_chance, ranges_of_the_data
from buttress.training.selection import Record
from buttress_plugins.ensembles.ema import EMA

from ..cli.conftest import make_workspace

NETS = """
from torch import nn


ENDS = {"none": nn.Identity(), "softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "log": nn.LogSoftmax(1)}
ENDS["tanh"] = nn.Tanh()


class Net(nn.Sequential):
    def __init__(self, end: str) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 4), ENDS[end])


def zero() -> nn.Module:
    net = Net("none")
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    return net
"""

Noted = Callable[..., list[str]]


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noted:
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note_nets.py").write_text(NETS)
    return lambda *overrides: before_training(check_config(load_config(tmp_path / "small.yaml", overrides)))


NOTES = {
    "a step for 2/255": (["pgd.step_size=2"], ["pgd.step_size is 2, and the ball is 16/255", "did you mean 2/255?"]),
    "a step beyond the ball": (["pgd.step_size=17/255"], ["pgd.step_size is 1/15, and the ball is 16/255 across"]),
    "a step of the evaluation": (
        ["evaluation.attack={pgd: {step_size: 2}}"], ["evaluation.attack.pgd.step_size is 2, and the ball is"],
    ),
    "steps that do not reach the border": (
        ["pgd.step_size=1/255"], ["pgd: its steps reach no farther than 2 x 1/255, and threat.eps is 8/255"],
    ),
    "one step": (["pgd={steps: 1, step_size: 1/255}"], ["pgd: its steps reach no farther than 1/255, and"]),
    "a learning rate of spsa": (
        ["evaluation.attack={spsa: {lr: 0.5, radius: 3}}"],
        ["evaluation.attack.spsa.lr is 0.5", "evaluation.attack.spsa.radius is 3"],
    ),
    "no radius": (["threat.eps=0", "pgd.step_size=2"], ["threat.eps is 0: adversarial examples equal the clean ones"]),
    "no radius in training": (["threat.training_eps=0"], ["threat.training_eps is 0: training sees clean examples"]),
    "steps that do not reach the border of training": (
        ["threat.training_eps={linear: [[0, 0], [1, 20/255]]}", "pgd.step_size=4/255"],
        ["pgd: its steps reach no farther than 2 x 4/255, and threat.training_eps is 4/51"],
    ),
    "a batch larger than the data": (
        ["data.batch_size=41"], ["data.batch_size is 41, and there are 40 training examples: an epoch is one step"],
    ),
    "an average that remembers more than the run": (
        ["ema.warmup=false", "ema.tau=0.999"], ["ema: tau 0.999 remembers 1,000 steps, and the run has 12"],
    ),
    "a box in other units": (
        ["threat={norm: linf, eps: 8, box: [0, 255]}", "pgd.step_size=4"],
        ["and threat.box is [0, 255]: set box and eps in the units of the inputs", "threat.eps is 8: every ball holds"],
    ),
    "a class without an example": (
        ["data.num_classes=7"], ["3 of 7 classes have no training example: 4, 5, 6; labels count from 0"],
    ),
    "a softmax": (["model={target: 'note_nets:Net', args: {end: softmax}}"], ["those of a softmax"]),
    "a sigmoid": (["model={target: 'note_nets:Net', args: {end: sigmoid}}"], ["those of a sigmoid"]),
    "an epoch that never comes": (["meat.start=60"], ["60, after 60 epochs, which never comes: the run has 4"]),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTES)
def test_what_is_seldom_meant_is_noted(case: str, noted: Noted):
    overrides, expected = NOTES[case]
    if overrides[0].startswith("pgd={"):
        overrides = ["plugins=[{pgd: " + overrides[0].removeprefix("pgd=") + "}]"]
    said = noted(*overrides)
    assert all(any(part in note for note in said) for part in expected), said


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["pgd.step_size=16/255"],
        ["pgd.step_size=4/255"],
        ["data.batch_size=40"],
        ["model={target: 'note_nets:zero'}"],
        ["model={target: 'note_nets:Net', args: {end: log}}"],
        ["model={target: 'note_nets:Net', args: {end: tanh}}"],
    ],
)
def test_what_is_in_order_is_not_noted(overrides: list[str], noted: Noted):
    assert noted(*overrides) == []


def ranges(train: Split, test: Split, threat: ThreatModel) -> list[str]:
    assembly: Any = SimpleNamespace(data=Data(train, test, 2), evaluator=SimpleNamespace(threat=threat))
    return list(ranges_of_the_data(assembly))


def spread(low: float, high: float) -> Split:
    return Split(torch.linspace(low, high, 8).view(4, 2), torch.arange(4) % 2)


@pytest.mark.parametrize(
    ("train", "test", "threat", "said"),
    [
        ((0, 1), (0, 1), ThreatModel("linf", "8/255"), []),
        ((0, 1), (0.2, 0.6), ThreatModel("linf", "8/255"), []),
        ((0, 255), (0, 255), ThreatModel("linf", 8, (0, 255)), []),
        ((0.4, 0.7), (0, 1), ThreatModel("linf", "1/10"), []),
        ((-3, 3), (-2, 4), ThreatModel("l2", 5, None), []),
        ((0, 1), (0, 1), ThreatModel("linf", 1), ["threat.eps is 1: every ball holds"]),
        ((0, 1), (0, 1), ThreatModel("l2", 1), []),
        ((0, 1), (0, 1), ThreatModel("l2", 2, None), ["threat.eps is 2: every ball holds"]),
        ((0, 1), (0, 1), ThreatModel("linf", "8/255", (0, 255)), ["threat.box is [0, 255]"]),
        (
            (0, 1 / 255),
            (0, 1 / 255),
            ThreatModel("linf", "1/1000"),
            ["lie in [0, 0.00392157], and threat.box is"],
        ),
        ((0, 1), (0, 1 / 255), ThreatModel("linf", "8/255"), ["those of the test split in [0, 0.00392157]"]),
        ((0, 1 / 20), (0, 1), ThreatModel("linf", "1/255", (0, 0.4)), ["those of the test split in [0, 1]"]),
        ((0, 1), (2, 3), ThreatModel("linf", "8/255", None), ["those of the test split in [2, 3]"]),
        ((0.5, 0.5), (0, 1), ThreatModel("linf", "8/255"), ["all training inputs are 0.5"]),
    ],
)
def test_ranges_that_do_not_fit_are_noted(train: Any, test: Any, threat: ThreatModel, said: list[str]):
    found = ranges(spread(*train), spread(*test), threat)
    assert len(found) == len(said), found
    assert all(part in text for part, text in zip(said, found, strict=True)), found


def test_ranges_that_are_not_in_memory_are_not_asked_for():
    class Lazy(Split):
        def __init__(self) -> None: ...

    assert ranges(Lazy(), spread(0, 1), ThreatModel("linf", 1)) == []
    assert ranges(spread(0, 1), Lazy(), ThreatModel("linf", "1/10")) == []


def test_notes_of_a_plugin_that_raise_are_its_fault(noted: Noted, monkeypatch: pytest.MonkeyPatch):
    def notes(self: EMA, epochs: int, steps_per_epoch: int) -> list[str]:
        raise KeyError("x")

    monkeypatch.setattr(EMA, "notes", notes)
    with pytest.raises(PluginError, match=r"^plugin 'ema' .*: its method notes raised KeyError: 'x'"):
        noted()


def test_a_training_set_is_looked_at_without_moving_the_model():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Softmax(1))
    assert kind_of_outputs(model(torch.rand(5, 3))) == "softmax"


def record(epoch: int, clean: float, track: str = "live", split: str = "validation") -> Record:
    return Record(epoch, track, split, clean, 0.0, 100)


def test_a_run_that_never_left_chance_is_noted():
    records = [record(0, 0.25), record(1, 0.3), record(1, 0.9, split="test"), record(1, 0.9, track="ema")]
    said = never_above_chance(records, "validation", 0.25)
    assert "not better than a constant answer at any of 2 evaluations: " in said
    assert "at most 30.0 %, and chance is 25.0 %" in said
    assert never_above_chance([*records, record(2, 0.4)], "validation", 0.25) == ""
    assert never_above_chance([], "validation", 0.25) == ""


def test_a_run_at_chance_says_so_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from buttress.cli import main

    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "small.yaml", "epochs=1", "plugins=[clean]", "optimizer.lr=1e-9"]) == 0
    assert "note: the model was not better than a constant answer at the only evaluation: " in capsys.readouterr().out


def test_an_attack_of_evaluate_is_noted_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from safetensors.torch import save_file

    from buttress.cli import main
    from buttress_plugins.models.preact_resnet import preact_tiny

    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_file(preact_tiny(in_channels=1, num_classes=4, width=2).state_dict(), tmp_path / "w.safetensors")
    words = ["evaluate", "w.safetensors", "--config", "small.yaml", "--attack", "pgd: {steps: 1, step_size: 2}"]
    assert main(words) == 0
    assert "note: pgd-1.step_size is 2, and the ball is 16/255 across" in capsys.readouterr().err
