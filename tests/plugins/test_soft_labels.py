"""Weight perturbations refuse inputs that are mixed; labels that are soft for another reason they take."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from buttress import Batch, PluginError, hookimpl
from buttress_plugins.attacks.cw import CW
from buttress_plugins.attacks.spsa import SPSA

from ..models import ConvNet
from .conftest import batch_of, engine_of

PERTURBATIONS: dict[str, dict[str, Any]] = {
    "awp": {"gamma": 0.1},
    "rwp": {"gamma": 0.1, "c_min": "inf", "k2": 2},
    "rat_wp": {"gamma": 0.1, "layers": [2], "groups": {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}},
}


class Smooth:
    """Labels ``0.9 one_hot(y) + 0.1 / 3``."""

    gives = ("soft labels",)

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        return replace(batch, y=0.9 * F.one_hot(batch.y, 3).to(batch.x.dtype) + 0.1 / 3)


@pytest.mark.parametrize("attack", [CW(), SPSA()], ids=["cw", "spsa"])
def test_an_attack_on_the_margin_refuses_soft_labels(attack: Any):
    with pytest.raises(
        PluginError, match=r"refuses soft labels, which plugin 'label_smoothing' .*: its loss, the margin"
    ):
        engine_of(ConvNet(), attack, {"label_smoothing": {"num_classes": 3}})


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_weight_perturbation_takes_soft_labels_and_refuses_mixed_inputs(name: str):
    model, batch = ConvNet(), batch_of()
    before = model.linear.weight.detach().clone()
    losses, _ = engine_of(model, "fgsm", Smooth(), {name: PERTURBATIONS[name]}).step(batch.x, batch.y)
    assert bool(torch.isfinite(losses).all())
    assert not torch.equal(before, model.linear.weight)
    with pytest.raises(PluginError, match=rf"'{name}' .*refuses mixed inputs, which plugin 'mixup' .*gives: the pub"):
        engine_of(model, "fgsm", {"mixup": {"num_classes": 3}}, {name: PERTURBATIONS[name]})
