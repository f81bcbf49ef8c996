"""``bench_scale.py`` on a small network: its crews make steps, and collectives are counted and weighed as they are."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    results = tmp_path_factory.mktemp("scale") / "scale.json"
    options = ["--quick", "--rounds", "1", "--warmup", "0", "--stacks", "trades-awp", "--json", str(results)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bench_scale.py", *options])
        patch.setitem(os.environ, "OMP_WAIT_POLICY", "PASSIVE")  # two threads on a busy machine
        runpy.run_path(str(ROOT / "benchmarks" / "bench_scale.py"), run_name="__main__")
    return json.loads(results.read_text(encoding="utf-8"))["stacks"]


def test_each_crew_makes_its_steps(result: dict[str, dict[str, object]]):
    times = result["trades-awp"]["times"]
    assert list(times) == list(result["trades-awp"]["speed"]) == ["2x1", "1x2", "1x1"]
    assert all(len(each["rounds_s"]) == 1 and each["median_s"] > 0 for each in times.values())
    assert result["trades-awp"]["speed"]["1x1"] == 1


def test_a_step_has_one_sum_of_gradients_and_one_of_the_ascent(result: dict[str, dict[str, object]]):
    from step.problem import SMALL

    model = SMALL.model(in_channels=3, num_classes=10)
    collectives = result["trades-awp"]["collectives"]
    calls = {purpose: each["calls"] for purpose, each in collectives.items()}
    assert calls == {"ascent": 1, "gradients": 1, "batch norm": 1, "agreement": 1}
    assert collectives["gradients"]["bytes"] == 4 * sum(weight.numel() for weight in model.parameters())
    assert all(each["seconds"] > 0 and each["waiting_s"] >= 0 for each in collectives.values())
