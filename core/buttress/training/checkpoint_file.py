"""Read one checkpoint of a run, and verify it: format, seal, name and sha256; older formats become that of today.

``step-00000120.safetensors`` holds the tensors, ``step-00000120.json`` the rest and the sha256 of both.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, UnreadableError, kind_and_text
from buttress.storage.reading import file_sha256, read_json, read_tensors
from buttress.storage.seals import expect_seal, expect_whole
from buttress.storage.tensor_tree import join_tensors
from buttress.training.ownership import ForeignCheckpointError

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

NAME = re.compile(r"(step-\d+)\.(json|safetensors|weights)")
"""Names of the files and folders that make up a checkpoint."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one checkpoint, verified, whoever owns it.

    Raises:
        CheckpointError: missing, truncated, changed, or of another format.
    """
    return state_of(path, read_body(path))


def state_of(path: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint, whose JSON is ``body``, brought to the format of today.

    Raises:
        CheckpointError: its tensors are missing or damaged, or do not fit its JSON.
    """
    tensors = read_tensors(path.with_suffix(".safetensors"), body["tensors_sha256"])
    try:
        state = dict(join_tensors(body["state"], tensors))
        for older in range(body["format"], FORMAT):
            state = _UPGRADES[older](state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as problem:
        raise CheckpointError(f"{path} is no checkpoint of buttress: {kind_and_text(problem)}", path=path) from None
    return state


def metrics_of(path: Path) -> tuple[int, str] | None:
    """Bytes and sha256 of the run's metrics at the time of one checkpoint; None where its format did not know them.

    Raises:
        CheckpointError: missing, changed, or of another format.
    """
    state = read_body(path).get("state")
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
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None
    body = path.with_suffix(".json")
    if not (NAME.fullmatch(path.name) and body.is_file()):
        expect_whole(path)
    elif sha256 != read_body(body)["tensors_sha256"]:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one", path=path)
    return sha256


def stem_of(step: int) -> str:
    """``"step-00000120"``: the name of a checkpoint's files, without the ending."""
    return f"step-{step:08d}"


def read_body(path: Path) -> dict[str, Any]:
    """The JSON of a checkpoint, verified.

    Raises:
        CheckpointError: missing, damaged, of another format, or no checkpoint.
        ForeignCheckpointError: it has the name of another one.
    """
    body = read_json(path)
    if not isinstance(body, dict) or "sha256" not in body:
        raise CheckpointError(f"{path} is no checkpoint of buttress", path=path)
    _expect_format(path, body)
    expect_seal(path, body)
    step = body.get("step")
    if type(step) is not int or stem_of(step) != path.stem:
        raise ForeignCheckpointError(
            f"{path} holds step {step!r}, and is called otherwise; give it its own name back", path=path
        )
    if not isinstance(body.get("tensors_sha256"), str):
        raise CheckpointError(
            f"{path} is no checkpoint of buttress: it does not say which tensors are its own", path=path
        )
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
        raise CheckpointError(message, path=path) from None
    raise UnreadableError(message, path=path)
