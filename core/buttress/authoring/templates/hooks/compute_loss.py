"""Label smoothing: the cross-entropy with labels that leave a little probability to every class.

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567, section 7.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from buttress import Adv, Batch, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Cross-entropy of the adversarial examples with smoothed labels.

    Args:
        smoothing: probability that is spread over all classes.
    """

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        return smoothed_cross_entropy(model(adv.x), batch.y, self.smoothing)


def smoothed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """``[B]`` losses in nats of ``logits [B,K]``; ``y`` is ``[B]`` labels or ``[B,K]`` soft ones."""
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def test_smoothed_cross_entropy_known_values() -> None:
    logits = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    first, second = -torch.log_softmax(logits, 1)[0]
    # A smoothing of 0.2 takes 0.1 from the label for each of two classes.
    expected = (0.9 * first + 0.1 * second).view(1)
    torch.testing.assert_close(smoothed_cross_entropy(logits, torch.tensor([0]), 0.2), expected)
