"""``bench_step.py`` on a small network: both sides do the same, and the page shows what was measured."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
STACKS = ("pgd-at", "trades", "trades-awp", "rwp", "amp")
QUICK = ("--quick", "--rounds", "1", "--warmup", "0")


@pytest.mark.parametrize("stack", STACKS)
def test_the_public_code_and_the_engine_make_the_same_step(stack: str):
    from step.problem import SMALL
    from step.proof import largest_differences
    from step.stacks import STACKS

    differences = largest_differences(STACKS[stack], SMALL, torch.device("cpu"), torch.float64)
    assert differences["adv"] == 0
    assert differences["weights"] < 1e-9


def test_a_difference_of_the_two_sides_is_seen(monkeypatch: pytest.MonkeyPatch):
    from step import official
    from step.problem import SMALL
    from step.proof import largest_differences
    from step.stacks import STACKS

    monkeypatch.setattr(official, "BETA", 5.9)
    assert largest_differences(STACKS["trades"], SMALL, torch.device("cpu"), torch.float64)["weights"] > 1e-3


def test_the_benchmark_runs_in_every_eager_setting_and_writes_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from step.settings import EAGER

    results = tmp_path / "step.json"
    options = ["--stacks", "pgd-at", "rwp"]
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *QUICK, *options, "--json", str(results)])
    runpy.run_path(str(ROOT / "benchmarks" / "bench_step.py"), run_name="__main__")
    stacks = json.loads(results.read_text(encoding="utf-8"))["stacks"]
    assert list(stacks) == ["pgd-at", "rwp"]
    for each in stacks.values():
        assert list(each["median_of_ratios"]) == ["public", "public, channels_last", *EAGER]


def test_peers_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from peers import attacks

    monkeypatch.setattr(attacks, "PEERS", {"torchattacks": absent})
    results = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", *QUICK, "--json", str(results)])
    attacks.main()
    result = json.loads(results.read_text(encoding="utf-8"))
    assert result["missing"] == {"torchattacks": "No module named 'torchattacks'"}
    assert all(name.startswith("buttress") for name in result["attacks"])


def absent(*arguments: object) -> None:
    raise ModuleNotFoundError("No module named 'torchattacks'")


def test_the_page_of_speed_is_as_the_generator_writes_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    page = runpy.run_path(str(ROOT / "scripts" / "speed_page.py"))
    assert page["PAGE"].read_text(encoding="utf-8") == page["page"](), "run python scripts/speed_page.py"
