"""A rank that errs, differs or dies: one message that names it, no hang, and a run that goes on to the same end."""

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.storage.run_folder import RunFolder
from buttress.training.checkpoint import list_checkpoints

from ..torture.small import small_config
from .forked import Ended, ForkedRanks

PLUGINS = """
import torch
from buttress import Loss, hookimpl

class Differs:
    name = "differs"

    @hookimpl
    def compute_loss(self, model, batch, adv, ctx):
        if ctx.rank == 1 and ctx.global_step == 5:
            ctx.sum(torch.ones(1000))
        return Loss(torch.nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none"))

class Raises:
    name = "raises"

    def __init__(self, *, rank: int):
        self.rank = rank

    @hookimpl
    def transform_batch(self, batch, ctx):
        if ctx.rank == self.rank and ctx.global_step == 5:
            raise ValueError("no such thing")
        return batch

class Keeps:
    name = "keeps"

    def __init__(self):
        self.rows = 0

    @hookimpl
    def compute_loss(self, model, batch, adv, ctx):
        self.rows += len(batch.x) + ctx.rank
        return Loss(torch.nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none"))

    def state_dict(self):
        return {"rows": self.rows}

    def load_state_dict(self, state):
        self.rows = state["rows"]
"""


def config(work: Path, *plugins: Any, **keys: Any) -> Path:
    keys = {"precision": "float64", "evaluation": {"every": 2, "attack": {"fgsm": {}}}, **keys}
    file = small_config(work, ["fgsm", {"ema": {"tau": 0.5}}, *plugins], **keys)
    tree = file.config.model_dump(mode="json", exclude_defaults=True)
    (work / "own.py").write_text(PLUGINS)
    path = work / "small.yaml"
    path.write_text(yaml.safe_dump({**tree, **({"plugins_file": "own.py"} if plugins else {})}))
    return path


def trained(path: Path, size: int, run: str, *options: str) -> ForkedRanks:
    words = ["train", str(path), "--runs", str(path.parent / "runs"), "--run", run, *options]
    return ForkedRanks(words, size, path.parent / f"said-{run}")


def resumed(folder: RunFolder, size: int) -> Ended:
    return ForkedRanks(["resume", str(folder.path)], size, folder.path.parent / f"again-{folder.path.name}").end()


def folder_of(path: Path, run: str) -> RunFolder:
    return RunFolder(path.parent / "runs" / "small" / run)


def only_error(ended: Ended) -> str:
    assert ended.codes == [1] * len(ended.codes), ended.texts
    (error,) = ended.errors
    return error


@pytest.mark.parametrize("size", [2, 3])
def test_a_sum_that_one_rank_alone_makes_is_named(size: int, tmp_path: Path):
    error = only_error(trained(config(tmp_path, "differs"), size, "a").end())
    assert "the ranks no longer make the same collectives" in error
    assert "rank 1: plugin 'differs' (own.py" in error
    assert "hook compute_loss, epoch 2, step 2 sum 'ctx.sum' (1000,)" in error


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_rank_ends_all_and_is_said_once(rank: int, tmp_path: Path):
    error = only_error(trained(config(tmp_path, {"raises": {"rank": rank}}), 3, "a").end())
    assert error.startswith(f"error: rank {rank}: plugin 'raises'")
    assert "no such thing" in error


def test_a_state_that_differs_between_ranks_is_named_when_it_is_saved(tmp_path: Path):
    error = only_error(trained(config(tmp_path, "keeps"), 2, "a").end())
    assert "plugin 'keeps': its state on rank 1 is not that on rank 0" in error
    assert "ctx.sum" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_rank_stops_all_at_one_step(number: int, tmp_path: Path):
    path = config(tmp_path)
    stopped, folder = trained(path, 2, "stopped"), folder_of(path, "stopped")
    assert stopped.until(lambda: len(list_checkpoints(folder.checkpoints)) > 1)
    stopped.kill(1, number)
    error = only_error(stopped.end())
    assert f"stopped by {signal.Signals(number).name}" in error
    assert "everything is saved" in error
    again = resumed(folder, 2)
    assert again.codes == [0, 0], again.texts
