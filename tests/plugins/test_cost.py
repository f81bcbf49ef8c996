"""The cost of a step of each method, in passes through the model: as the table has it, counted, and forecast."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from buttress.config.file import ConfigFile
from buttress.config.yaml_source import dump_yaml, parse_yaml
from buttress.data.training_set import TrainingSet
from buttress.nn.passes import Passes, counted
from buttress.training import forecast as forecasts
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data
from buttress.training.forecast import forecast
from buttress.types import Batch

from .catalogue import CATALOGUE
from .teachers import FOLDER

COSTS = [(plugins, row.data, expected) for row in CATALOGUE.values() for plugins, expected in row.costs]

FORECAST = {
    "name": "cost",
    "data": {"name": "digits", "train_per_class": 1, "validation": 10, "batch_size": 5},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": ["fgsm"],
    "optimizer": {"lr": 0.1},
    "evaluation": {"attack": "clean"},
}
"""A config of two batches an epoch, without its epochs."""


@pytest.mark.parametrize(
    ("plugins", "data_settings", "expected"),
    COSTS,
    ids=lambda value: dump_yaml(value).strip().replace(str(FOLDER), "") if isinstance(value, list) else "",
)
def test_a_step_costs_what_is_written_here_and_what_is_forecast(
    plugins: list[Any], data_settings: dict[str, Any], expected: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forecasts, "CALIBRATION_SECONDS", 0.0)
    monkeypatch.setattr(forecasts, "CALIBRATION_EXAMPLES", 2)
    config = {
        "name": "cost",
        "data": {"name": "digits", "train_per_class": 1, "validation": 10, "batch_size": 5, **data_settings},
        "model": {"name": "preact_tiny", "width": 2},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": plugins,
        "optimizer": {"lr": 0.1},
        "epochs": 2,
        "evaluation": {"attack": "clean"},  # is timed too, and no part of a step
    }
    file = ConfigFile(parse_yaml(dump_yaml(config), "cost.yaml"))
    torch.manual_seed(0)
    data, settings = load_data(file)
    scratch = assemble(file, data, settings, tmp_path)
    assert forecast(scratch).passes == expected
    again = assemble(file, data, settings, tmp_path)
    batch = next(iter(again.data.train.batches(torch.arange(5), 5)))
    with counted(again.engine.model) as counter:
        again.engine.step(batch.x, batch.y, index=batch.index)
    assert counter.passes == expected


@pytest.mark.parametrize("bn_data", ["clean", "adv"])
def test_the_forecast_of_evaluation_counts_every_track_and_its_batch_norm(
    bn_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a clock that a forward of b examples moves by b seconds."""
    now = 0.0

    def forward(_: Any, inputs: tuple[torch.Tensor]) -> None:
        nonlocal now
        now += len(inputs[0])

    monkeypatch.setattr(forecasts, "perf_counter", lambda: now)
    ensembles = [{"meat": {"start": 0, "bn_data": bn_data}}, {"ema": {"start": 2, "buffers": "copy"}}, "swa"]
    config = {
        "name": "cost",
        "data": {"name": "digits", "train_per_class": 2, "validation": 10, "batch_size": 5},
        "model": {"name": "preact_tiny", "width": 2},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": [{"pgd": {"steps": 3}}, *ensembles],
        "optimizer": {"lr": 0.1},
        "epochs": 7,
        "evaluation": {"every": 2, "attack": {"pgd": {"steps": 2}}},
    }
    file = ConfigFile(parse_yaml(dump_yaml(config), "cost.yaml"))
    data, settings = load_data(file)
    scratch = assemble(file, data, settings, tmp_path)
    scratch.engine.model.register_forward_pre_hook(forward)
    actual = forecast(scratch)

    again = assemble(file, data, settings, tmp_path / "again")
    again.engine.model.register_forward_pre_hook(forward)
    batch = next(iter(data.train.batches(torch.arange(5), 5)))
    for _ in range(3):
        again.engine.step(batch.x, batch.y, index=batch.index)
        again.engine.end_epoch()
    again.engine.epoch = 5
    again.engine.step(batch.x, batch.y, index=batch.index)
    again.engine.end_epoch()
    begin = now
    for name in ("validation", "test"):
        again.evaluator.score(data.splits()[name])
    tracks = again.engine.tracks()
    assert len(tracks) == 3
    for track in tracks:
        assert track.weights is not None
        with again.engine.track(track):
            for name in ("validation", "test"):
                again.evaluator.score(data.splits()[name])
    assert actual.evaluation_seconds == pytest.approx(4 * (now - begin))
    assert actual.train_seconds == 7 * 4 * 5 * 4  # epochs, steps, examples, forwards


