"""Write checkpoints of a run atomically as safetensors and JSON, restore the newest good one, prune superseded ones.

``step-00000120.safetensors`` holds the tensors, ``step-00000120.json`` the rest and the sha256 of both. The JSON is
written last: a checkpoint exists when its JSON does. ``step-00000120.weights/`` holds further names (hard links) of the
weights files that belong to it, which a later epoch may replace before the next checkpoint is written.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, UnreadableError, extended
from buttress.storage.files import link_file, make_folder, storage_errors, write_tensors
from buttress.storage.names import expect_inside
from buttress.storage.reading import file_sha256
from buttress.storage.seals import write_sealed
from buttress.storage.tensor_tree import split_tensors
from buttress.training.checkpoint_file import FORMAT, NAME, read_body, state_of, stem_of
from buttress.training.ownership import ForeignCheckpointError, Owner


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
    written = folder / f"{stem_of(step)}.json"
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
    paths = [path for path in list_checkpoints(folder) if at_most is None or path.stem <= stem_of(at_most)]
    newest = None
    for path in paths:
        try:
            body = read_body(path)
            accept(path, body)
            _restore_from(path, state_of(path, body), restore)
            return path
        except ForeignCheckpointError:
            raise
        except UnreadableError as problem:
            raise extended(
                problem,
                "; nothing was removed: let it be read, and resume again; or, to go on from the checkpoint before it, "
                f"move the files {path.stem}.* away",
            ) from None
        except CheckpointError as problem:
            newest = newest or problem
            warn(f"{problem}; trying the one before it")
    reason = f"none of {len(paths)} is whole, the newest because {newest}" if paths else "there is none"
    raise CheckpointError(
        f"{folder}: no checkpoint can be loaded: {reason}; start the run again under another name", path=folder
    )


def restore_checkpoint(
    path: Path, restore: Callable[[dict[str, Any]], None], accept: Callable[[Path, Mapping[str, Any]], None]
) -> None:
    """Restore the checkpoint that another process has chosen; arguments and errors as in ``restore_newest``."""
    body = read_body(path)
    accept(path, body)
    _restore_from(path, state_of(path, body), restore)


def _restore_from(path: Path, state: dict[str, Any], restore: Callable[[dict[str, Any]], None]) -> None:
    """Have ``state`` restored; an error names the checkpoint that it is from."""
    try:
        restore(state)
    except ForeignCheckpointError:
        raise
    except CheckpointError as problem:
        raise CheckpointError(f"{path}: {problem}", path=path) from problem


def _is_good(path: Path) -> bool:
    try:
        return bool(file_sha256(path.with_suffix(".safetensors")) == read_body(path)["tensors_sha256"])
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
        return {path for path in folder.iterdir() if NAME.fullmatch(path.name)}
    except FileNotFoundError:
        return set()
    except OSError as problem:
        raise CheckpointError(
            f"{folder} cannot be read: {problem.strerror}; check its permissions", path=folder
        ) from None
