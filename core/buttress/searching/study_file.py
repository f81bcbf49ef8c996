"""The file ``study.json`` of a search: what it was started with, and what it may therefore not be given later."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from buttress.comparing.jobs import without_idle_keys
from buttress.errors import RunFolderError
from buttress.searching.space import Space
from buttress.searching.template import CheckedConfig
from buttress.storage.differences import ABSENT, differences
from buttress.storage.results import read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Shape

# Differences that a message names, at most, and the longest value in it.
_MOST, _LONGEST = 3, 100


class _StudyFile(Shape):
    config: dict[str, Any]
    plugins: str | None
    space: dict[str, str]
    seeds: list[int]
    track: str
    seed: int
    pruner: str


_STUDY = TypeAdapter(_StudyFile)


def study_facts(
    checked: CheckedConfig, space: Space, seeds: Sequence[int], track: str, seed: int, pruner: str
) -> dict[str, Any]:
    """Everything that the values of a search depend on.

    Args:
        checked: config at the lowest point of the space.
        space: its space.
        seeds: seeds of every trial.
        track: track whose accuracy is maximised.
        seed: seed of the sampler.
        pruner: name of the pruner.
    """
    text = checked.plugins_text
    return {
        "config": {key: value for key, value in without_idle_keys(checked.resolved).items() if key != "seed"},
        "plugins": None if text is None else hashlib.sha256(text.encode()).hexdigest(),
        "space": {each.key: str(each) for each in space.dimensions},
        "seeds": list(seeds),
        "track": track,
        "seed": seed,
        "pruner": pruner,
    }


def expect_same_study(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a folder in which another search lives, or something else.

    Raises:
        RunFolderError: names what differs.
        CheckpointError: its ``study.json`` is damaged.
    """
    cure = "choose another --name"
    if (folder / "plan.json").exists():
        raise RunFolderError(f"{folder} holds a comparison; {cure}", path=folder)
    path = folder / "study.json"
    if not path.exists():
        return
    there = read_object(path, _STUDY, sealed=True).body
    here = json.loads(json.dumps(facts))
    parts = ("space",) if there["space"] != here["space"] else tuple(here)
    differing = [
        f"{place} is {_short(one)} there and {_short(other)} here"
        for part in parts
        for place, one, other in differences(there[part], here[part], part)
    ]
    if differing:
        more = f"; and {len(differing) - _MOST} more" if len(differing) > _MOST else ""
        raise RunFolderError(
            f"{folder} holds another search: {'; '.join(differing[:_MOST])}{more}; {cure}, or give its own command "
            "again",
            path=folder,
        )


def write_study(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``study.json``, sealed."""
    write_sealed(folder / "study.json", facts)


def _short(value: object) -> str:
    text = "not set" if value is ABSENT else json.dumps(value)
    return textwrap.shorten(text, _LONGEST, placeholder=" ...")
