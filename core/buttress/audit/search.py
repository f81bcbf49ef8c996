"""A black-box attack of a few lines: random search over the corners of the ball, by the logits alone.

In the manner of Andriushchenko et al., "Square Attack", arXiv:1912.00049, without its squares: inputs need not be
images. It is weak, and meant to be: where it breaks what a gradient attack does not, the gradients are at fault.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from buttress.functional import margin
from buttress.threat import ThreatModel, per_example, unit_l2

# Queries an example, and the share of its elements that the first query changes; it falls to a hundredth of that.
QUERIES, FIRST_SHARE = 300, 0.3


@torch.no_grad()
def random_search(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    generator: torch.Generator,
    queries: int = QUERIES,
) -> Tensor:
    """Search the corners of the ball at random for the highest margin.

    Args:
        logits: inputs ``[B,*]`` to ``[B,K]``.
        x: ``[B,*]`` inputs inside the box.
        y: ``[B]`` labels.
        threat: the ball.
        generator: random stream of the search.
        queries: number of queries for each example.

    Returns:
        ``[B,*]``, inside the threat model.
    """

    def signs() -> Tensor:
        return torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1

    best = signs()
    x_best = _corner(x, best, threat)
    highest = margin(logits(x_best), y)
    for query in range(queries):
        part = FIRST_SHARE * 0.01 ** (query / queries)
        changed = torch.rand(x.shape, generator=generator, device=x.device) < part
        tried = torch.where(changed, signs(), best)
        x_tried = _corner(x, tried, threat)
        margins = margin(logits(x_tried), y)
        better = margins > highest
        highest = torch.where(better, margins, highest)
        best = torch.where(per_example(better, x), tried, best)
        x_best = torch.where(per_example(better, x), x_tried, x_best)
    return x_best


def _corner(x: Tensor, signs: Tensor, threat: ThreatModel) -> Tensor:
    """``x`` moved by eps in the directions ``signs``; for L2 as far as the ball allows."""
    if threat.norm == "l2":
        signs = unit_l2(signs)
    return threat.project(x + float(threat.eps) * signs, x)
