"""Installed distributions, read one by one, so that broken metadata of one is named and hides no other.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath
from typing import TypeVar

from packaging.utils import canonicalize_name

from buttress.components.metadata import all_distributions, expect_readable, folder_of
from buttress.errors import kind_and_text

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """An entry point and its distribution."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnreadableDistribution:
    """A distribution that cannot be read."""

    path: str
    """Folder of the metadata."""
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def entry_points_of(*groups: str) -> list[Point]:
    """Every entry point of these groups, except those of distributions that cannot be read."""
    return _scanned(groups)[0]


def broken_distributions(groups: Collection[str]) -> list[UnreadableDistribution]:
    """The distributions that cannot be read, and might have entry points of these groups."""
    return _scanned(groups)[1]


def installed_versions() -> dict[str, str]:
    """Version of every readable distribution, by its canonical name: ``my-defense``."""
    versions: dict[str, str] = {}
    for path, distribution in _each():
        identity = _read(path, distribution, _identity)
        if not isinstance(identity, UnreadableDistribution):
            versions.setdefault(str(canonicalize_name(identity[0])), identity[1])
    return versions


def distribution_of(package: str) -> tuple[str, str] | None:
    """Name and version of the distribution that installed the package or module ``package``, or None."""

    def owner(distribution: Distribution) -> tuple[str, str] | None:
        return _identity(distribution) if _owns(distribution, package) else None

    owners = (_read(path, distribution, owner) for path, distribution in _each())
    return next((each for each in owners if each is not None and not isinstance(each, UnreadableDistribution)), None)


def _scanned(groups: Collection[str]) -> tuple[list[Point], list[UnreadableDistribution]]:
    points: list[Point] = []
    broken: list[UnreadableDistribution] = []
    for path, distribution in _each():
        result = _read(path, distribution, partial(_points, groups=groups))
        if isinstance(result, UnreadableDistribution):
            broken.append(result)
        else:
            points += result
    return points, broken


def _each() -> Iterator[tuple[Path | None, Distribution]]:
    """Every distribution with the folder of its metadata; of two with one name, the first on ``sys.path``."""
    seen: set[str] = set()
    for distribution in all_distributions():
        path = folder_of(distribution)
        if path is not None:
            name = str(canonicalize_name(path.stem.partition("-")[0]))
            if name in seen:
                continue
            seen.add(name)
        yield path, distribution


def _read(
    path: Path | None, distribution: Distribution, read: Callable[[Distribution], T]
) -> T | UnreadableDistribution:
    """The result of ``read`` for a distribution, or the reason why it cannot be read."""
    try:
        expect_readable(path)
        return read(distribution)
    except Exception as problem:  # parsers of metadata raise anything
        text = str(problem) if type(problem) is ValueError else kind_and_text(problem)  # ours, or theirs
        return UnreadableDistribution(str(path or "a distribution"), text)


def _points(distribution: Distribution, groups: Collection[str]) -> list[Point]:
    """The entry points of a distribution; its metadata are read only if there are any, since that takes longer."""
    try:
        chosen = [point for point in distribution.entry_points if point.group in groups]
    except TypeError:  # Python's parser of pairs misses the second half
        raise ValueError("a line of entry_points.txt has no '='") from None
    if not chosen:
        return []
    name, version = _identity(distribution)
    requires = tuple(distribution.requires or ())
    return [Point(point.group, point.name, point.value, name, version, requires) for point in chosen]


def _identity(distribution: Distribution) -> tuple[str, str]:
    metadata = distribution.metadata
    name, version = (metadata[key] if metadata is not None else None for key in ("Name", "Version"))
    if not name or not version:
        raise ValueError("METADATA is missing, or has no Name and Version")
    return str(name), str(version)


def _owns(distribution: Distribution, package: str) -> bool:
    declared = (distribution.read_text("top_level.txt") or "").split()
    if declared:
        return package in declared
    return any(_top(file) == package for file in distribution.files or ())


def _top(file: PurePosixPath) -> str:
    return file.parts[0] if len(file.parts) > 1 else file.name.partition(".")[0]
