"""Loss landscapes: the adversarial loss along one direction, group by group, and over the plane of two.

1-D, per LSC group (Yu et al., arXiv:2205.14826, figure 2): ``g_j(mu) = mean over group j of loss(w + mu d; x', y)``,
the same d for all groups. Inputs are attacked once, at w, as there; AWP (Wu et al., arXiv:2004.05884, section 3)
attacks anew at every mu: ``inputs`` decides. Groups are made at w in both cases. Batch norm keeps the statistics of w.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from buttress.analysis.directions import Inputs, losses_at
from buttress.scoring.loss_groups import EDGES, group_numbers


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
        model: at the weights w.
        direction: of the weights.
        mu: P steps along it.
        inputs: attacked examples, see ``Inputs``.
        losses: ``[n]`` losses of the attacked examples at w, which make the groups.
        edges: of the groups.
    """
    rows = losses_at(model, [direction], [[step] for step in mu], inputs).double()
    numbers = group_numbers(losses.cpu(), edges)
    groups = torch.stack([rows[:, numbers == number].mean(1) for number in range(len(edges))])
    return GroupLandscape(torch.bincount(numbers, minlength=len(edges)), groups, rows.mean(1))


def surface(
    model: nn.Module, directions: Sequence[Mapping[str, Tensor]], steps: Sequence[float], inputs: Inputs
) -> Tensor:
    """``[P, P]`` mean losses in nats at ``w + a d_1 + b d_2``; a along the first axis, b along the second.

    Source: MEAT, arXiv:2406.14259, section 4; PIAT, arXiv:2511.00836, eq. 13.

    Args:
        model: at the weights w.
        directions: d_1 and d_2.
        steps: P values of a, and of b.
        inputs: attacked examples, see ``Inputs``.
    """
    points = [[a, b] for a in steps for b in steps]
    return losses_at(model, directions, points, inputs).double().mean(1).view(len(steps), len(steps))
