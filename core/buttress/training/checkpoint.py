"""Write checkpoints of a run atomically as safetensors and JSON, verify them when read, prune superseded ones.

``step-00000120.safetensors`` holds the tensors, ``step-00000120.json`` the rest and the sha256 of both. The JSON is
written last: a checkpoint exists when its JSON does. ``step-00000120.weights/`` holds further names (hard links) of the
weights files that belong to it, which a later epoch may replace before the next checkpoint is written.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, UnreadableError, kind_and_text
from buttress.storage.files import (
    file_sha256,
    link_file,
    make_folder,
    read_json,
    read_tensors,
    storage_errors,
    write_tensors,
)
from buttress.storage.names import expect_inside
from buttress.storage.seals import expect_seal, expect_whole, write_sealed
from buttress.storage.tensor_tree import join_tensors, split_tensors
from buttress.training.ownership import ForeignCheckpointError, Owner

FORMAT = 4
"""Format of the checkpoints of this version, which reads the older ones in ``_UPGRADES`` too.

1: as 2, before runs could be rolled back, and before it recorded the weights files and the metrics' sha256.
2: as 3, but the records of evaluations counted epochs from 0.
3: as 4, but the keys of dicts were sorted, tuples were lists, and it did not name its run.
"""


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "rollbacks": 0, "weights": {}, "metrics_sha256": ""}


def _from_2(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "records": [{**record, "epoch": record["epoch"] + 1} for record in state["records"]]}


def _from_3(state: dict[str, Any]) -> dict[str, Any]:
    return state


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2, 3: _from_3}
"""Format to the function that brings a state of it to the next one."""

# How the names of the model's tensors begin in a checkpoint's safetensors file: its place in the trainer's state.
MODEL_PREFIX = "state.model."

_NAME = re.compile(r"(step-\d+)\.(json|safetensors|weights)")


def save_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    keep: int,
    weights: Sequence[Path] = (),
    owner: Owner | None = None,
) -> Path:
    """Write a checkpoint, then remove all but it and the ``keep - 1`` good ones before it.

    A damaged one does not count as kept, so that ``keep`` of them can be loaded.

    Args:
        folder: folder of the checkpoints.
        step: global step of the run, which names the checkpoint.
        state: state of tensors and plain values.
        keep: number of good checkpoints that stay.
        weights: files that belong to this state, see ``weights_copy``.
        owner: owner of the checkpoint; None for one that any run may load.

    Raises:
        StorageError: the disk is full or refuses; earlier checkpoints are intact.
    """
    make_folder(folder)
    written = folder / f"{_stem(step)}.json"
    tree, tensors = split_tensors(dict(state))
    for path in weights:
        copy = expect_inside(weights_copy(written, path.name), folder)
        make_folder(copy.parent)
        link_file(path, copy)
    sha256 = write_tensors(written.with_suffix(".safetensors"), tensors)
    owned = owner.to_json() if owner else {}
    write_sealed(written, {"format": FORMAT, "step": step, **owned, "tensors_sha256": sha256, "state": tree})
    with storage_errors(folder):
        _prune(folder, written, keep)
    return written


def _prune(folder: Path, written: Path, keep: int) -> None:
    paths = list_checkpoints(folder)
    position = paths.index(written)  # those before it are newer: damaged, and passed over when this run was resumed
    for newer in paths[:position]:
        _remove(newer)
    good = 1
    for older in paths[position + 1 :]:
        if good == keep:
            _remove(older)
        elif _is_good(older):
            good += 1


def remove_newer(checkpoint: Path) -> None:
    """Remove all that are newer than ``checkpoint``, to which the run has gone back: it comes to them again.

    Raises:
        StorageError: the disk refuses.
    """
    paths = list_checkpoints(checkpoint.parent)
    with storage_errors(checkpoint.parent):
        for newer in paths[: paths.index(checkpoint)]:
            _remove(newer)


def weights_copy(checkpoint: Path, name: str) -> Path:
    """The copy of the weights file ``name`` that a checkpoint keeps, as it was when the checkpoint was written."""
    return checkpoint.with_suffix(".weights") / name


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints' JSON files, newest first.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    return sorted((path for path in _parts(folder) if path.suffix == ".json"), reverse=True)


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove files of checkpoints whose writing or removal was cut short; returns their paths."""
    parts = _parts(folder)
    lost = sorted(path for path in parts if path.with_suffix(".json") not in parts)
    with storage_errors(folder):
        for path in lost:
            _remove_part(path)
    return lost


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one checkpoint, verified, whoever owns it.

    Raises:
        CheckpointError: missing, truncated, changed, or of another format.
    """
    return _state(path, _read_body(path))


def _state(path: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    tensors = read_tensors(path.with_suffix(".safetensors"), body["tensors_sha256"])
    try:
        state = dict(join_tensors(body["state"], tensors))
        for older in range(body["format"], FORMAT):
            state = _UPGRADES[older](state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as problem:
        raise CheckpointError(f"{path} is no checkpoint of buttress: {kind_and_text(problem)}") from None
    return state


def metrics_of(path: Path) -> tuple[int, str] | None:
    """Bytes and sha256 of the run's metrics at the time of one checkpoint; None where its format did not know them.

    Raises:
        CheckpointError: missing, changed, or of another format.
    """
    state = _read_body(path).get("state")
    if not isinstance(state, dict):
        return None
    size, sha256 = state.get("metrics_bytes"), state.get("metrics_sha256")
    return (size, sha256) if isinstance(size, int) and size >= 0 and isinstance(sha256, str) and sha256 else None


def expect_undamaged(path: Path) -> str:
    """The sha256 of a safetensors file, which is the one that its checkpoint or its own seal knows, where it has any.

    Raises:
        CheckpointError: missing, truncated, or changed since it was written.
    """
    try:
        sha256 = file_sha256(path)
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}") from None
    body = path.with_suffix(".json")
    if not (_NAME.fullmatch(path.name) and body.is_file()):
        expect_whole(path)
    elif sha256 != _read_body(body)["tensors_sha256"]:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one")
    return sha256


def restore_newest(
    folder: Path,
    restore: Callable[[dict[str, Any]], None],
    warn: Callable[[str], None],
    at_most: int | None = None,
    accept: Callable[[Path, Mapping[str, Any]], None] = lambda path, body: None,
) -> Path:
    """Restore the newest good checkpoint, and warn of every damaged one that is passed over.

    Args:
        folder: folder of the checkpoints.
        restore: function that takes the state, or raises CheckpointError where the run cannot take it.
        warn: function that tells the user.
        at_most: largest global step of the checkpoints to consider, or None.
        accept: function that receives path and JSON of each first, or raises ForeignCheckpointError for another run.

    Raises:
        CheckpointError: there is none, or all are damaged.
        ForeignCheckpointError: one belongs to another run.
        UnreadableError: one may be whole, and cannot be read: passed over, it would be removed as superseded.
    """
    paths = [path for path in list_checkpoints(folder) if at_most is None or path.stem <= _stem(at_most)]
    newest = None
    for path in paths:
        try:
            body = _read_body(path)
            accept(path, body)
            _restore_from(path, _state(path, body), restore)
            return path
        except ForeignCheckpointError:
            raise
        except UnreadableError as problem:
            raise UnreadableError(
                f"{problem}; nothing was removed: let it be read, and resume again; or, to go on from the checkpoint "
                f"before it, move the files {path.stem}.* away"
            ) from None
        except CheckpointError as problem:
            newest = newest or problem
            warn(f"{problem}; trying the one before it")
    reason = f"none of {len(paths)} is whole, the newest because {newest}" if paths else "there is none"
    raise CheckpointError(f"{folder}: no checkpoint can be loaded: {reason}; start the run again under another name")


def _restore_from(path: Path, state: dict[str, Any], restore: Callable[[dict[str, Any]], None]) -> None:
    """Have ``state`` restored; an error names the checkpoint that it is from."""
    try:
        restore(state)
    except ForeignCheckpointError:
        raise
    except CheckpointError as problem:
        raise CheckpointError(f"{path}: {problem}") from problem


def _stem(step: int) -> str:
    return f"step-{step:08d}"


def _read_body(path: Path) -> dict[str, Any]:
    body = read_json(path)
    if not isinstance(body, dict) or "sha256" not in body:
        raise CheckpointError(f"{path} is no checkpoint of buttress")
    _expect_format(path, body)
    expect_seal(path, body)
    step = body.get("step")
    if type(step) is not int or _stem(step) != path.stem:
        raise ForeignCheckpointError(f"{path} holds step {step!r}, and is called otherwise; give it its own name back")
    if not isinstance(body.get("tensors_sha256"), str):
        raise CheckpointError(f"{path} is no checkpoint of buttress: it does not say which tensors are its own")
    return body


def _expect_format(path: Path, body: Mapping[str, Any]) -> None:
    written = body.get("format")
    if written == FORMAT or written in list(_UPGRADES):  # a list: whatever stands there can be compared
        return
    message = (
        f"{path} has checkpoint format {written}, this version reads {min(_UPGRADES)} to {FORMAT}; use the version of "
        "buttress named in the run's manifest.json"
    )
    try:
        expect_seal(path, body)
    except CheckpointError:
        raise CheckpointError(message) from None
    raise UnreadableError(message)


def _is_good(path: Path) -> bool:
    try:
        return bool(file_sha256(path.with_suffix(".safetensors")) == _read_body(path)["tensors_sha256"])
    except (CheckpointError, OSError):
        return False


def _remove(path: Path) -> None:
    """The JSON first: from then on the checkpoint does not exist."""
    for part in (path, path.with_suffix(".safetensors"), path.with_suffix(".weights")):
        _remove_part(part)


def _remove_part(path: Path) -> None:
    if path.suffix == ".weights":
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _parts(folder: Path) -> set[Path]:
    try:
        return {path for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    except FileNotFoundError:
        return set()
    except OSError as problem:
        raise CheckpointError(f"{folder} cannot be read: {problem.strerror}; check its permissions") from None
