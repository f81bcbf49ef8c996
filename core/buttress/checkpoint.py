"""Checkpoints of a run: safetensors and JSON, written atomically, verified when read, pruned when superseded.

``step-00000120.safetensors`` holds the tensors, ``step-00000120.json`` the rest and the sha256 of both. The JSON is
written last: a checkpoint exists when its JSON does.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError
from buttress.files import (
    join_tensors,
    make_folder,
    read_json,
    read_tensors,
    split_tensors,
    write_json,
    write_tensors,
)

FORMAT = 2
"""What this version writes; it reads the older ones that ``_UPGRADES`` knows.

1: as 2, before runs could be rolled back.
"""

_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: lambda state: {**state, "rollbacks": 0}}

# How the names of the model's tensors begin in a checkpoint's safetensors file: its place in the trainer's state.
MODEL_PREFIX = "state.model."


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint, then remove all but it and the ``keep - 1`` before it.

    Raises:
        StorageError: the disk is full or refuses; earlier checkpoints are intact.
    """
    make_folder(folder)
    stem = _stem(step)
    tree, tensors = split_tensors(dict(state))
    sha256 = write_tensors(folder / f"{stem}.safetensors", tensors)
    body = {"format": FORMAT, "step": step, "tensors_sha256": sha256, "state": tree}
    write_json(folder / f"{stem}.json", {**body, "sha256": _digest(body)})
    written = folder / f"{stem}.json"
    found = list_checkpoints(folder)
    at = found.index(written)  # those before it are newer: damaged, and passed over when this run was resumed
    for old in (*found[:at], *found[at + keep :]):
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return written


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints' JSON files, newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one checkpoint, verified.

    Raises:
        CheckpointError: missing, truncated, changed, or of another format.
    """
    body = read_json(path)
    if not isinstance(body, dict) or "sha256" not in body:
        raise CheckpointError(f"{path} is no checkpoint of buttress")
    written = body.get("format")
    if written != FORMAT and written not in list(_UPGRADES):  # a list: whatever stands there can be compared
        raise CheckpointError(
            f"{path} has checkpoint format {written}, this version reads {min(_UPGRADES)} to {FORMAT}; use the version "
            "of buttress named in the run's manifest.json"
        )
    if _digest({key: value for key, value in body.items() if key != "sha256"}) != body["sha256"]:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one")
    tensors = read_tensors(path.with_suffix(".safetensors"), body["tensors_sha256"])
    try:
        state = dict(join_tensors(body["state"], tensors))
    except (KeyError, TypeError, ValueError, RecursionError) as problem:
        raise CheckpointError(f"{path} is no checkpoint of buttress: {type(problem).__name__}: {problem}") from None
    return state if written == FORMAT else _UPGRADES[written](state)


def restore_newest(
    folder: Path, restore: Callable[[dict[str, Any]], None], warn: Callable[[str], None], at_most: int | None = None
) -> Path:
    """Give the newest good checkpoint's state to ``restore``; ``warn`` names every damaged one that is passed over.

    ``at_most``: only those of this global step or an earlier one.

    Raises:
        CheckpointError: there is none, or all are damaged.
    """
    found = [path for path in list_checkpoints(folder) if at_most is None or path.stem <= _stem(at_most)]
    for path in found:
        try:
            restore(load_checkpoint(path))
            return path
        except CheckpointError as problem:
            warn(f"{problem}; trying the one before it")
    what = f"all {len(found)} are damaged" if found else "there is none"
    raise CheckpointError(f"{folder}: no checkpoint can be loaded: {what}; start the run again under another name")


def _stem(step: int) -> str:
    return f"step-{step:08d}"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
