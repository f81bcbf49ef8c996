"""Read files of weights from anywhere, safetensors or ``torch.save``, without running any code of theirs."""

import argparse
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from buttress.errors import CheckpointError, ModelError, nearest
from buttress.storage.regular_file import open_regular_file
from buttress.storage.seals import read_any_weights

SUFFIXES = (".safetensors", ".pth", ".pt")
"""Suffixes of files of weights; files with other suffixes are recognised by their first bytes."""

# A zip archive, a pickle of protocol 2 (torch before 1.6), and the length of a safetensors header with its first brace.
_PICKLED = re.compile(rb"PK\x03\x04|\x80\x02")
_BEGINNINGS = re.compile(_PICKLED.pattern + rb"|.{7}\x00\{", flags=re.DOTALL)
# Training scripts save their command line beside the weights; torch.load sets its attributes and runs nothing.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]


def is_safetensors(path: Path) -> bool:
    """Whether the name has the suffix of safetensors."""
    return path.suffix.lower() == ".safetensors"


def holds_weights(path: Path) -> bool:
    """Whether the file ``path`` says by its name or by its first bytes that it is a file of weights.

    Raises:
        CheckpointError: it cannot be read.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open_regular_file(path) as file:
            return _BEGINNINGS.match(file.read(16)) is not None
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None


def is_pickled(path: Path) -> bool:
    """Whether a file says by its name, or else by its first bytes, that ``torch.save`` wrote it."""
    if path.suffix.lower() in SUFFIXES:
        return not is_safetensors(path)
    try:
        with open_regular_file(path) as file:
            return _PICKLED.match(file.read(4)) is not None
    except OSError:  # who opens it to read it says why
        return False


def read_weight_sets(path: Path, *, mapped: bool = False) -> dict[str, dict[str, Tensor]]:
    """Every set of named tensors in a file, on the CPU, by the keys that lead to it: ``state_dict``, ``model.ema``.

    The key of tensors at the top is empty, as it is in a safetensors file.

    Args:
        path: the file.
        mapped: whether the tensors of a zip archive of ``torch.save`` are mapped from the file instead of read.

    Raises:
        CheckpointError: the file is missing, truncated, changed since a run wrote it, asks for anything that could run
            code, or holds no tensor that has a name.
    """
    loaded = read_any_weights(path) if is_safetensors(path) else _load(path, mapped)
    sets = dict(_sets(loaded)) if isinstance(loaded, Mapping) else {}
    if not sets:
        raise CheckpointError(
            f"{path} holds no weights: expected a mapping of names to tensors, at the top or under a key like "
            "state_dict, model or ema, as torch.save(model.state_dict(), FILE) writes it",
            path=path,
        )
    return sets


def expect_key(sets: Mapping[str, object], key: str, path: Path) -> None:
    """Expect a set of weights under ``key``.

    Raises:
        ModelError: the file has none there; names the keys that it has.
    """
    if key not in sets:
        known = ", ".join(map(repr, sets))
        raise ModelError(f"{path} has no weights under the key {key!r}{nearest(key, sets)}; it has them under {known}")


def choose_set(sets: Mapping[str, dict[str, Tensor]], key: str | None, path: Path) -> dict[str, Tensor]:
    """The set under ``key``; with None the only one that can be a model's.

    A model's set lies under no number, as the state of an optimizer does, and holds more than single numbers.

    Raises:
        ModelError: there is no such set, or there are several.
    """
    if key is not None:
        expect_key(sets, key, path)
        return sets[key]
    models = [each for each in sets if _may_be_a_model(each, sets[each])] or list(sets)
    if len(models) > 1:
        raise ModelError(
            f"{path} holds {len(models)} sets of weights: {', '.join(map(repr, models))}; choose one by its key, such "
            f"as {models[-1]!r} (--key, in Python key=)"
        )
    return sets[models[0]]


def _may_be_a_model(key: str, tensors: Mapping[str, Tensor]) -> bool:
    return not any(part.isdigit() for part in key.split(".")) and any(tensor.dim() for tensor in tensors.values())


def _load(path: Path, mapped: bool) -> object:
    try:
        _expect_no_growth(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", path=path) from None
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None
    except CheckpointError:
        raise
    except Exception as problem:  # the restricted loader raises many kinds; all mean: this file is not taken
        requested = re.search(r"GLOBAL (\S+)", str(problem))
        reason = (
            f"it asks for {requested.group(1)}, and only tensors are taken" if requested else "truncated, or no weights"
        )
        raise CheckpointError(
            f"{path} is refused by torch's restricted loader, which runs no code: {reason}", path=path
        ) from None


def _expect_no_growth(path: Path) -> None:
    """Refuse an archive whose parts are larger than it is: torch.save compresses none.

    Raises:
        CheckpointError: some kB of it could fill the memory.
        OSError: the file cannot be read.
    """
    with open_regular_file(path) as file:
        if not is_zipfile(file):
            return
        file.seek(0)
        with ZipFile(file) as archive:
            parts = sum(part.file_size for part in archive.infolist())
        size = os.fstat(file.fileno()).st_size
    if parts > size:
        raise CheckpointError(
            f"{path} is refused: it has {size:,} bytes, and its parts {parts:,}; expected an archive that is not "
            "compressed, as torch.save writes it",
            path=path,
        )


def _sets(loaded: Mapping[object, object]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings of names to tensors, the outermost first; what else stands beside the tensors is not theirs."""
    waiting, seen = deque([("", loaded)]), set[int]()
    while waiting:
        key, mapping = waiting.popleft()
        named = {str(name): value for name, value in mapping.items()}
        if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
            yield key, tensors
        if id(mapping) not in seen:  # a file may hold one of them in many places: what it holds is looked at once
            seen.add(id(mapping))
            below = [(name, value) for name, value in named.items() if isinstance(value, Mapping)]
            waiting.extend((f"{key}.{name}" if key else name, value) for name, value in below)
