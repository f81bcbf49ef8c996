"""``requires`` in a config: distributions that must be installed in matching versions. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from buttress.components.installed import installed_versions
from buttress.components.place import Place
from buttress.components.sources import GROUPS, sources
from buttress.errors import all_faults


def check_requirements(requirements: Sequence[str], place: Place) -> None:
    """Refuse a config whose requirements are not met.

    Args:
        requirements: requirements like ``"my-defense>=1.2"``; those whose marker does not hold here are ignored.
        place: place of the list, for messages.

    Raises:
        ConfigError: a distribution is missing or has another version; one line for each.
    """
    wrong: list[tuple[Place, str]] = []
    installed = installed_versions() if requirements else {}
    for position, text in enumerate(requirements):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        version = installed.get(canonicalize_name(wanted.name))
        if version is None:
            cure = _cure(wanted, installed)
            wrong.append((place / position, f"{text} is required, and {wanted.name} is not installed{cure}"))
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append((place / position, f"{text} is required, and {wanted.name} {version} is installed"))
    if wrong:
        raise all_faults(wrong)


def _cure(wanted: Requirement, installed: Mapping[str, str]) -> str:
    """The cure: the distribution of a component of that name, the nearest distribution, or else to install it."""
    name = canonicalize_name(wanted.name)
    for source in (source for kind in GROUPS for source in sources(kind)):
        if canonicalize_name(source.name) == name:
            return (
                f"; {source.kind} {source.name} is of distribution {source.distribution}, of which {source.version} is "
                f'installed: write "{source.distribution}>={source.version}"'
            )
    close = get_close_matches(name, installed, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}, of which {installed[close[0]]} is installed?"
    return f': pip install "{wanted}", or take it out of requires'
