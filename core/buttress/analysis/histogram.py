"""How the values of weights are spread: a histogram, and its standard deviation, largest magnitude and kurtosis.

Source: MEAT, arXiv:2406.14259, figure 1b: the last convolution at the end of training, of the live model and of its
ensembles, on shared bins. A median has fewer outliers than a mean: a smaller maximum and kurtosis.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buttress.errors import ModelError
from buttress.nn.modes import parameters_of


@dataclass(frozen=True)
class Moments:
    """Of the values of a tensor, all in float64.

    Args:
        n: number of values.
        mean: their mean.
        std: their standard deviation (of the population: divided by n).
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
    """Histograms on shared bins, which are symmetric about 0 and reach to the largest magnitude of all.

    Args:
        weights: tensors ``[*]`` by name (of a track).
        bins: number of bins.

    Returns:
        ``[bins + 1]`` edges, and ``[bins]`` counts by name.
    """
    flat = {name: values.detach().double().flatten().cpu() for name, values in weights.items()}
    reach = max(float(values.abs().max()) for values in flat.values()) or 1.0
    edges = torch.linspace(-reach, reach, bins + 1, dtype=torch.float64)
    return edges, {name: torch.histogram(values, edges).hist.long() for name, values in flat.items()}


def matrices(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``weights`` that have more than one dimension, and values in it."""
    return {name: weight for name, weight in weights.items() if weight.dim() > 1 and weight.numel() > 0}


def last_convolution(model: nn.Module) -> str:
    """Name of the weight of the last convolution that is no 1x1 shortcut; without one, of the last matrix.

    Raises:
        ModelError: the model has no weight of more than one dimension.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    convolutions = [
        names[id(module.weight)]
        for module in model.modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and max(module.kernel_size) > 1
    ]
    found = convolutions or list(matrices(parameters_of(model)))
    if not found:
        raise ModelError(f"model {type(model).__name__} has no weight of more than one dimension to look at")
    return found[-1]
