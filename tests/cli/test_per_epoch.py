"""A run whose settings change over the epochs: its records, its config, and its end after a stop in between."""

import json
from pathlib import Path

import pytest
import yaml

from buttress.scoring.evaluator import Evaluator
from buttress.threat import ThreatModel

from .conftest import CONFIG, Verb, stopped_at

STEPS = {"piecewise": [[0, 1], [0.5, 3]]}
BETA = {"linear": [[0, 0.0], [3, 6.0]]}
RADIUS = {"linear": [[0, "0"], [2, "8/255"]]}


@pytest.fixture
def config(workspace: Path) -> str:
    plugins = [
        {"pgd": {"steps": STEPS}},
        {"trades": {"beta": BETA}},
        {"label_smoothing": {"epsilon": {"cosine": [[0, 0.5], [2, 0]]}}},
    ]
    threat = {**CONFIG["threat"], "training_eps": RADIUS}  # type: ignore[dict-item]
    (workspace / "ramp.yaml").write_text(
        yaml.safe_dump({**CONFIG, "plugins": plugins, "threat": threat}, sort_keys=False)
    )
    return "ramp.yaml"


def test_a_run_records_the_values_of_each_epoch_and_goes_on_with_them(
    workspace: Path, config: str, expect: Verb, monkeypatch: pytest.MonkeyPatch
):
    radii: list[ThreatModel] = []
    score = Evaluator.score

    def noted(evaluator: Evaluator, *args: object, **options: object) -> object:
        radii.append(evaluator.threat)
        return score(evaluator, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Evaluator, "score", noted)
    assert "each step: 3 to 5 forwards, 1 to 3 backwards to the input, 2 to the weights" in expect(
        "train", config, "--run", "whole", "--runs", "out"
    )
    run = workspace / "out" / "small" / "whole"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("pgd.steps", "trades.beta", "label_smoothing.epsilon", "threat.training_eps")
    rows = [[record[name] for name in names] for record in records if record["event"] == "epoch"]
    assert rows == [
        [1, 0.0, 0.5, 0.0],
        [1, 2.0, 0.25, 4 / 255],
        [3, 4.0, 0.0, 8 / 255],
        [3, 6.0, 0.0, 8 / 255],
    ]
    assert set(radii) == {ThreatModel("linf", "8/255")}
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["threat"]["training_eps"] == RADIUS
    assert [written["plugins"][0]["pgd"]["steps"], written["plugins"][1]["trades"]["beta"]] == [STEPS, BETA]

    with stopped_at(6):
        expect("train", config, "--run", "parts", "--runs", "out", code=1)
    expect("resume", "out/small/parts")
    one, other = (
        workspace / "out" / "small" / name / "weights" / "last-live.safetensors" for name in ("whole", "parts")
    )
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("threat.eps=2", "threat.eps: 2 reaches beyond the whole box"),
        ("threat.training_eps={linear: [[0, 0], [1, 2]]}", "threat.training_eps: 2 reaches beyond the whole box"),
        (
            "threat.training_eps={linear: [[0, 0], [9, 1/10]]}",
            "threat.training_eps: linear, point 2: expected an epoch of the run, 0 to 3, got 9",
        ),
    ],
)
@pytest.mark.parametrize("verb", [["train"], ["config", "validate"]], ids="-".join)
def test_a_radius_that_does_not_fit_is_refused_before_the_data_are_loaded(
    config: str, expect: Verb, verb: list[str], override: str, message: str
):
    assert message in expect(*verb, config, override, "data.path=gone.npz", code=2)


def test_an_evaluation_of_the_command_line_takes_no_schedule(config: str, expect: Verb):
    expect("train", config, "--run", "whole", "--runs", "out", "epochs=4", "evaluation.every=4")
    said = expect("evaluate", "out/small/whole", "--attack", "pgd: {steps: {linear: [[0, 1], [2, 3]]}}", code=2)
    assert "expected one value, as evaluations have no epochs and compare under one attack" in said
