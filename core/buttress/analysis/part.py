"""The form of a part of ``buttress analyze``: a question to a run, the shape of its answers, and their picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from buttress.analysis.directions import directions_id
from buttress.analysis.study import Study
from buttress.errors import ConfigError
from buttress.storage.shapes import Shape


@dataclass(frozen=True)
class Options:
    """Options of the parts, which a user may choose.

    Args:
        tracks: tracks whose landscapes and images to make; empty for all.
        points: points of a landscape along each direction, odd: from -1 to 1 in norms of the filters, 0 among them.
        seed: seed of the directions.
        recompute: attack anew at every point of a 1-D landscape.

    Raises:
        ConfigError: ``points`` is even, below 3 or above 1001.
    """

    tracks: tuple[str, ...] = ()
    points: int = 21
    seed: int = 0
    recompute: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.points <= 1001 or self.points % 2 == 0:
            raise ConfigError(
                "expected an odd number from 3 to 1001, so that 0 is one of them", key=f"--points {self.points}"
            )

    @property
    def steps(self) -> list[float]:
        half = self.points // 2
        return [(step - half) / half for step in range(self.points)]


@dataclass(frozen=True)
class NamedAnswer:
    """One answer.

    Args:
        stem: name of its files, without the ending.
        numbers: numbers of the JSON file; tensors become lists, and numbers that are not finite become null.
    """

    stem: str
    numbers: Mapping[str, Any]


class Missing(Exception):  # noqa: N818 - no error: a part that a run cannot answer
    """A run lacks what a part needs; the message says what, and how a run gets it."""


@dataclass(frozen=True)
class Part:
    """One question that ``buttress analyze`` puts to a run.

    Args:
        files: beginning of the names of its files.
        answer: shape of the numbers in a file.
        ask: makes the answers of a run; raises ``Missing`` where the run has none.
        draw: writes the picture of an answer to a path.
    """

    files: str
    answer: type[Shape]
    ask: Callable[[Study, Options], Iterator[NamedAnswer]]
    draw: Callable[[Path, Mapping[str, Any]], None]


def chosen_tracks(study: Study, options: Options) -> Sequence[str]:
    """The tracks that the user has chosen, or all that have weights of the checkpoint.

    Raises:
        Missing: no track has such weights yet.
    """
    return options.tracks or tracks_with_weights(study)


def tracks_with_weights(study: Study) -> list[str]:
    """All tracks that have weights of the chosen checkpoint.

    Raises:
        Missing: no track has such weights yet.
    """
    if not study.tracks:
        raise Missing(
            f"the run has no {study.checkpoint} weights yet; --checkpoint best takes those of the best epoch so far, "
            f"and buttress resume {study.folder.path} finishes the run"
        )
    return study.tracks


def landscape_facts(
    study: Study, options: Options, track: str, epoch: int, drawn: Sequence[Mapping[str, Tensor]]
) -> dict[str, Any]:
    """The circumstances of a landscape, under the same keys for one direction and for two."""
    return {
        "track": track,
        "checkpoint": study.checkpoint,
        "epoch": epoch,
        "attack": study.attack,
        "split": "train",
        "n": len(study.examples),
        "seed": options.seed,
        "directions": directions_id(drawn),
        "normalized": "filter",
    }


def json_value(value: Any) -> Any:
    """``value`` for JSON: tensors as nested lists, and null in place of every number that is not finite."""
    if isinstance(value, Tensor):
        return json_value(value.tolist())
    if isinstance(value, Mapping):
        return {key: json_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
