"""The 1-D loss landscape: the adversarial loss along one direction in weight space, group by group.

Per LSC group (Yu et al., arXiv:2205.14826, figure 2): ``g_j(mu) = mean over group j of loss(w + mu d; x', y)``, the
same d for all groups. Inputs are attacked once, at w, as there; AWP (Wu et al., arXiv:2004.05884, section 3) attacks
anew at every mu: ``inputs`` decides. Groups are made at w in both cases. Batch norm keeps the statistics of w.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor, nn

from buttress.analysis.answers import Edges, Measured, WeightsAnswer, expect_consistent
from buttress.analysis.directions import Inputs, losses_at, random_direction, scaled_to_weights
from buttress.analysis.figures import HIGHEST, SHADES, add_curve, empty_figure
from buttress.analysis.part import NamedAnswer, Options, Part, chosen_tracks, landscape_facts
from buttress.analysis.pictures import figure_at, shades, weights_and_n, with_gaps
from buttress.analysis.study import Study
from buttress.nn.modes import parameters_of
from buttress.scoring.loss_groups import EDGES, group_names, group_numbers
from buttress.storage.shapes import Count, Number, Size

if TYPE_CHECKING:
    import plotly.graph_objects as go


class GroupLandscape(NamedTuple):
    """Mean losses along a direction.

    Args:
        sizes: ``[G + 1]`` examples in each LSC group, and in none.
        groups: ``[G + 1, P]`` their mean losses in nats; NaN for an empty group.
        mean: ``[P]`` mean losses of all examples.
    """

    sizes: Tensor
    groups: Tensor
    mean: Tensor


def group_landscape(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    mu: Sequence[float],
    inputs: Inputs,
    losses: Tensor,
    edges: Sequence[float] = EDGES,
) -> GroupLandscape:
    """The landscape along one direction.

    Args:
        model: the model, at the weights w.
        direction: parameter name to tensor.
        mu: P steps along the direction.
        inputs: attacked examples, see ``Inputs``.
        losses: ``[n]`` losses of the attacked examples at w, which make the groups.
        edges: edges of the groups.
    """
    rows = losses_at(model, [direction], [[step] for step in mu], inputs).double()
    numbers = group_numbers(losses.cpu(), edges)
    groups = torch.stack([rows[:, numbers == number].mean(1) for number in range(len(edges))])
    return GroupLandscape(torch.bincount(numbers, minlength=len(edges)), groups, rows.mean(1))


class Answer(WeightsAnswer):
    n: Size
    inputs: str
    edges: Edges
    mu: list[Number]
    mean: list[Measured]
    sizes: list[Count]
    groups: list[list[Measured]]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        points = len(self.mu)
        expect_consistent(
            len(self.edges) == len(self.sizes) == len(self.groups), "one size and one curve for each group"
        )
        expect_consistent(all(len(losses) == points for losses in (self.mean, *self.groups)), "one loss for each step")
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """The landscape of each track, with one direction for all groups."""
    for track in chosen_tracks(study, options):
        yield _landscape_of(study, track, options)


def _landscape_of(study: Study, track: str, options: Options) -> NamedAnswer:
    epoch = study.load(track)
    weights = parameters_of(study.model)
    drawn = random_direction(weights, options.seed)
    fixed = study.attacked(study.examples)
    inputs = (lambda: study.attacked(study.examples)) if options.recompute else (lambda: fixed)
    direction, losses = scaled_to_weights(drawn, weights), study.losses(fixed)
    made = group_landscape(study.model, direction, options.steps, inputs, losses=losses)
    numbers = {
        **landscape_facts(study, options, track, epoch, [drawn]),
        "inputs": "attacked anew at every point" if options.recompute else "attacked once, at the weights",
        "edges": EDGES,
        "mu": options.steps,
        "mean": made.mean,
        "sizes": made.sizes,
        "groups": made.groups,
    }
    return NamedAnswer(f"landscape-{track}-{study.checkpoint}", numbers)


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Mean loss of every LSC group along one direction."""
    with figure_at(path, f"weight-loss landscape, {weights_and_n(numbers)}") as axes:
        names, colours = group_names(numbers["edges"]), shades(len(numbers["groups"]))
        for name, size, losses, colour in zip(names, numbers["sizes"], numbers["groups"], colours, strict=True):
            if size:
                label = f"loss {name}: {size} examples"
                axes.plot(numbers["mu"], with_gaps(losses), color=colour, linewidth=1.8, label=label)
        label = f"all {numbers['n']} examples"
        axes.plot(numbers["mu"], with_gaps(numbers["mean"]), color="#000000", linestyle="--", label=label)
        axes.set_ylim(0, HIGHEST)
        axes.set_xlabel("step along the direction, in norms of the filters")
        axes.set_ylabel(f"adversarial loss ({numbers['attack']}), nats")
        axes.legend(fontsize=8)


def figure(numbers: Mapping[str, Any]) -> go.Figure:
    """Mean loss of every LSC group along one direction."""
    figure = empty_figure("adversarial loss, nats", x="step along the direction, in norms of the filters", whole=False)
    names = group_names(numbers["edges"])
    for name, size, losses, colour in zip(names, numbers["sizes"], numbers["groups"], SHADES * 9, strict=False):
        if size:
            add_curve(figure, numbers["mu"], losses, f"{name} ({size})", colour, hover="%{y:.2f}")
    label = f"all ({numbers['n']})"
    add_curve(figure, numbers["mu"], numbers["mean"], label, "#000000", dash="dash", hover="%{y:.2f}")
    figure.update_yaxes(range=[0, HIGHEST])
    return figure


PART = Part("landscape-", Answer, ask, draw)
