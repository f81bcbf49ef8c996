"""``bench_scale.py`` on a small network: its crews make steps, and collectives are counted and weighed as they are."""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("scale") / "scale.json"
    options = ["--quick", "--rounds", "1", "--warmup", "0", "--stacks", "trades-awp", "--json", str(results)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bench_scale.py", *options])
        patch.setitem(os.environ, "OMP_WAIT_POLICY", "PASSIVE")  # two threads on a busy machine
        runpy.run_path(str(ROOT / "benchmarks" / "bench_scale.py"), run_name="__main__")
    return results


@pytest.fixture(scope="module")
def result(written: Path) -> dict[str, Any]:
    return json.loads(written.read_text(encoding="utf-8"))["stacks"]


def test_each_crew_makes_its_steps(result: dict[str, Any]):
    times = result["trades-awp"]["times"]
    assert list(times) == list(result["trades-awp"]["speed"]) == ["2x1", "1x2", "1x1"]
    assert all(len(each["rounds_s"]) == 1 and each["median_s"] > 0 for each in times.values())
    assert result["trades-awp"]["speed"]["1x1"] == 1


COMPARISON = 24  # bytes of the hashes that ranks compare before a sum


def test_a_step_has_one_sum_of_gradients_and_one_of_the_ascent(result: dict[str, Any]):
    from step.problem import SMALL

    model = SMALL.model(in_channels=3, num_classes=10)
    collectives = result["trades-awp"]["collectives"]
    calls = {purpose: each["calls"] for purpose, each in collectives.items()}
    assert calls == {"ascent": 1, "gradients": 1, "batch norm": 1, "agreement": 1}
    assert collectives["gradients"]["bytes"] == COMPARISON + 4 * sum(weight.numel() for weight in model.parameters())
    assert all(each["seconds"] > 0 and each["waiting_s"] >= 0 for each in collectives.values())


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts" / "scale_page.py"))


def test_the_page_of_several_processes_is_as_the_generator_writes_it(page: dict[str, Any]):
    assert page["PAGE"].read_text(encoding="utf-8") == page["page"](), "run python scripts/scale_page.py"


def test_the_page_shows_a_measurement_where_there_is_one(page: dict[str, Any], written: Path):
    table = page["measured"](str(written))  # an absolute path stands for itself
    assert "| trades-awp |" in table
    assert "1 ascent, 1 gradients, 1 batch norm, 1 agreement" in table


def test_a_sum_over_a_ring_moves_nearly_twice_the_bytes(page: dict[str, Any]):
    assert page["seconds_of_sum"](100, 10.0, 1) == 0
    assert page["seconds_of_sum"](100, 10.0, 4) == 15
    with torch.device("meta"):
        layer = torch.nn.Conv2d(3, 2, 3, padding=1, bias=False)
    assert page["size_of"](layer) == (4 * 54, 2 * 54 * page["SIDE"] ** 2)
