"""The verb ``bench``: text or JSON, a picture, and nothing else that stays."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttress.benching import limits

from .conftest import Run, Verb

ONCE = ("small.yaml", "--rounds", "1", "--warmup", "0")


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limits, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(limits, "_COPIED", {"cpu": 2**16})
    return


def test_a_bench_is_json_for_a_program_and_bars_for_a_person(buttress: Run, workspace: Path):
    before = {path.name for path in workspace.iterdir()}
    facts = json.loads(buttress("bench", *ONCE, "pgd.steps=1", "--json", "--picture", "bars.png").stdout)
    assert facts["name"] == "small"
    assert facts["config"]["plugins"][0]["pgd"]["steps"] == 1
    assert facts["hand_written"]["method"]["name"] == "PGD-AT, 1 attack step"
    assert facts["examples_per_second"] == pytest.approx(12 / facts["step_seconds"])
    expected = {"torch_threads", "cpu", "cpus", "gpus"}
    assert expected == set(facts["hardware"])
    wanted = {
        "packages",
        "threads",
        "load",
        "precision",
        "memory_format",
        "device",
        "seed",
        "peak_memory_bytes",
        "sizes",
    }
    assert wanted <= set(facts)
    assert {path.name for path in workspace.iterdir()} - before == {"bars.png"}
    assert (workspace / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_a_bench_is_text(expect: Verb):
    said = expect("bench", *ONCE)
    assert "small: " in said
    assert "hand-written loop: PGD-AT, 2 attack steps, without meat, ema, swa" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds 0: expected a number >= 1"),
        (["--epoch", "4"], "--epoch 4: expected an epoch of the run, 0 to 3"),
        (["--picture", "bars.jpg"], "--picture bars.jpg: expected the name of a file that ends in .png"),
        (["--picture", "no/bars.png"], "--picture no/bars.png: no is no folder; make it first"),
        (["pgd.stpes=3"], "plugins.pgd.stpes: unknown key; did you mean 'steps'?"),
    ],
    ids=" ".join,
)
def test_a_call_that_cannot_be_measured_is_one_error(words: list[str], message: str, expect: Verb):
    said = expect("bench", "small.yaml", *words, code=2)
    assert message in said
    assert said.count("error:") == 1
