"""Fingerprints of data: the record that a run keeps of each split, and the differences between two records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Fingerprint = Mapping[str, Any]
"""Fingerprint of one split: ``n``, and the sha256 (or another plain value) of its ``inputs``, ``labels``, ``names``."""


def sha256_of_tensor(tensor: Tensor) -> str:
    """sha256 of dtype, shape and values of a dense tensor; its device, strides and gradient make no difference.

    Speed: that of sha256 over the tensor's own memory, where it is contiguous on the CPU; no copy is made.
    """
    return sha256_of_parts([tensor], tensor.dtype, tensor.shape)


def sha256_of_parts(parts: Iterable[Tensor], dtype: torch.dtype, shape: Sequence[int]) -> str:
    """``sha256_of_tensor`` of a tensor of ``dtype`` and ``shape`` that is given in parts along its first dimension."""
    digest = hashlib.sha256(json.dumps([str(dtype), list(shape)]).encode())
    for part in parts:
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256_of_values(values: Iterable[object]) -> str:
    """sha256 of a sequence of texts or numbers."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value).encode() + b"\n")
    return digest.hexdigest()


def fingerprint_differences(recorded: Mapping[str, Fingerprint], current: Mapping[str, Fingerprint]) -> list[str]:
    """Differences between current splits and recorded ones, one phrase each.

    Args:
        recorded: split name to fingerprint, as it was.
        current: split name to fingerprint, as it is now.
    """
    return [
        line for name in dict.fromkeys([*recorded, *current]) for line in _split_differences(name, recorded, current)
    ]


def _split_differences(
    name: str, recorded: Mapping[str, Fingerprint], current: Mapping[str, Fingerprint]
) -> Iterator[str]:
    if name not in current:
        yield f"there is no {name} split any more"
    elif name not in recorded:
        yield f"there was no {name} split"
    elif recorded[name].get("n") != current[name].get("n"):  # then everything else differs too
        yield f"{name} has {current[name].get('n')} examples and had {recorded[name].get('n')}"
    else:
        before, now = recorded[name], current[name]
        changed = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
        if changed:
            yield f"{name} has other {' and '.join(changed)}"
