"""Label smoothing against ``label_smoothing`` of torch's cross-entropy, on hard and on soft labels."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from buttress import Adv, Batch
from buttress.functional import cross_entropy
from buttress_plugins.losses.cross_entropy import CrossEntropy
from buttress_plugins.transforms.label_smoothing import LabelSmoothing

from ..core.helpers import batch_of
from ..models import ConvNet
from .conftest import context


def smoothed(y: torch.Tensor, epsilon: float, num_classes: int = 5) -> torch.Tensor:
    x = torch.zeros((len(y), 2), dtype=torch.float64)
    return LabelSmoothing(num_classes=num_classes, epsilon=epsilon).transform_batch(Batch(x, y), context()).y


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_the_cross_entropy_is_that_of_torch(epsilon: float):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((7, 5), generator=generator, dtype=torch.float64)
    y = torch.randint(5, (7,), generator=generator)
    expected = F.cross_entropy(logits, y, reduction="none", label_smoothing=epsilon)
    torch.testing.assert_close(cross_entropy(logits, smoothed(y, epsilon)), expected, rtol=1e-14, atol=0)


def test_soft_labels_move_towards_the_uniform_ones():
    y = torch.tensor([[0.25, 0.75, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.25, 0.65, 0.05, 0.05]], dtype=torch.float64)
    torch.testing.assert_close(smoothed(y, 0.2), expected, rtol=1e-14, atol=0)


def test_the_smoothing_of_a_loss_is_that_of_the_labels_in_masks_too():
    """``masked_loss``, by which RWP sees the losses, with hard labels that the loss smooths and with smoothed ones."""
    model, batch = ConvNet().double(), batch_of(dtype=torch.float64)
    soft = replace(batch, y=smoothed(batch.y, 0.1, 3))
    for c_min in (1.1, float("inf")):
        one = CrossEntropy(label_smoothing=0.1).masked_loss(model, batch, Adv(batch.x), c_min, True)
        other = CrossEntropy().masked_loss(model, soft, Adv(batch.x), c_min, True)
        torch.testing.assert_close(one[0], other[0], rtol=1e-14, atol=0)
        assert one[1] == other[1]
