"""Shards of an evaluation, whose verdicts equal those of one process: whole, interrupted, continued by others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from buttress import Split, ThreatModel
from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.errors import CheckpointError, ModelError, RunFolderError
from buttress.scoring.attacks import load_attack
from buttress.scoring.cells import Cells, Shard
from buttress.scoring.keeper import Keeper
from buttress.scoring.worst_case import attack_all, remark_on_logits

from ..core.helpers import batch_of

THREAT = ThreatModel("linf", "1/20")
N, SIZE = 23, 5  # five batches, the last one of three
ATTACKS: list[tuple[str, Any]] = [
    ("fgsm", {"fgsm": {"start": "uniform"}}),
    ("pgd", {"pgd": {"steps": 2, "restarts": 2}}),
    ("apgd", {"apgd": {"steps": 3}}),
    ("spsa", {"spsa": {"steps": 2, "samples": 4}}),
]


def loaded() -> list[tuple[str, LoadedPlugin]]:
    return [(name, load_attack(entry)) for name, entry in ATTACKS]


def split() -> Split:
    batch = batch_of(N)
    with torch.no_grad():
        return Split(batch.x, Net().eval()(batch.x).argmax(1))  # so that attacks have somebody to attack


def keeper(folder: Path, shard: Shard) -> Keeper:
    return Keeper(folder, "work", Cells.empty(1 + len(ATTACKS), N, SIZE), shard)


class Net(nn.Module):
    """``[B,1,4,4]`` to 3 logits: smooth, and as robust as its random weights make it."""

    def __init__(self) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 12, bias=False), nn.Tanh(), nn.Linear(12, 3, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x - 0.5)
        return logits


class Counting(Net):
    """Counts its forwards, and is interrupted in one of them."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        super().__init__()
        self.calls, self._last = 0, interrupted_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self._last:
            raise KeyboardInterrupt
        return super().forward(x)


def attack(
    folder: Path | None = None,
    shard: Shard | None = None,
    model: nn.Module | None = None,
    each: bool = False,
    seed: int = 5,
) -> np.ndarray:
    own = None if folder is None else keeper(folder, shard or Shard())
    options: dict[str, Any] = {"seed": seed, "batch_size": SIZE, "each": each, "keeper": own}
    return attack_all(model or Net(), loaded(), THREAT, split(), torch.arange(N - 1, -1, -1), **options).table


def shards(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]


def test_the_example_is_worth_testing():
    """Attacks break some examples and leave some, and verdicts depend on the draws."""
    table = attack()
    assert (table == 0).any(1).tolist() == [False, True, True, True, False]
    assert 0 < (table[-1] == 1).sum() < N
    assert not np.array_equal(attack(seed=4), table)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_shards_merge_into_the_verdicts_of_one_process_and_share_the_work(count: int, each: bool, tmp_path: Path):
    whole = Counting()
    expected = attack(model=whole, each=each)
    calls = 0
    for shard in reversed(shards(count)):
        model = Counting()
        attack(tmp_path, shard, model, each)
        calls += model.calls
        assert (model.calls > 0) == (shard.index < 5)
    assert calls == whole.calls
    assert len(list(tmp_path.glob("*.npz"))) == min(count, 5)
    merged = keeper(tmp_path, Shard()).begin()
    assert np.array_equal(merged.table, expected)
    assert not merged.missing
    assert (merged.seconds > 0).all()


@pytest.mark.parametrize("later", [1, 2, 3])
def test_another_number_of_shards_goes_on_after_interrupted_ones(later: int, tmp_path: Path):
    whole = Counting()
    expected = attack(model=whole)
    calls = 0
    for shard, last in zip(shards(2), (9, 14), strict=True):
        model = Counting(last)
        with pytest.raises(KeyboardInterrupt):
            attack(tmp_path, shard, model)
        calls += model.calls
    begun = keeper(tmp_path, Shard()).begin()
    assert 0 < begun.done.sum() < begun.done.size
    for shard in shards(later):
        model = Counting()
        table = attack(tmp_path, shard, model)
        calls += model.calls
    assert np.array_equal(table, expected)
    assert calls - whole.calls <= 2 * 5  # the two batches that were interrupted are all that is done twice


