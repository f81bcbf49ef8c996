"""A bench of a config: what is measured, what is counted, what it is compared with, and that it leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import torch

from buttress.benching import bench as bench_module
from buttress.benching import rounds
from buttress.benching.bench import BenchOptions
from buttress.benching.phases import PHASES
from buttress.benching.speed import Speed
from buttress.errors import ConfigError

from .conftest import Measure

PGD = {"pgd": {"steps": 2}}


def test_every_phase_of_a_full_stack_takes_time(speed: Speed):
    assert speed.phases == tuple(phase for phase in PHASES if phase != "end of epoch")
    assert all(seconds > 0 for seconds in speed.epoch_seconds().values())
    assert len(speed.rounds) == 2


def test_the_phases_of_a_step_add_up_to_it(speed: Speed):
    for each in speed.rounds:
        assert sum(each.phases.values()) == pytest.approx(each.data + each.steps)


def test_the_work_of_a_step_lies_in_its_phases(speed: Speed):
    flops = speed.work.flops
    # TRADES: 3 forwards and backwards of the attack and a clean forward, then 2 forwards and backwards of the loss.
    assert flops["perturbation"] == flops["loss and backward"]
    assert 1 < flops["attack"] / flops["loss and backward"] < 1.5
    assert flops["transform"] == flops["adjust"] == flops["optimizer"] == 0
    assert all(count > 0 for count in speed.work.bytes.values())
    assert speed.work.passes.input_backwards == 3


def test_a_bench_counts_as_the_run_would(speed: Speed):
    assert (speed.sizes.batch, speed.sizes.steps_per_epoch, speed.sizes.epochs) == (12, 4, 4)
    assert speed.between.examples == 40  # test and validation
    assert speed.between.tracks == 2  # live and ema; swa has not begun


STACKS: dict[str, tuple[list[Any], str | None, tuple[str, ...]]] = {
    "pgd": ([PGD], "PGD-AT, 2 attack steps", ()),
    "pgd and swa": ([PGD, "swa"], "PGD-AT, 2 attack steps", ("swa",)),
    "awp": ([PGD, "awp"], "PGD-AT-AWP, 2 attack steps", ()),
    "awp later": ([PGD, {"awp": {"start": 2}}], "PGD-AT, 2 attack steps", ("awp",)),
    "trades": ([{"pgd": {"steps": 2, "loss": "kl"}}, "trades"], "TRADES, 2 attack steps", ()),
    "trades on ce": ([PGD, "trades"], "PGD-AT, 2 attack steps", ("trades",)),
    "kl": ([{"pgd": {"steps": 2, "loss": "kl"}}, "mart"], "PGD-AT, 2 attack steps", ("this form of pgd", "mart")),
    "fgsm": (["fgsm"], "PGD-AT, 1 attack step", ("fgsm",)),
    "clean": (["clean"], None, ()),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_config_is_compared_with_the_loop_of_its_method(name: str, measure: Measure):
    plugins, method, without = STACKS[name]
    speed = measure(plugins=plugins)
    assert (str(speed.method) if speed.method else None) == method
    assert (speed.method.without if speed.method else ()) == without
    assert (speed.ratio is None) == (method is None)


def test_the_schedules_of_another_epoch_hold(measure: Measure):
    steps = {"piecewise": [[0, 1], [2, 4]]}
    speed = measure(BenchOptions(1, 0, 2), plugins=[{"pgd": {"steps": steps}}, {"meat": {"start": 2}}])
    assert speed.work.passes.input_backwards == 4
    assert speed.between.tracks == 2
    assert speed.epoch_seconds()["ensembles"] > 4 * speed.phase_seconds()["ensembles"]


def test_replays_are_steps(measure: Measure):
    speed = measure(plugins=["free_at"], replays=3)
    assert (speed.sizes.steps_per_epoch, speed.work.passes.forwards) == (12, 1)
    assert speed.method is None
    (each,) = speed.rounds
    assert speed.step_seconds == pytest.approx((each.data + each.steps) / 3)


@contextmanager
def deterministic_as_before() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize(
    "sections",
    [
        {"precision": {"attack": "bf16", "train": "float32"}},
        {"precision": "float64"},
        {"deterministic": True, "guards": {"nonfinite": "skip"}},
        {"threat": {"norm": "l2", "eps": "1/2"}, "model": {"name": "mlp"}, "optimizer": {"name": "adamw", "lr": 0.01}},
    ],
    ids=lambda sections: " ".join(sections),
)
def test_other_configs_are_measured_alike(sections: dict[str, Any], measure: Measure):
    with deterministic_as_before():
        speed = measure(**{"plugins": [PGD], **sections})
    assert speed.ratio is not None
    words = [limit.split(", ")[1] for limit in speed.limits if "product" in limit]
    assert words == list(dict.fromkeys([speed.precision.attack, speed.precision.train]))
    assert all(share.share > 0 for share in speed.shares())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "--rounds 0: expected a number >= 1"),
        ({"warmup": -1}, "--warmup -1: expected a number >= 0"),
        ({"epoch": 4}, "--epoch 4: expected an epoch of the run, 0 to 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_number_out_of_range_is_one_error(options: dict[str, int], message: str, measure: Measure):
    with pytest.raises(ConfigError) as caught:
        measure(BenchOptions(**options))
    assert str(caught.value) == message


def test_steps_that_nothing_interrupts_are_of_a_batch_of_their_own(measure: Measure, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rounds, "waits", lambda device: True)
    ticks = count()
    monkeypatch.setattr(bench_module, "clock_of", lambda device: ticks.__next__)
    (each,) = measure(plugins=[PGD]).rounds
    assert (each.data, each.steps) == (1, 1)
