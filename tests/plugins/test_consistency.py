"""Consistency: the two views, and the divergence between their predictions."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Loss, PluginError, hookimpl
from buttress_plugins.losses.consistency import Consistency, jensen_shannon

from ..models import ConvNet
from .conftest import batch_of, engine_of


class Kept:
    """Keeps the batch as the transforms before it left it."""

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        self.batch = batch
        return batch


def test_the_batch_comes_twice_with_all_that_belongs_to_it():
    batch = Batch(torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1]), torch.arange(3), {"extra": torch.eye(3).bool()[0]})
    views = Consistency().transform_batch(batch)
    assert torch.equal(views.x, torch.cat([batch.x, batch.x]))
    assert views.y.tolist() == [2, 0, 1, 2, 0, 1]
    assert views.index is not None
    assert views.index.tolist() == [0, 1, 2, 0, 1, 2]
    assert views.aux["extra"].tolist() == [True, False, False, True, False, False]
    assert views.aux["view"].tolist() == [0, 0, 0, 1, 1, 1]
    assert Consistency().transform_batch(Batch(batch.x, batch.y)).index is None


@pytest.mark.parametrize("later", [True, False])
def test_transforms_listed_after_it_draw_for_each_view_and_those_before_it_once(later: bool):
    kept, cutout = Kept(), {"cutout": {"size": 2}}
    stack = ["consistency", cutout] if later else [cutout, "consistency"]
    engine = engine_of(ConvNet(), "fgsm", *stack, kept)
    batch = batch_of()
    result = engine.step(batch.x, batch.y)
    one, other = kept.batch.x.chunk(2)
    assert torch.equal(one, other) is not later
    assert len(result.losses) == 12


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_transform_that_mixes_stands_before_it(name: str):
    mixing = {name: {"num_classes": 3}}
    batch = batch_of()
    assert len(engine_of(ConvNet(), "fgsm", mixing, "consistency").step(batch.x, batch.y).losses) == 12
    message = rf"'{name}' .* refuses two views, which plugin 'consistency' .*each view.*; list it before that one, or"
    with pytest.raises(PluginError, match=message):
        engine_of(ConvNet(), "fgsm", "consistency", mixing)


def test_the_divergence_is_that_of_its_definition_and_symmetric():
    z = torch.randn((2, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = F.softmax(z / 0.5, 2)
    m = (p + q) / 2
    expected = 0.5 * ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1))
    assert torch.allclose(jensen_shannon(z[0], z[1], 0.5), expected, rtol=0, atol=1e-14)
    assert torch.allclose(jensen_shannon(z[1], z[0], 0.5), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_predictions_have_divergence_0_and_opposite_ones_log_2(dtype: torch.dtype):
    z = torch.tensor([[1e4, 0.0], [0.0, 1e4]], dtype=dtype, requires_grad=True)
    assert jensen_shannon(z, z).tolist() == [0.0, 0.0]
    apart = jensen_shannon(z, z.flip(0))
    assert apart.tolist() == pytest.approx([math.log(2)] * 2)
    (g,) = torch.autograd.grad(apart.sum(), z)
    assert bool(torch.isfinite(g).all())


def stepped(*stack: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    engine = engine_of(ConvNet().double(), "fgsm", *stack)
    batch = batch_of(dtype=torch.float64)
    engine.step(batch.x, batch.y)
    return dict(engine.model.state_dict())


def test_both_places_of_the_term_make_one_step_and_the_gradient_flows_to_it():
    cutout = {"cutout": {"size": 2}}
    one, other, without = (
        stepped({"consistency": settings}, cutout) for settings in ({}, {"term": "penalty"}, {"lam": 0.0})
    )
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-12) for name in one)
    assert any(not torch.equal(one[name], without[name]) for name in one)


def test_a_batch_without_views_has_the_plain_loss():
    engine = engine_of(ConvNet(), "fgsm", "consistency")
    engine.start()
    batch = batch_of(5)
    losses = engine.hooks.compute_loss(engine.model, batch, Adv(batch.x)).per_example
    assert torch.equal(losses, F.cross_entropy(engine.model(batch.x), batch.y, reduction="none"))


class ByParts:
    """A loss that forwards each example on its own."""

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        logits = torch.cat([model(each) for each in adv.x.split(6)])
        return Loss(F.cross_entropy(logits, batch.y, reduction="none"))


def test_beside_a_loss_without_the_predictions_it_forwards_itself():
    pieces = []
    for loss in (ByParts(), "cross_entropy"):
        torch.manual_seed(0)
        engine = engine_of(ConvNet().double(), "fgsm", loss, "consistency", {"cutout": {"size": 2}})
        engine.step(batch_of(dtype=torch.float64).x, batch_of().y)
        pieces.append(engine.records()["consistency.divergence"])
    assert pieces[0] == pytest.approx(pieces[1], rel=1e-9)
    assert pieces[0] > 0