@pytest.mark.parametrize(
    ("steps", "forwards"),
    [
        ({"piecewise": [[0, 1], [3, 4]]}, [2, 2, 2, 5]),
        ({"linear": [[0, 1], [11, 12]]}, list(range(2, 14))),  # more stages than are measured
    ],
)
def test_the_forecast_of_training_follows_the_steps_of_an_attack_over_the_epochs(
    steps: Any, forwards: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a clock that a forward moves by a second."""
    now = 0.0

    def forward(*_: Any) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(forecasts, "perf_counter", lambda: now)
    monkeypatch.setattr(forecasts, "CALIBRATION_EXAMPLES", 2)
    config = {
        "name": "cost",
        "data": {"name": "digits", "train_per_class": 1, "validation": 10, "batch_size": 5},
        "model": {"name": "preact_tiny", "width": 2},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": [{"pgd": {"steps": steps}}],
        "optimizer": {"lr": 0.1},
        "epochs": len(forwards),
        "evaluation": {"attack": "clean"},
    }
    file = ConfigFile(parse_yaml(dump_yaml(config), "cost.yaml"))
    scratch = assemble(file, *load_data(file), tmp_path)
    scratch.engine.model.register_forward_pre_hook(forward)
    actual = forecast(scratch)
    assert actual.train_seconds == pytest.approx(2 * sum(forwards))  # two steps an epoch
    assert (actual.passes.forwards, actual.most_passes.forwards) == (forwards[0], forwards[-1])
    assert f"each step: {forwards[0]} to {forwards[-1]} forwards, " in str(actual)


def test_the_forecast_reads_as_many_batches_as_it_steps_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Batch] = []
    batches = TrainingSet.batches

    def noted(own: TrainingSet, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in batches(own, epoch, start):
            made.append(batch)
            yield batch

    monkeypatch.setattr(TrainingSet, "batches", noted)
    ticks = count()
    monkeypatch.setattr(forecasts, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(forecasts, "CALIBRATION_SECONDS", 5.0)
    monkeypatch.setattr(forecasts, "CALIBRATION_EXAMPLES", 2)
    config = {**FORECAST, "epochs": 2}
    file = ConfigFile(parse_yaml(dump_yaml(config), "cost.yaml"))
    forecast(assemble(file, *load_data(file), tmp_path))
    assert [torch.equal(batch.x, made[0].x) for batch in made] == [True, True, False, True]  # two batches an epoch


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (4, 8)])
def test_the_forecast_of_a_short_run_takes_no_more_steps_than_the_run_and_three_at_least(
    epochs: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a clock that stands still."""
    monkeypatch.setattr(forecasts, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(forecasts, "CALIBRATION_SECONDS", 1.0)
    monkeypatch.setattr(forecasts, "CALIBRATION_EXAMPLES", 2)
    config = {**FORECAST, "epochs": epochs}
    file = ConfigFile(parse_yaml(dump_yaml(config), "cost.yaml"))
    scratch = assemble(file, *load_data(file), tmp_path)
    step, taken = scratch.engine.step, count()

    def counting(*args: Any, **options: Any) -> Any:
        assert next(taken) <= steps, "measures longer than the run"
        return step(*args, **options)

    monkeypatch.setattr(scratch.engine, "step", counting)
    forecast(scratch)
    assert next(taken) == 1 + steps  # one is counted, and not timed
