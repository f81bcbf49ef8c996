"""The spread of the values of weights: a histogram, standard deviation, largest magnitude and kurtosis.

Source: MEAT, arXiv:2406.14259, figure 1b: the last convolution at the end of training, of the live model and of its
ensembles, on shared bins. A median has fewer outliers than a mean: a smaller maximum and kurtosis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import model_validator
from torch import Tensor, nn

from buttress.analysis.answers import Edges, Measured, expect_consistent
from buttress.analysis.figures import add_curve, empty_figure
from buttress.analysis.part import NamedAnswer, Options, Part, tracks_with_weights
from buttress.analysis.pictures import figure_at
from buttress.analysis.study import Study
from buttress.errors import ModelError
from buttress.nn.modes import parameters_of
from buttress.storage.shapes import Count, Shape
from buttress.training.curves import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Moments:
    """Moments of the values of a tensor, all in float64.

    Args:
        n: number of values.
        mean: their mean.
        std: their standard deviation (as a population: divided by n).
        largest: their largest magnitude.
        kurtosis: fourth central moment over the squared variance: 3 for a normal distribution, NaN for a constant.
    """

    n: int
    mean: float
    std: float
    largest: float
    kurtosis: float


def moments(values: Tensor) -> Moments:
    """Moments of ``values [*]``."""
    flat = values.detach().double().flatten()
    central = flat - flat.mean()
    variance = central.square().mean()
    kurtosis = central.pow(4).mean() / variance.square()
    return Moments(len(flat), float(flat.mean()), float(variance.sqrt()), float(flat.abs().max()), float(kurtosis))


def histograms(weights: Mapping[str, Tensor], bins: int = 61) -> tuple[Tensor, dict[str, Tensor]]:
    """Histograms on shared bins, which are symmetric about 0 and reach to the largest magnitude of all tensors.

    Args:
        weights: tensors ``[*]`` by the name of a track.
        bins: number of bins.

    Returns:
        ``[bins + 1]`` edges, and ``[bins]`` counts by name.
    """
    flat = {name: values.detach().double().flatten().cpu() for name, values in weights.items()}
    reach = max(float(values.abs().max()) for values in flat.values()) or 1.0
    edges = torch.linspace(-reach, reach, bins + 1, dtype=torch.float64)
    return edges, {name: torch.histogram(values, edges).hist.long() for name, values in flat.items()}


def tensors_to_bin(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that have more than one dimension, and at least one value."""
    return {name: weight for name, weight in weights.items() if weight.dim() > 1 and weight.numel() > 0}


def last_convolution(model: nn.Module) -> str:
    """Name of the weight of the last convolution that is no 1x1 shortcut, or of the last matrix if there is none.

    Raises:
        ModelError: the model has no weight of more than one dimension.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    convolutions = [
        names[id(module.weight)]
        for module in model.modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and max(module.kernel_size) > 1
    ]
    candidates = convolutions or list(tensors_to_bin(parameters_of(model)))
    if not candidates:
        raise ModelError(f"model {type(model).__name__} has no weight of more than one dimension to look at")
    return candidates[-1]


class Weights(Shape):
    """How the weights of one track are spread."""

    counts: list[Count]
    std: Measured
    largest: Measured
    kurtosis: Measured


class Answer(Shape):
    layer: str
    checkpoint: str
    edges: Edges
    tracks: dict[str, Weights]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        bins = len(self.edges) - 1
        expect_consistent(all(len(each.counts) == bins for each in self.tracks.values()), "one count for each bin")
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """Weights of the last convolution, of every track, on shared bins."""
    layer = last_convolution(study.model)
    weights = {track: study.parameters(track) for track in tracks_with_weights(study)}
    edges, counts = histograms({track: own[layer] for track, own in weights.items()})
    tracks = {
        track: {
            "counts": counts[track],
            **asdict(moments(own[layer])),
            "layers": {name: asdict(moments(weight)) for name, weight in tensors_to_bin(own).items()},
        }
        for track, own in weights.items()
    }
    numbers = {"layer": layer, "checkpoint": study.checkpoint, "edges": edges, "tracks": tracks}
    yield NamedAnswer("histogram", numbers)


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Weights of one layer, of every track, on shared bins."""
    edges = numbers["edges"]
    with figure_at(path, f"weights of {numbers['layer']}, {numbers['checkpoint']}") as axes:
        for (track, own), colour in zip(numbers["tracks"].items(), COLOURS * 9, strict=False):
            kurtosis = "undefined" if own["kurtosis"] is None else f"{own['kurtosis']:.1f}"
            label = f"{track}: std {own['std']:.4f}, largest {own['largest']:.3f}, kurtosis {kurtosis}"
            axes.stairs(own["counts"], edges, color=colour, linewidth=1.5, label=label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, None)
        axes.set_xlabel("weight")
        axes.set_ylabel("number of weights")
        axes.legend(fontsize=8, loc="lower center")


def figure(numbers: Mapping[str, Any], tracks: Sequence[str]) -> go.Figure:
    """Weights of one layer in each of ``tracks``, on shared bins."""
    figure = empty_figure("number of weights", x=f"weight of {numbers['layer']}", whole=False)
    middles = [(low + high) / 2 for low, high in pairwise(numbers["edges"])]
    for track, colour in zip(tracks, COLOURS * 9, strict=False):
        if track not in numbers["tracks"]:
            continue
        counts = [count or None for count in numbers["tracks"][track]["counts"]]  # a logarithm has no 0
        add_curve(figure, middles, counts, track, colour, shape="hvh", hover="%{y}")
    figure.update_yaxes(type="log", dtick=1)
    return figure


PART = Part("histogram", Answer, ask, draw)
