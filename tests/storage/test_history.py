"""Histories: what goes in comes out, on disk and in memory; damage is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import CheckpointError, ConfigError
from buttress.storage.history import DiskHistory, History, MemoryHistory, Store
from buttress.storage.seals import read_weights

from ..core.helpers import CPU, LINF

KINDS = pytest.mark.parametrize("kind", ["disk", "memory"])


def history(kind: str, folder: Path) -> History:
    return DiskHistory(folder) if kind == "disk" else MemoryHistory("plugin", None)


def snapshot(number: int) -> dict[str, Tensor]:
    return {"layer.weight": torch.arange(7.0) + 100 * number, "bias": torch.full((2,), number, dtype=torch.float64)}


def rows(found: History, name: str, start: int, stop: int) -> list[list[float]]:
    with found.reader() as reader:
        return [row.tolist() for row in reader.rows(name, start, stop)]


def filled(kind: str, folder: Path, n: int = 3) -> History:
    found = history(kind, folder)
    for number in range(n):
        found.append(snapshot(number))
    return found


@KINDS
@pytest.mark.parametrize("part", [(0, 7), (2, 5), (6, 7), (3, 3)])
def test_slices_of_every_snapshot_come_back_in_order(tmp_path: Path, kind: str, part: tuple[int, int]):
    found = filled(kind, tmp_path)
    assert len(found) == 3
    assert rows(found, "layer.weight", *part) == [snapshot(n)["layer.weight"][slice(*part)].tolist() for n in range(3)]
    assert rows(found, "bias", 0, 2) == [[0, 0], [1, 1], [2, 2]]


@KINDS
def test_a_snapshot_is_a_copy(tmp_path: Path, kind: str):
    found = history(kind, tmp_path)
    live = torch.zeros(3)
    found.append({"w": live})
    live.fill_(9)
    assert rows(found, "w", 0, 3) == [[0, 0, 0]]


@KINDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_snapshot_keeps_its_dtype(tmp_path: Path, kind: str, dtype: torch.dtype):
    found = history(kind, tmp_path)
    found.append({"w": torch.ones(3, dtype=dtype)})
    with found.reader() as reader:
        assert reader.rows("w", 0, 3)[0].dtype == dtype


def test_a_file_says_of_which_epoch_it_is(tmp_path: Path):
    found = DiskHistory(tmp_path)
    found.append(snapshot(0), epoch=7)
    found.append(snapshot(1))
    assert [read_weights(tmp_path / f"0000{n}.safetensors")[1] for n in (0, 1)] == [{"epoch": 7}, {}]


@KINDS
def test_the_state_continues_the_history(tmp_path: Path, kind: str):
    found = filled(kind, tmp_path)
    state = found.state_dict()
    if kind == "memory":
        state = {**state, "snapshots": list(state["snapshots"])}
    found.append(snapshot(9))  # after the checkpoint: to be forgotten
    again = history(kind, tmp_path)
    again.load_state_dict(state)
    assert len(again) == 3
    again.append(snapshot(3))
    assert rows(again, "bias", 0, 1) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(("kept", "asked"), [("disk", "memory"), ("memory", "disk")])
def test_a_state_of_the_other_kind_is_refused_with_the_cure(tmp_path: Path, kept: str, asked: str):
    state = filled(kept, tmp_path).state_dict()
    with pytest.raises(
        CheckpointError,
        match=f"keeps its history in {kept}, the config asks for {asked}; set history: {kept}",
    ):
        history(asked, tmp_path).load_state_dict(state)


# Disk


def test_a_snapshot_is_one_file_and_the_state_holds_names_and_sha256(tmp_path: Path):
    found = filled("disk", tmp_path / "meat")
    assert sorted(path.name for path in (tmp_path / "meat").iterdir()) == [f"0000{n}.safetensors" for n in range(3)]
    assert [file["name"] for file in found.state_dict()["files"]] == [f"0000{n}.safetensors" for n in range(3)]
    assert all(len(file["sha256"]) == 64 for file in found.state_dict()["files"])


@pytest.mark.parametrize(
    ("damage", "message"), [("flip", "is damaged"), ("cut", "is damaged"), ("remove", "is missing")]
)
def test_a_damaged_snapshot_is_named_when_the_state_is_loaded(tmp_path: Path, damage: str, message: str):
    state = filled("disk", tmp_path).state_dict()
    path = tmp_path / "00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    {
        "flip": lambda: path.write_bytes(content),
        "cut": lambda: path.write_bytes(content[:20]),
        "remove": path.unlink,
    }[damage]()
    with pytest.raises(CheckpointError, match=rf"{path} {message}: the checkpoint refers to it; restore it"):
        DiskHistory(tmp_path).load_state_dict(state)


@pytest.mark.parametrize(("damage", "message"), [("flip", "is damaged"), ("remove", "is missing")])
def test_a_snapshot_damaged_since_it_was_written_is_never_read(tmp_path: Path, damage: str, message: str):
    found = filled("disk", tmp_path)
    path = tmp_path / "00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content) if damage == "flip" else path.unlink()
    with pytest.raises(CheckpointError, match=f"{path} {message}"):
        found.reader()


def test_a_run_that_resumes_earlier_writes_the_later_snapshots_again(tmp_path: Path):
    found = filled("disk", tmp_path, 1)
    early = found.state_dict()
    found.append(snapshot(5))
    again = DiskHistory(tmp_path)
    again.load_state_dict(early)
    again.append(snapshot(6))
    assert rows(again, "bias", 0, 1) == [[0], [6]]
    fresh = DiskHistory(tmp_path)
    fresh.load_state_dict(again.state_dict())
    assert rows(fresh, "bias", 0, 1) == [[0], [6]]


# Memory


@pytest.mark.parametrize(("budget", "fits"), [(44 * 2, 2), (44 * 3 - 1, 2), (44 * 3, 3)])
def test_a_snapshot_over_the_budget_is_an_error_and_not_kept(budget: int, fits: int):
    found = MemoryHistory("meat", budget)  # a snapshot: 7 * 4 + 2 * 8 = 44 bytes
    for number in range(fits):
        found.append(snapshot(number))
    with pytest.raises(
        ConfigError, match=rf"meat: snapshot {fits + 1} of 44 bytes goes over the memory budget of {budget:,} bytes"
    ):
        found.append(snapshot(fits))
    assert len(found) == fits


def test_the_budget_counts_again_after_loading():
    found = MemoryHistory("meat", 44 * 2)
    found.append(snapshot(0))
    found.load_state_dict({"kind": "memory", "snapshots": [snapshot(0)]})
    found.append(snapshot(1))
    assert len(found) == 2


# Through the context


def test_a_plugin_gets_a_history_of_its_own(tmp_path: Path):
    state = RunState(LINF, CPU, store=Store(tmp_path))
    for label in ("meat", "meat#2"):
        Context(state, label).store.history("disk").append(snapshot(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meat", "meat-2"]


def test_a_history_on_disk_needs_a_folder():
    ctx: Any = Context(RunState(LINF, CPU), "meat")
    with pytest.raises(ConfigError, match=r"meat: .*pass Engine\(history=FOLDER\), or set .* to 'memory'"):
        ctx.store.history("disk")
