"""See whether N sources of weights are of one model, tensor by tensor, before anything is read or written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch

from buttress.errors import CheckpointError
from buttress.storage.tensor_file import Entry
from buttress.storage.tensor_names import AVERAGES, matching_names
from buttress.storage.weights_source import StoredTensor, WeightsSource

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that can be reduced, and written."""


@dataclass(frozen=True)
class TensorVersions:
    """The N versions of one tensor, of one shape, and how they become one.

    Args:
        stored: the versions.
        entry: dtype and shape of the result.
    """

    stored: Sequence[StoredTensor]
    entry: Entry

    @property
    def is_floating_point(self) -> bool:
        return self.entry.dtype.is_floating_point

    @cached_property
    def work(self) -> Entry:
        """Shape, and the dtype that the versions are reduced in: the narrowest that holds them all and the result."""
        dtype = reduce(torch.promote_types, (each.entry.dtype for each in self.stored), self.entry.dtype)
        return Entry(dtype, self.entry.shape, 0)

    @property
    def is_converted(self) -> bool:
        """Whether some version has another dtype than the one of ``work``."""
        return any(each.entry.dtype != self.work.dtype for each in self.stored)


def agreed_versions(
    sources: Sequence[WeightsSource],
    prefix: str = "",
    names: Collection[str] | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, TensorVersions]:
    """The tensors that all sources hold, by their names in the first one.

    Prefixes (``module.``) and markers (``_orig_mod.``) of wrappers make no difference.

    Args:
        sources: N >= 1 sources.
        prefix: beginning of the names of the tensors that are taken; the results lack it.
        names: names of the tensors that are taken; None: all. All sources must hold the same tensors in any case.
        dtype: dtype of all floating-point results; None: that of the sources, which must be the same.

    Raises:
        CheckpointError: there are none, or a source holds other tensors than the first one; names file and tensor.
        ValueError: ``dtype`` is no floating dtype that can be reduced.
    """
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, FLOATS))}, got {dtype}")
    held = [{n: each for n, each in source.tensors.items() if n.startswith(prefix)} for source in sources]
    if not held[0]:
        path = sources[0].path
        raise CheckpointError(f"{path} holds no tensors{f' under {prefix!r}' if prefix else ''}", path=path)
    if not all(AVERAGES in each for each in held):
        for each in held:
            each.pop(AVERAGES, None)
    matches = [_matched(sources[0], source, held[0], each) for source, each in zip(sources, held, strict=True)]
    versions = {name: [each[match[name]] for each, match in zip(held, matches, strict=True)] for name in held[0]}
    for name, stored in versions.items():
        for source, tensor in zip(sources, stored, strict=True):
            _expect_alike(name, sources[0], stored[0].entry, source, tensor.entry, dtype)
    taken = {name.removeprefix(prefix): stored for name, stored in versions.items()}
    return {name: _versions(each, dtype) for name, each in taken.items() if names is None or name in names}


def _versions(stored: Sequence[StoredTensor], dtype: torch.dtype | None) -> TensorVersions:
    own = stored[0].entry
    return TensorVersions(stored, Entry(dtype or own.dtype, own.shape, 0) if own.dtype.is_floating_point else own)


def _matched(
    first: WeightsSource, source: WeightsSource, names: Mapping[str, object], others: Mapping[str, object]
) -> dict[str, str]:
    """The names in ``source`` by those in ``first``."""
    match = matching_names(names, others)
    lacking, more = set(names) - set(match), set(others) - set(match.values())
    for name in sorted(lacking | more):
        verb = "lacks" if name in lacking else "also holds"
        raise CheckpointError(
            f"{source.path} {verb} {name!r}, unlike {first.path}; give files of one model, made in one way",
            path=source.path,
        )
    return match


def _expect_alike(
    name: str, first: WeightsSource, expected: Entry, source: WeightsSource, entry: Entry, dtype: torch.dtype | None
) -> None:
    if entry.shape != expected.shape or entry.dtype.is_floating_point != expected.dtype.is_floating_point:
        raise CheckpointError(
            f"{source.path}: {name!r} has {entry}, expected {expected} as {first.path}", path=source.path
        )
    if entry.dtype == expected.dtype or (dtype is not None and _reducible(entry.dtype) and _reducible(expected.dtype)):
        return
    cure = "convert one of them"
    if _reducible(entry.dtype) and _reducible(expected.dtype):
        word = str(torch.promote_types(entry.dtype, expected.dtype)).removeprefix("torch.")
        cure = (
            f"choose the dtype of the result, to which all are converted: --dtype {word}, in Python dtype=torch.{word}"
        )
    raise CheckpointError(
        f"{source.path}: {name!r} is {entry.dtype}, expected {expected.dtype} as in {first.path}; {cure}",
        path=source.path,
    )


def _reducible(dtype: torch.dtype) -> bool:
    return dtype in FLOATS
