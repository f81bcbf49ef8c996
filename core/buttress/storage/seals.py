"""JSON and weights files with an embedded SHA-256, so that damage is detected on reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.storage.files import json_text, write_tensors, write_text
from buttress.storage.reading import expect_handed_out, read_facts, read_json, read_tensors
from buttress.storage.tensor_file import open_tensor_files

KEY = "sha256"


def write_sealed(path: Path, body: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, sealed; the keys of objects keep their order.

    Raises:
        StorageError: the disk is full or refuses; whatever stood at ``path`` still does.
    """
    write_text(path, json_text({**body, KEY: _digest(body)}))


def read_sealed(path: Path) -> dict[str, Any]:
    """Read the JSON object that ``write_sealed`` wrote, without its seal.

    Raises:
        CheckpointError: missing, or not byte for byte as it was written.
    """
    value = read_json(path)
    expect_seal(path, value)
    return {key: value for key, value in value.items() if key != KEY}


def expect_seal(path: Path, value: object) -> None:
    """Check ``value``, read from the JSON file at ``path``.

    Raises:
        CheckpointError: it has no seal, or is not byte for byte as it was written.
    """
    if not isinstance(value, dict) or KEY not in value:
        raise CheckpointError(f"{path} is damaged: it does not record its sha256", path=path)
    body = {key: value for key, value in value.items() if key != KEY}
    try:
        # The text too: 1e-5 and 1E-5 are one number, a missing end of line changes no value, and both are damage.
        whole = _digest(body) == value[KEY] and path.read_bytes() == json_text(value).encode()
    except RecursionError:  # read by compiled code, which goes deeper than what writes it
        whole = False
    except OSError as problem:
        expect_handed_out(path, problem)
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None
    if not whole:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one", path=path)


def write_weights(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> str:
    """Write tensors and facts about them into one safetensors file, sealed; return the sha256 of the file.

    The seal stands in the header, so that one rename replaces weights and seal together.

    Raises:
        StorageError: the disk is full or refuses; whatever stood at ``path`` still does.
    """
    return write_tensors(path, tensors, {**facts, KEY: _contents(tensors, facts)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and facts of a file that ``write_weights`` wrote.

    Raises:
        CheckpointError: missing, truncated, changed, or without a seal.
    """
    tensors, facts = _read(path)
    if KEY not in facts:
        raise CheckpointError(f"{path} is damaged: it does not record its sha256", path=path)
    return tensors, {key: value for key, value in facts.items() if key != KEY}


def after_epoch(facts: Mapping[str, Any]) -> int:
    """Number of the epoch, counted from 1, after which weights were saved; their file holds its position, from 0."""
    return int(facts["epoch"]) + 1


def read_any_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, on the CPU; checked where it has a seal.

    Raises:
        CheckpointError: missing, truncated, or changed since it was sealed.
    """
    return _read(path)[0]


def expect_whole(path: Path) -> None:
    """Check a safetensors file piece by piece, where it has a seal.

    Raises:
        CheckpointError: missing, truncated, or changed since it was sealed.

    Memory: 1 MiB.
    """
    facts = read_facts(path)
    if KEY not in facts:
        return
    digest = _begun(facts)
    with open_tensor_files([path]) as (file,):
        for name, entry in sorted(file.entries.items()):
            digest.update(_described(name, entry.dtype, entry.shape))
            for piece in file.pieces(entry):
                digest.update(piece)
    _expect_same(path, digest.hexdigest(), facts)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = read_tensors(path), read_facts(path)
    if KEY in facts:
        _expect_same(path, _contents(tensors, facts), facts)
    return tensors, facts


def _expect_same(path: Path, sha256: str, facts: Mapping[str, Any]) -> None:
    if sha256 != facts[KEY]:
        cure = f"; buttress resume {path.parent.parent} puts it back" if path.parent.name == "weights" else ""
        raise CheckpointError(f"{path} is damaged: the sha256 of its contents is not the recorded one{cure}", path=path)


def _contents(tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> str:
    digest = _begun(facts)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(_described(name, tensor.dtype, tensor.shape))
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _begun(facts: Mapping[str, object]) -> hashlib._Hash:
    own = {key: value for key, value in facts.items() if key != KEY}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode())


def _described(name: str, dtype: torch.dtype, shape: Sequence[int]) -> bytes:
    return json.dumps([name, str(dtype), list(shape)]).encode()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()
