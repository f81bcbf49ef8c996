"""How far weights have moved from one epoch to another, layer group by layer group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor, nn

from buttress.analysis.answers import Measured, expect_consistent
from buttress.analysis.figures import add_curve, empty_figure, whole_ticks
from buttress.analysis.part import Missing, NamedAnswer, Options, Part
from buttress.analysis.pictures import figure_at, label_epochs, with_gaps
from buttress.analysis.study import Study
from buttress.errors import PluginError
from buttress.nn.layers import layer_groups
from buttress.nn.modes import parameters_of
from buttress.storage.shapes import Count, Shape
from buttress.training.curves import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Distance(NamedTuple):
    """Distance of weights a from weights b: ``||a - b||``, that over ``||b||``, and the cosine of their angle."""

    absolute: float
    relative: float
    cosine: float


def distances(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Mapping[str, Sequence[str]]
) -> dict[str, Distance]:
    """L2 distances in float64, over all elements of each group together.

    Args:
        a: parameters by name.
        b: parameters of the same names and shapes.
        groups: group name to parameter names.
    """
    return {group: _distance(_joined(a, names), _joined(b, names)) for group, names in groups.items()}


def named_groups(model: nn.Module) -> dict[str, list[str]]:
    """Parameter names by group: the groups of layer-wise methods where known, with the rest as ``stem and head``.

    In other models, names that agree up to their first dot are a group.
    """
    every = [name for name, _ in model.named_parameters()]
    try:
        known = layer_groups(model)
    except PluginError:
        return {
            prefix: [name for name in every if name.partition(".")[0] == prefix]
            for prefix in dict.fromkeys(name.partition(".")[0] for name in every)
        }
    inside = {name for names in known.values() for name in names}
    rest = [name for name in every if name not in inside]
    groups = {f"group {number}": list(names) for number, names in known.items()}
    return {**groups, "stem and head": rest} if rest else groups


def _joined(weights: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.cat([weights[name].detach().double().flatten() for name in names])


def _distance(a: Tensor, b: Tensor) -> Distance:
    absolute, own, other = float((a - b).norm()), float(b.norm()), float(a.norm())
    cosine = float(a @ b) / (own * other) if own * other else float("nan")
    return Distance(absolute, absolute / own if own else float("nan"), cosine)


class Moved(Shape):
    """How far one layer group is from other weights."""

    relative: Measured


class SnapshotDistances(Shape):
    epoch: Count
    to_last: dict[str, Moved]


class Answer(Shape):
    groups: dict[str, Any]
    last_epoch: Count
    snapshots: list[SnapshotDistances]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        expect_consistent(
            all(set(self.groups) <= set(each.to_last) for each in self.snapshots), "a distance for each group"
        )
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """Distance of each snapshot from the last one, and from the next."""
    parameters = parameters_of(study.model)
    snapshots = study.snapshots()
    if len(snapshots) < 2:
        raise Missing(
            f"the run has kept its live model's weights of {len(snapshots) or 'no'} epoch, and a distance needs two; "
            "keep more checkpoints (checkpoint.keep), or a history (plugin meat)"
        )
    groups = named_groups(study.model)
    last = snapshots[-1].read(parameters)
    rows = []
    for earlier, later in pairwise(snapshots):
        weights = earlier.read(parameters)
        rows.append(
            {
                "epoch": earlier.epoch,
                "next_epoch": later.epoch,
                "to_last": _as_dicts(distances(weights, last, groups)),
                "to_next": _as_dicts(distances(weights, later.read(parameters), groups)),
            }
        )
    yield NamedAnswer("distance", {"groups": groups, "last_epoch": snapshots[-1].epoch, "snapshots": rows})


def _as_dicts(measured: Mapping[str, Distance]) -> dict[str, dict[str, float]]:
    return {group: distance._asdict() for group, distance in measured.items()}


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Relative distance of every layer group from the last weights, over epochs."""
    with figure_at(path, f"distance from the weights after epoch {numbers['last_epoch']}") as axes:
        for group, colour in zip(numbers["groups"], COLOURS * 9, strict=False):
            epochs, values = _curve(numbers, group)
            axes.plot(epochs, with_gaps(values), color=colour, marker="o", markersize=3, linewidth=1.6, label=group)
        label_epochs(axes)
        axes.set_ylim(0, None)
        axes.set_ylabel("L2 distance over norm of the last weights")
        axes.legend(fontsize=8)


def figure(numbers: Mapping[str, Any]) -> go.Figure:
    """Relative distance of every layer group from the last weights, over epochs."""
    figure = empty_figure("distance over norm of the last")
    for group, colour in zip(numbers["groups"], COLOURS * 9, strict=False):
        epochs, values = _curve(numbers, group)
        add_curve(figure, epochs, values, group, colour, hover="%{y:.3f}", markers=True)
    figure.update_yaxes(rangemode="tozero")
    whole_ticks(figure)
    return figure


def _curve(numbers: Mapping[str, Any], group: str) -> tuple[list[int], list[float | None]]:
    """Epochs, and the relative distances of a group there; 0 at the last one."""
    rows = numbers["snapshots"]
    epochs = [*(row["epoch"] for row in rows), numbers["last_epoch"]]
    return epochs, [*(row["to_last"][group]["relative"] for row in rows), 0.0]


PART = Part("distance", Answer, ask, draw)
