"""Some file operations that fail, or are the last; ``make torture`` takes every one of them."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .file_operations import Scene, drawn, play, scenes, unsynced
from .injector import Injector, build_library, reason_to_skip

pytestmark = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "-")

Stage = tuple[Path, Injector, list[Scene]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    work = tmp_path_factory.mktemp("stage")
    with Injector(build_library(work)) as injector:
        yield work, injector, scenes(work, injector)


def test_a_few_faults_lose_nothing(stage: Stage):
    work, injector, found = stage
    assert list(play(work, drawn(found, random.Random(0), 6), [injector])) == []


def test_the_last_scene_is_rolled_back(stage: Stage):
    work, _, found = stage
    assert len(found[-1].operations) > 50
    assert '"rollbacks": 1' in (work / "roll back" / "whole" / "tiny" / "r" / "summary.json").read_text()


def test_what_a_checkpoint_relies_on_is_synced_before_it_and_every_new_name_after_it(stage: Stage):
    work, _, _ = stage
    for name in ("run", "resume", "roll back"):
        assert unsynced((work / f"{name}.log").read_text().splitlines()) == [], name


def test_what_is_not_synced_is_found():
    made, saved = (
        ["mkdir /r/weights", "write /r/metrics.jsonl"],
        ["rename /checkpoints/step-1.json", "sync /checkpoints"],
    )
    synced = ["sync /r", "sync /r/metrics.jsonl"]
    assert unsynced([*made, *synced, *saved]) == []
    assert unsynced([*made, *synced[:1], *saved]) == ["/r/metrics.jsonl is not synced when step-1.json is written"]
    assert unsynced([*made, *synced[1:], *saved]) == ["/r is not synced when step-1.json is written"]
    assert unsynced(["create /r/log.txt", "sync /c"]) == ["/r is not synced in the end"]
