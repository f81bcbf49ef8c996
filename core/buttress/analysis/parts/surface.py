"""The 2-D loss landscape: the adversarial loss over the plane of two directions in weight space.

Source: MEAT, arXiv:2406.14259, section 4; PIAT, arXiv:2511.00836, eq. 13. Inputs are attacked once, at the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import model_validator
from torch import Tensor, nn

from buttress.analysis.answers import Measured, WeightsAnswer, expect_consistent
from buttress.analysis.directions import Inputs, losses_at, random_direction, scaled_to_weights
from buttress.analysis.figures import HIGHEST, base_layout, blank_figure
from buttress.analysis.part import NamedAnswer, Options, Part, chosen_tracks, landscape_facts
from buttress.analysis.pictures import ORDERED, figure_at, weights_and_n
from buttress.analysis.study import Study
from buttress.nn.modes import parameters_of
from buttress.storage.shapes import Number

if TYPE_CHECKING:
    import plotly.graph_objects as go


def surface(
    model: nn.Module, directions: Sequence[Mapping[str, Tensor]], steps: Sequence[float], inputs: Inputs
) -> Tensor:
    """``[P, P]`` mean losses in nats at ``w + a d_1 + b d_2``; a along the first axis, b along the second.

    Args:
        model: the model, at the weights w.
        directions: d_1 and d_2.
        steps: P values of a, and of b.
        inputs: attacked examples, see ``Inputs``.
    """
    points = [[a, b] for a in steps for b in steps]
    return losses_at(model, directions, points, inputs).double().mean(1).view(len(steps), len(steps))


class Answer(WeightsAnswer):
    directions: str
    steps: list[Number]
    loss: list[list[Measured]]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        points = len(self.steps)
        expect_consistent(
            len(self.loss) == points and all(len(row) == points for row in self.loss), "one loss for each point"
        )
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """The surface of each track."""
    for track in chosen_tracks(study, options):
        yield _surface_of(study, track, options)


def _surface_of(study: Study, track: str, options: Options) -> NamedAnswer:
    epoch = study.load(track)
    weights = parameters_of(study.model)
    drawn = [random_direction(weights, options.seed, number) for number in (0, 1)]
    fixed = study.attacked(study.examples)
    directions = [scaled_to_weights(direction, weights) for direction in drawn]
    numbers = {
        **landscape_facts(study, options, track, epoch, drawn),
        "steps": options.steps,
        "loss": surface(study.model, directions, options.steps, lambda: fixed),
    }
    return NamedAnswer(f"surface-{track}-{study.checkpoint}", numbers)


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Loss over the plane of two directions, cut off above."""
    heights = np.clip(np.array(numbers["loss"], dtype=float), None, HIGHEST)
    a, b = np.meshgrid(numbers["steps"], numbers["steps"], indexing="ij")
    with figure_at(path, f"loss landscape, {weights_and_n(numbers)}", projection="3d") as axes:
        axes.plot_surface(a, b, heights, cmap=ORDERED, vmin=0, vmax=HIGHEST, rstride=1, cstride=1, linewidth=0)
        axes.set_zlim(0, HIGHEST)
        axes.set_xticks([numbers["steps"][0], 0, numbers["steps"][-1]])
        axes.set_yticks([numbers["steps"][0], 0, numbers["steps"][-1]])
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        axes.set_zlabel(f"adversarial loss ({numbers['attack']}), nats")
        axes.set_box_aspect(None, zoom=0.85)


def figure(named: Sequence[tuple[str, Mapping[str, Any]]]) -> go.Figure:
    """Several surfaces in one scene: the first shown, the others in the legend.

    Args:
        named: name in the legend and numbers of each surface.
    """
    figure = blank_figure()
    for position, (name, numbers) in enumerate(named):
        cut = [[None if z is None else min(z, HIGHEST) for z in row] for row in numbers["loss"]]
        figure.add_surface(
            x=numbers["steps"],
            y=numbers["steps"],
            z=[list(column) for column in zip(*cut, strict=True)],  # plotly's rows run along y, ours along a = x
            name=name,
            showlegend=True,
            visible=True if position == 0 else "legendonly",
            colorscale="Viridis",
            cmin=0,
            cmax=HIGHEST,
            showscale=False,  # the axis has the same numbers
            hovertemplate="%{x:.2f}, %{y:.2f}: %{z:.2f} nats<extra>" + name.replace("%", "") + "</extra>",
        )
    small = {"size": 11}
    axis = {"tickfont": small, "nticks": 4, "gridcolor": "#E6E6E6"}
    figure.update_layout(
        {**base_layout(), "margin": {"l": 0, "r": 0, "t": 0, "b": 0}},
        height=500,
        scene={
            "xaxis": {**axis, "title": {"text": "direction 1", "font": small}},
            "yaxis": {**axis, "title": {"text": "direction 2", "font": small}},
            # No 0: it would lie on the label of the axis below.
            "zaxis": {
                **axis,
                "title": {"text": "loss, nats", "font": small},
                "range": [0, HIGHEST],
                "tickvals": [2, 4, 6],
            },
            "aspectmode": "manual",
            "aspectratio": {"x": 1.2, "y": 1.2, "z": 0.85},
            "camera": {"eye": {"x": 1.7, "y": 1.7, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
    )
    return figure


PART = Part("surface-", Answer, ask, draw)
