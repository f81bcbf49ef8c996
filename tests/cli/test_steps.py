"""``steps``: a run of a number of steps ends inside an epoch, and is a run like every other one."""

import json
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest

from buttress.storage.reading import file_sha256

from .conftest import Verb, stopped_at

STEPS = ["epochs=null", "steps=10", "log_every=1"]  # 4 + 4 + 2 steps, 2.5 epochs
COSINE = "schedule={name: cosine, final: 0.1, warmup: 0.2, warmup_from: 0.5}"
DROPS = "schedule={name: piecewise, milestones: [1, 0.75], factor: [0.5, 0.1], per: batch, warmup: 0.35}"


def by_hand(step: int) -> float:
    """The factor of ``COSINE`` at a step, from 1, of ten."""

    def half_cosine(k: int) -> float:
        return 0.1 + 0.9 * (1 + cos(pi * k / 10)) / 2

    return half_cosine(step) if step > 2 else 0.5 + (half_cosine(2) - 0.5) * step / 2


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == kind]


def fingerprint(run: Path) -> dict[str, str]:
    """The weights and the numbers that training left."""
    files = [*sorted((run / "weights").iterdir()), run / "metrics.jsonl", run / "summary.json"]
    return {path.name: file_sha256(path) for path in files}


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (COSINE, [by_hand(step) for step in range(1, 11)]),
        # A warm-up of 3.5 steps to 1, a half from step 4 on (epoch 1), and a 20th from step 8 on (0.75 of 10 steps).
        (DROPS, [2 / 7, 4 / 7, 6 / 7, *[0.5] * 4, *[0.05] * 3]),
    ],
    ids=["cosine", "drops"],
)
def test_a_run_ends_after_its_steps_and_resumes_exactly(
    expect: Verb, workspace: Path, schedule: str, factors: list[float]
):
    said = expect("train", "small.yaml", *STEPS, schedule, "--run", "whole", "--runs", "out")
    whole = workspace / "out" / "small" / "whole"
    train = events(whole, "train")
    assert [(each["global_step"], each["epoch"]) for each in train] == [(n, (n + 3) // 4) for n in range(1, 11)]
    assert [each["lr"] for each in train] == pytest.approx([0.1 * factor for factor in factors])
    assert [each["epoch"] for each in events(whole, "epoch")] == [1, 2, 3]
    assert {each["epoch"] for each in events(whole, "evaluation")} == {2, 3}  # every second, and the last
    assert "epoch 3/3" in said
    assert max((whole / "checkpoints").iterdir()).stem == "step-00000010"
    for stop in (2, 9):
        name = f"stopped-{stop}"
        with stopped_at(stop):
            expect("train", "small.yaml", *STEPS, schedule, "--run", name, "--runs", "out", code=1)
        said = expect("resume", f"out/small/{name}")
        assert ("epoch 3/3, 1 of its 2 steps done" if stop == 9 else "epoch 1/3, 2 of its 4 steps done") in said
        assert fingerprint(workspace / "out" / "small" / name) == fingerprint(whole)


def test_every_verb_takes_a_run_of_steps(expect: Verb, workspace: Path):
    expect("train", "small.yaml", *STEPS, COSINE, "--run", "a", "--runs", "out")
    assert "this run has finished: all 3 epochs are trained" in expect("resume", "out/small/a")
    assert "to the last bit" in expect("reproduce", "out/small/a", "--runs", "again")
    expect("report", "out/small/a", "--output", "report.html")
    assert "Not finished yet" not in (workspace / "report.html").read_text()
    assert "steps: 10" in expect("config", "show", "out/small/a/config.yaml")


def test_replays_count_as_steps(expect: Verb, workspace: Path):
    more = ["epochs=null", "steps=14", "data.replays=3", "log_every=1"]  # 12 steps an epoch; 2 of 3 replays in the last
    expect("train", "small.yaml", *more, "--run", "a", "--runs", "out", "schedule={name: constant}")
    assert [each["epoch"] for each in events(workspace / "out" / "small" / "a", "train")] == [1] * 12 + [2] * 2


def test_times_that_a_run_of_steps_never_reaches(expect: Verb):
    words = ["train", "small.yaml", "--dry-run", *STEPS]
    said = expect(*words, "schedule={name: piecewise, milestones: [1, 3]}", code=2)
    assert "schedule.milestones: a time of 3 epochs never comes: the run has 2.5" in said
    assert "expected a warm-up shorter than the run, got 3 of 2.5 epochs" in expect(*words, "schedule.warmup=3", code=2)
    said = expect(*words, code=2)  # a half, which is inside the second epoch
    assert "a drop at 1.25 lies inside an epoch" in said
    assert "meat.start is 3, after 3 epochs, which never comes: the run has 3" in expect(*words, COSINE, "meat.start=3")