def test_a_process_says_what_others_have_done_already(tmp_path: Path):
    lines: list[str] = []

    class Saying(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

    with pytest.raises(KeyboardInterrupt):
        attack(tmp_path, Shard(0, 2), Counting(5))
    attack(tmp_path, Shard(1, 4))
    own = keeper(tmp_path, Shard(2, 4))
    attack_all(Net(), loaded(), THREAT, split(), torch.arange(N), batch_size=SIZE, keeper=own, reporter=Saying())
    assert lines == ["note: of 5 batches 1 are done already, 3 in part and 1 not at all: 17 of 25 rounds are missing"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "no zip"])
def test_a_damaged_file_of_a_shard_is_named_and_only_its_own_work_is_lost(damage: str, tmp_path: Path):
    expected = attack()
    for shard in shards(2):
        attack(tmp_path, shard)
    path = tmp_path / "unfinished-work-2of2.npz"
    content = path.read_bytes()
    if damage == "other":
        Keeper(tmp_path / "b", "work", Cells.empty(2, N, SIZE), Shard(1, 2)).folder.mkdir()
        other = Keeper(tmp_path / "b", "work", Cells.empty(2, N, SIZE), Shard(1, 2))
        other.keep(0, 1, torch.arange(5, 10), torch.ones(5, dtype=torch.bool), 0.1)
        content = (tmp_path / "b" / path.name).read_bytes()
    middle = content.index(b"table.npy") + 300
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"cut": content[:900], "flipped": flipped, "other": content, "no zip": b"verdicts"}[damage])
    for shard in (Shard(0, 2), Shard(1, 2), Shard(2, 3), Shard()):
        with pytest.raises(CheckpointError, match=r"unfinished-work-2of2\.npz is damaged .*; delete it, and give"):
            attack(tmp_path, shard)
    path.unlink()
    model = Counting()
    assert np.array_equal(attack(tmp_path, model=model), expected)
    assert 0 < model.calls < 200


def test_a_shard_is_one_process_s_at_a_time(tmp_path: Path):
    with keeper(tmp_path, Shard(1, 3)).held():
        with keeper(tmp_path, Shard(2, 3)).held():
            pass
        message = r"at work on shard 2/3 of this evaluation; wait for it, or stop it"
        with pytest.raises(RunFolderError, match=message), keeper(tmp_path, Shard(1, 3)).held():
            pass
    with keeper(tmp_path, Shard(1, 3)).held():
        pass
    assert not list(tmp_path.iterdir())


class SomeNan(nn.Module):
    """Gives NaN for the examples of the first batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.net = Net()
        first = split().x[(N - 1) - torch.arange(min(batches * SIZE, N))]
        self.register_buffer("first", first.flatten(1)[:, :3])

    def forward(self, x: Tensor) -> Tensor:
        bad = (x.flatten(1)[:, None, :3] == self.first).all(2).any(1)
        return torch.where(bad[:, None], torch.nan, self.net(x))


def test_logits_that_are_not_finite_are_judged_over_all_shards(tmp_path: Path):
    expected = attack(model=SomeNan(1))
    for shard in shards(5):
        attack(tmp_path, shard, SomeNan(1))  # the first has no finite example, and is no error
    merged = keeper(tmp_path, Shard()).begin()
    assert np.array_equal(merged.table, expected)
    assert remark_on_logits(Net(), merged) == "logits are not finite for 5 of 23 examples, which count as wrong"
    (tmp_path / "none").mkdir()
    attack(tmp_path / "none", Shard(0, 2), SomeNan(5))
    for _ in range(2):
        with pytest.raises(ModelError, match="not finite for any example"):
            attack(tmp_path / "none", Shard(1, 2), SomeNan(5))
