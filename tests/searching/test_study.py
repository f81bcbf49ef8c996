"""Trials through Optuna and its journal, on an objective that takes no time."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from buttress.errors import CheckpointError, ConfigError
from buttress.searching.space import read_space
from buttress.searching.study import STARTUP, OptunaStudy, SearchTrial

SPACE = read_space(["a=log(1e-3,1e-1)", "b=1:9", "c=x,y"])
WHOLE = SPACE.with_whole_numbers(lambda key, value: False)


def accuracy(trial: SearchTrial, epoch: int) -> float:
    a, b = float(trial.settings["a"]), int(trial.settings["b"])
    return epoch / 3 * (0.9 - abs(math.log10(a) + 2) / 2 + b / 100 - 0.1 * (trial.settings["c"] == "x"))


def carry_out(study: OptunaStudy, trial: SearchTrial, epochs: int = 3) -> None:
    for epoch in range(1, epochs + 1):
        if study.report(trial.number, epoch, accuracy(trial, epoch)):
            study.prune(trial.number)
            return
    if epochs == 3:
        study.finish(trial.number, {0: accuracy(trial, 3), 1: accuracy(trial, 3)})


def searched(path: Path, trials: int, seed: int = 0) -> Sequence[SearchTrial]:
    study = OptunaStudy(path, WHOLE, seed)
    for trial in study.unfinished():
        carry_out(study, trial)
    while len(study.trials()) < trials:
        carry_out(study, study.ask())
    return study.trials()


def test_a_search_is_better_than_its_first_trials_and_prunes_bad_ones(tmp_path: Path):
    trials = searched(tmp_path / "journal", 25)
    done = [trial for trial in trials if trial.state == "done"]
    assert max(trial.value for trial in done) > max(trial.value for trial in done[:STARTUP])
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.number >= STARTUP and len(trial.curve) <= 3 for trial in pruned)
    assert all(1 <= int(trial.settings["b"]) <= 9 and 1e-3 <= float(trial.settings["a"]) <= 1e-1 for trial in trials)
    assert searched(tmp_path / "other", 6, seed=1)[0].settings != trials[0].settings


@pytest.mark.parametrize("stop", [2, 13])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: int):
    whole = searched(tmp_path / "whole", 16)
    searched(tmp_path / "cut", stop)
    study = OptunaStudy(tmp_path / "cut", WHOLE, 0)
    carry_out(study, study.ask(), epochs=1)  # killed in the middle of a trial, and of a line
    with (tmp_path / "cut").open("ab") as journal:
        journal.write(b'{"op_code":4,"work')
    assert searched(tmp_path / "cut", 16) == whole


def test_trials_at_work_together_are_different(tmp_path: Path):
    study = OptunaStudy(tmp_path / "journal", WHOLE, 0)
    settings = [tuple(study.ask().settings.values()) for _ in range(4)]
    assert len(set(settings)) == 4
    assert [each.settings for each in OptunaStudy(tmp_path / "journal", WHOLE, 0).unfinished()] == [
        each.settings for each in study.trials()
    ]


def test_trials_that_end_otherwise_say_why(tmp_path: Path):
    study = OptunaStudy(tmp_path / "journal", WHOLE, 0, "none")
    for _ in range(3):
        study.ask()
    study.break_off(0, "the loss is nan")
    study.fail(1, "the disk is full")
    study.finish(2, {4: 0.25, 7: 0.75})
    first, second, third = OptunaStudy(tmp_path / "journal", WHOLE, 0, "none").trials()
    assert (first.state, first.reason) == ("broken", "the loss is nan")
    assert (second.state, second.reason) == ("failed", "the disk is full")
    assert (third.state, third.values, third.value) == ("done", {4: 0.25, 7: 0.75}, 0.5)


def test_without_a_pruner_nothing_is_pruned(tmp_path: Path):
    study = OptunaStudy(tmp_path / "journal", WHOLE, 0, "none")
    for value in [0.9] * 8 + [0.0]:
        trial = study.ask()
        assert not study.report(trial.number, 1, value)
        study.finish(trial.number, {0: value})


def test_a_damaged_journal_is_named(tmp_path: Path):
    searched(tmp_path / "journal", 2)
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal").write_bytes(b"".join([*lines[:2], b"nonsense\n", *lines[3:]]))
    with pytest.raises(CheckpointError, match=r"journal is damaged: .*; put back a copy, or search under"):
        OptunaStudy(tmp_path / "journal", WHOLE, 0)


def test_optuna_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"optuna is not installed .*; pip install 'buttress\[search\]'"):
        OptunaStudy(tmp_path / "journal", WHOLE, 0)
    assert not (tmp_path / "journal").exists()
