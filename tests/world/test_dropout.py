"""Dropout in a model, whose masks are drawn from torch's global generators: the ranks keep equal weights."""

import torch
from torch import Tensor

from buttress import Engine, ThreatModel
from buttress.components.loaded import load_plugins
from buttress.engine.world import World
from buttress.training.rng_states import seed_globally

from ..models import DroppingNet
from .ranks import Ranks
from .runs import batches, difference


def weights(world: World) -> tuple[dict[str, Tensor], Tensor]:
    """Weights after an epoch whose last batch is whole on each of three ranks, and the next number of torch's own."""
    seed_globally(world, 0)
    model = DroppingNet().double()
    engine = Engine(
        model, lambda w: torch.optim.SGD(w, lr=0.1), load_plugins(["fgsm"]), ThreatModel("linf", "1/10"), world=world
    )
    for batch in batches(0):
        engine.step(batch.x, batch.y)
    return dict(model.state_dict()), torch.rand(4)


def test_ranks_keep_equal_weights_and_masks_of_their_own(ranks: Ranks):
    (first, mask), *others = ranks.call(weights)
    for state, own in others:
        assert difference(first, state) == 0
        assert difference(mask, own) > 0
