"""``speedrun.py``: the smoke form runs end to end; the clock counts training alone; rules tell what is no record."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from buttress.config.file import load_config
from buttress.engine.engine import Engine
from buttress.errors import ConfigError, WorkError
from buttress.scoring.evaluator import Evaluator
from buttress.storage.reading import file_sha256
from buttress.training.resumable_state import ResumableState

FILE = Path(__file__).parents[2] / "benchmarks" / "speedrun.py"
STEPS = {"cifar10": 14, "digits": 14}


@pytest.fixture(scope="module")
def speedrun():
    spec = spec_from_file_location("speedrun", FILE)
    module = module_from_spec(spec)
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "speedrun", module)
        spec.loader.exec_module(module)
        yield module
        sys.path[:] = path


@pytest.fixture(scope="module")
def work():
    return Counter()


@pytest.fixture(scope="module")
def folder(speedrun: ModuleType, work: Counter[str], tmp_path_factory: pytest.TempPathFactory):
    """Two records of the smoke form, under a clock that a step moves by 1, an evaluation and a checkpoint by 1000."""

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            work[name] += 1
            return function(*args, **kwargs)

        return call

    place = tmp_path_factory.mktemp("speedrun")
    with pytest.MonkeyPatch.context() as patch:
        for kind, name in ((Engine, "step"), (Evaluator, "score"), (ResumableState, "save")):
            patch.setattr(kind, name, counted(name, getattr(kind, name)))
        patch.setattr(speedrun, "perf_counter", lambda: work["step"] + 1000 * (work["score"] + work["save"]))
        patch.setattr(sys, "argv", ["speedrun.py", "--smoke", "--folder", str(place)])
        assert speedrun.main() == 0
        yield place


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name / "record.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", STEPS)
def test_the_clock_counts_every_step_and_neither_evaluations_nor_checkpoints(folder: Path, name: str):
    (row,) = read(folder, name)["seeds"]
    assert row["seconds"] == STEPS[name]
    assert row["epoch_seconds"] == [STEPS[name] / 7] * 7


def test_no_step_is_made_before_the_clock_runs(folder: Path, work: Counter[str]):
    assert work["step"] == sum(STEPS.values())


@pytest.mark.parametrize(("name", "n"), [("cifar10", 20), ("digits", 57)])
def test_the_averaged_weights_after_the_last_epoch_are_attacked_on_all_test_images(folder: Path, name: str, n: int):
    (row,) = read(folder, name)["seeds"]
    assert row["autoattack"]["n"] == row["clean"]["n"] == n
    assert row["weights_sha256"] == file_sha256(Path(row["run"]) / "weights" / "last-ema.safetensors")
    evaluation = json.loads(Path(row["evaluation"]).read_text(encoding="utf-8"))
    assert (evaluation["track"], evaluation["checkpoint"], evaluation["epoch"]) == ("ema", "last", 7)
    assert [attack["attack"] for attack in evaluation["attacks"]] == ["clean", "autoattack"]


def test_a_smoke_result_is_no_record(folder: Path):
    result = read(folder, "cifar10")
    assert "all 10,000 test images are attacked" in result["broken_rules"]
    assert "all seeds run on GPUs of one kind" in result["broken_rules"]
    assert "precision: bf16" in result["config"]


def test_a_clock_that_was_left_out_of_the_run_gives_no_time(speedrun: ModuleType):
    with pytest.raises(WorkError, match="the ends of 3 epochs on the clock, got 2 times"):
        speedrun.seconds([0.0, 1.0], 3)


def test_the_same_command_goes_on_and_another_config_is_refused(
    speedrun: ModuleType, folder: Path, work: Counter[str], capsys: pytest.CaptureFixture[str]
):
    before, done = Counter(work), read(folder, "cifar10")["seeds"]
    speedrun.smoke(speedrun.CONFIG, [], folder)
    assert work == before
    assert read(folder, "cifar10")["seeds"] == done
    assert capsys.readouterr().out.count("no record; the rules that are broken:") == 2
    with pytest.raises(ConfigError, match=r"seed-0\.json is the result of another config; give another --folder"):
        speedrun.smoke(speedrun.CONFIG, ["trades.beta=6.0"], folder)


def row(**changes: Any) -> dict[str, Any]:
    share = {"accuracy": changes.pop("accuracy", 0.5), "n": changes.pop("n", 10_000)}
    return {"device": "a GPU", "files": [], "autoattack": share, **changes}


def test_the_config_breaks_no_rule(speedrun: ModuleType):
    rows = [row(accuracy=accuracy) for accuracy in (0.49, 0.51, 0.5, 0.5, 0.5)]
    assert speedrun.broken_rules(load_config(speedrun.CONFIG), rows) == []


@pytest.mark.parametrize(
    ("overrides", "rows", "rule"),
    [
        (["data.name=cifar100"], [row()] * 5, "CIFAR-10"),
        (["data.extra={share: 1/2}"], [row()] * 5, "without extra examples"),
        (["threat.eps=7/255"], [row()] * 5, "eps 8/255"),
        (["threat.norm=l2"], [row()] * 5, "L-inf"),
        (["precision={score: bf16}"], [row()] * 5, "float32"),
        (["evaluation.seed=1"], [row()] * 5, "seed 0"),
        ([], [row(files=["plugins[0].kd.robust"]), *[row()] * 4], "file"),
        ([], [row(n=9_999), *[row()] * 4], "10,000"),
        ([], [row()] * 4, "5 seeds"),
        ([], [row(device="another"), *[row()] * 4], "one kind"),
        ([], [row(device="cpu")] * 5, "GPUs"),
        ([], [row(accuracy=0.4999), *[row()] * 4], "50 % in the mean"),
    ],
)
def test_each_broken_rule_is_named(speedrun: ModuleType, overrides: list[str], rows: list[Any], rule: str):
    (broken,) = speedrun.broken_rules(load_config(speedrun.CONFIG, overrides), rows)
    assert rule in broken
