"""Installed distributions, read one by one: one with broken metadata is named, and hides none of the others.

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

Found = TypeVar("Found")


@dataclass(frozen=True)
class Point:
    """An entry point, and the distribution that it is of."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broken:
    """A distribution that cannot be read."""

    path: str
    """Folder of its metadata."""
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def entry_points_of(*groups: str) -> list[Point]:
    """Every entry point of these groups; distributions that cannot be read have none."""
    return _scanned(groups)[0]


def broken_distributions(groups: Collection[str]) -> list[Broken]:
    """The distributions that may have entry points of these groups, and cannot be read."""
    return _scanned(groups)[1]


def installed_versions() -> dict[str, str]:
    """Version of every distribution that can be read, by its name in the form that compares: ``my-defense``."""
    found: dict[str, str] = {}
    for path, distribution in _each():
        identity = _read(path, distribution, _identity)
        if not isinstance(identity, Broken):
            found.setdefault(str(canonicalize_name(identity[0])), identity[1])
    return found


def owner_of(package: str) -> tuple[str, str] | None:
    """Name and version of the distribution that has installed the package or module ``package``; None for none."""

    def owner(distribution: Distribution) -> tuple[str, str] | None:
        return _identity(distribution) if _owns(distribution, package) else None

    owners = (_read(path, distribution, owner) for path, distribution in _each())
    return next((each for each in owners if each is not None and not isinstance(each, Broken)), None)


def _scanned(groups: Collection[str]) -> tuple[list[Point], list[Broken]]:
    points: list[Point] = []
    broken: list[Broken] = []
    for path, distribution in _each():
        found = _read(path, distribution, partial(_points, groups=groups))
        if isinstance(found, Broken):
            broken.append(found)
        else:
            points += found
    return points, broken


def _each() -> Iterator[tuple[Path | None, Distribution]]:
    """Every distribution and the folder of its metadata; of two of one name the first on ``sys.path``."""
    seen: set[str] = set()
    for distribution in all_distributions():
        path = folder_of(distribution)
        if path is not None:
            name = str(canonicalize_name(path.stem.partition("-")[0]))
            if name in seen:
                continue
            seen.add(name)
        yield path, distribution


def _read(path: Path | None, distribution: Distribution, read: Callable[[Distribution], Found]) -> Found | Broken:
    """What ``read`` finds in a distribution, or why it finds nothing."""
    try:
        expect_readable(path)
        return read(distribution)
    except Exception as problem:  # whatever the parsers of metadata raise at what is none
        said = str(problem) if type(problem) is ValueError else f"{kind_and_text(problem)}"  # ours, or theirs
        return Broken(str(path or "a distribution"), said)


def _points(distribution: Distribution, groups: Collection[str]) -> list[Point]:
    """Metadata are read, which takes longer, only where there are such entry points."""
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
