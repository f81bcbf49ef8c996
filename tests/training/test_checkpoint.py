"""Checkpoints: what is saved is what is loaded, and damage costs one checkpoint, never the run."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from buttress.errors import CheckpointError, StorageError, UnreadableError
from buttress.storage.seals import write_sealed
from buttress.training.checkpoint import (
    list_checkpoints,
    remove_unfinished,
    restore_newest,
    save_checkpoint,
    weights_copy,
)
from buttress.training.checkpoint_file import load_checkpoint

from ..core.helpers import assert_same, clean_attack, engine_of, snapshot, step
from ..models import MLP


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": {"w": torch.full((50,), float(number))}, "by_int": {0: {"m": torch.ones(2)}}}


def saved(folder: Path, steps: range, keep: int = 9) -> list[Path]:
    return [save_checkpoint(folder, step, state(step), keep) for step in steps]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


def test_a_state_with_integer_keys_comes_back(tmp_path: Path):
    (path,) = saved(tmp_path, range(1))
    found = load_checkpoint(path)
    assert found["number"] == 0
    assert torch.equal(found["weights"]["w"], torch.zeros(50))
    assert list(found["by_int"]) == [0]


def test_training_continues_from_a_checkpoint_bit_for_bit(tmp_path: Path):
    def engine(model: MLP) -> Any:
        return engine_of(model, clean_attack(), {"ema": {"tau": 0.5}}, weight_decay=0.01)

    whole, first, second = MLP(), MLP(), MLP(seed=3)
    one, two, three = engine(whole), engine(first), engine(second)
    for seed in range(3):
        step(one, seed)
        step(two, seed)
    save = {"model": first.state_dict(), "optimizer": two.optimizer.state_dict(), "engine": two.state_dict()}
    path = save_checkpoint(tmp_path, 3, save, 1)
    found = load_checkpoint(path)
    second.load_state_dict(found["model"])
    three.load_state_dict(found["engine"])
    three.optimizer.load_state_dict(found["optimizer"])
    step(one, 3)
    step(three, 3)
    assert_same(snapshot(whole), snapshot(second))
    (a,), (b,) = one.tracks(), three.tracks()
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "removed"])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, how: str, suffix: str):
    paths = saved(tmp_path, range(3))
    broken = paths[2].with_suffix(suffix)
    damage(broken, how)
    restored: list[int] = []
    said: list[str] = []
    used = restore_newest(tmp_path, lambda found: restored.append(found["number"]), said.append)
    assert used == paths[1]
    assert restored == [1]
    if (how, suffix) == ("removed", ".json"):  # then there is no such checkpoint
        assert said == []
    else:
        assert len(said) == 1
        assert str(broken) in said[0]
        assert "trying the one before it" in said[0]


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE], ids=errno.errorcode.get)
def test_a_checkpoint_that_the_system_does_not_hand_out_is_not_passed_over(
    tmp_path: Path, reason: int, suffix: str, monkeypatch: pytest.MonkeyPatch
):
    paths = saved(tmp_path, range(3))
    withheld, opened = paths[2].with_suffix(suffix), os.open

    def refuse(path: Any, *rest: Any, **options: Any) -> int:
        if Path(path) == withheld:
            raise OSError(reason, os.strerror(reason), str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match=rf"{withheld} cannot be read: .*nothing was removed"):
        restore_newest(tmp_path, lambda _: None, lambda _: None)
    monkeypatch.undo()
    assert restore_newest(tmp_path, lambda _: None, lambda _: None) == paths[2]


def test_a_whole_checkpoint_of_a_later_version_is_not_passed_over(tmp_path: Path):
    paths = saved(tmp_path, range(2))
    body = json.loads(paths[1].read_text())
    write_sealed(paths[1], {**{key: value for key, value in body.items() if key != "sha256"}, "format": 5})
    with pytest.raises(UnreadableError, match="has checkpoint format 5, this version reads 1 to 4"):
        restore_newest(tmp_path, lambda _: None, lambda _: None)


def test_any_flipped_byte_of_the_json_is_found(tmp_path: Path):
    (path,) = saved(tmp_path, range(1))
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        if chr(content[position]).isspace():
            continue
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(CheckpointError, match=str(path.with_suffix(""))):
            load_checkpoint(path)


def test_a_state_that_restore_refuses_counts_as_damaged(tmp_path: Path):
    saved(tmp_path, range(2))
    taken: list[int] = []

    def restore(found: dict[str, Any]) -> None:
        if found["number"] == 1:
            raise CheckpointError("history/meat/00001.safetensors is missing")
        taken.append(found["number"])

    said: list[str] = []
    restore_newest(tmp_path, restore, said.append)
    assert taken == [0]
    assert said == [
        f"{tmp_path}/step-00000001.json: history/meat/00001.safetensors is missing; trying the one before it"
    ]


def test_when_all_are_damaged_it_says_so(tmp_path: Path):
    for path in saved(tmp_path, range(2)):
        damage(path, "truncated")
    with pytest.raises(
        CheckpointError,
        match=rf"{tmp_path}: no checkpoint can be loaded: none of 2 is whole, the newest because .*step-",
    ):
        restore_newest(tmp_path, lambda _: None, lambda _: None)


def test_when_there_is_none_it_says_so(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no checkpoint can be loaded: there is none"):
        restore_newest(tmp_path, lambda _: None, lambda _: None)


def test_the_newest_are_kept_and_both_files_of_the_others_removed(tmp_path: Path):
    saved(tmp_path, range(8, 13), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{number:08d}.{suffix}" for number in (11, 12) for suffix in ("json", "safetensors")
    ]


def test_checkpoints_are_listed_newest_first_by_step_and_not_by_time(tmp_path: Path):
    for number in (9, 20, 100):
        save_checkpoint(tmp_path, number, state(number), 9)
    os.utime(tmp_path / "step-00000009.json")
    assert [path.stem for path in list_checkpoints(tmp_path)] == ["step-00000100", "step-00000020", "step-00000009"]


def test_a_full_disk_leaves_earlier_checkpoints_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = saved(tmp_path, range(2))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            save_checkpoint(tmp_path, 2, state(2), keep=1)
    assert list_checkpoints(tmp_path) == list(reversed(paths))
    assert load_checkpoint(paths[1])["number"] == 1


def test_a_checkpoint_without_its_json_does_not_exist_yet(tmp_path: Path):
    paths = saved(tmp_path, range(2))
    paths[1].unlink()
    assert list_checkpoints(tmp_path) == paths[:1]


def test_another_format_is_refused_with_the_cure(tmp_path: Path):
    (path,) = saved(tmp_path, range(1))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 5}))
    with pytest.raises(
        CheckpointError, match=r"has checkpoint format 5, this version reads 1 to 4; use the version of"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("content", ["[]", "{}", "3"])
def test_other_json_is_no_checkpoint(tmp_path: Path, content: str):
    path = tmp_path / "step-00000001.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="is no checkpoint of buttress"):
        load_checkpoint(path)


def test_pruning_never_removes_the_checkpoint_just_written(tmp_path: Path):
    for number in (100, 125):
        save_checkpoint(tmp_path, number, {"at": number}, keep=2)
    (tmp_path / "step-00000125.json").write_text("damaged")
    written = save_checkpoint(tmp_path, 110, {"at": 110}, keep=1)  # resumed from 100, stopped at 110
    assert written in list_checkpoints(tmp_path)


def test_a_key_that_cannot_come_back_is_refused_when_saving(tmp_path: Path):
    state = {"counts": {(1, 2): torch.ones(1)}}
    with pytest.raises(TypeError, match=r"state\.counts"):
        save_checkpoint(tmp_path, 1, state, keep=1)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path: Path, suffix: str):
    paths = saved(tmp_path, range(3), keep=2)
    damage(paths[2].with_suffix(suffix), "flipped")
    written = save_checkpoint(tmp_path, 3, state(3), keep=2)
    assert list_checkpoints(tmp_path) == [written, paths[2], paths[1]]
    after = save_checkpoint(tmp_path, 4, state(4), keep=2)
    assert list_checkpoints(tmp_path) == [after, written]


def test_a_checkpoint_keeps_the_weights_of_its_own_time_until_it_is_removed(tmp_path: Path):
    best = tmp_path / "best-live.safetensors"
    folder = tmp_path / "checkpoints"
    paths = []
    for number in range(3):
        best.unlink(missing_ok=True)
        best.write_text(f"of {number}")
        paths.append(save_checkpoint(folder, number, state(number), keep=2, weights=[best]))
    assert [weights_copy(path, best.name).read_text() for path in paths[1:]] == ["of 1", "of 2"]
    assert not paths[0].with_suffix(".weights").exists()


def test_parts_without_their_json_are_removed_and_whole_checkpoints_are_not(tmp_path: Path):
    best = tmp_path / "best-live.safetensors"
    best.write_text("best")
    folder = tmp_path / "checkpoints"
    paths = [save_checkpoint(folder, number, state(number), 9, [best]) for number in range(2)]
    paths[1].unlink()
    (folder / "notes.txt").write_text("mine")
    assert remove_unfinished(folder) == sorted(paths[1].with_suffix(s) for s in (".safetensors", ".weights"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "notes.txt", "step-00000000.json", "step-00000000.safetensors", "step-00000000.weights",
    ]  # fmt: skip
    assert remove_unfinished(tmp_path / "none") == []


def test_every_byte_of_a_checkpoint_s_json_counts(tmp_path: Path):
    (path,) = saved(tmp_path, range(1))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)
