"""Buffers that each rank moves by its own rows: alike on all after a step, and never apart without a word."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Engine, ModelError
from buttress.components.loaded import load_plugins
from buttress.engine.world import World
from buttress.nn.synced_batchnorm import sync_batch_norm

from .ranks import Ranks
from .runs import EPOCHS, LINF, SIZES, batches, difference


class Scaled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * super().forward(x)


class Centred(nn.Module):
    """Subtracts a running mean of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.centre.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return x - self.centre[:, None, None]


class Frozen(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)


NORMS = {
    "own forward": Scaled,
    "own buffer": Centred,
    "frozen": Frozen,
    "instance": partial(nn.InstanceNorm2d, track_running_stats=True),
}


class Net(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = (
            nn.Conv2d(1, 4, 3),
            NORMS[norm](*[4] * (norm != "own buffer")),
            nn.Linear(4, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.linear(self.norm(self.conv(x)).relu().mean((2, 3)))
        return answer


def state_after(world: World, norm: str, batch_norm: Any) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net(norm).double()
    if norm == "frozen":  # 0.9 / 3 + 0.9 / 3 + 0.9 / 3 is not 0.9
        model.norm.running_var.fill_(0.9)
    engine = Engine(
        model.train(),
        partial(torch.optim.SGD, lr=0.1),
        load_plugins([{"pgd": {"steps": 2}}], given={"num_classes": 3}),
        LINF,
        epochs=EPOCHS,
        steps_per_epoch=len(SIZES),
        world=world,
        batch_norm=batch_norm,
    )
    for epoch in range(EPOCHS):
        for batch in batches(epoch):
            engine.step(batch.x, batch.y, index=batch.index)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("norm", "batch_norm"),
    [("own forward", "local"), ("own buffer", "local"), ("own buffer", "sync"), ("instance", "sync")],
)
def test_all_ranks_have_the_same_buffers(ranks: Ranks, norm: str, batch_norm: str):
    one, *others = ranks.call(state_after, norm, batch_norm)
    assert all(difference(one, other) == 0.0 for other in others)
    if norm == "instance":
        assert difference(one, state_after(World(), norm, batch_norm)) < 1e-9


@pytest.mark.parametrize("batch_norm", ["local", "sync"])
def test_frozen_statistics_stay_bit_for_bit(ranks: Ranks, batch_norm: str):
    for state in ranks.call(state_after, "frozen", batch_norm):
        assert (state["norm.running_var"] == torch.tensor(0.9, dtype=torch.float64)).all()


def refused(world: World) -> str:
    with pytest.raises(ModelError) as error:
        state_after(world, "own forward", "sync")
    return str(error.value)


def test_a_batch_norm_that_cannot_be_synced_is_refused(ranks: Ranks):
    for message in ranks.call(refused):
        assert "the module 'norm' is a Scaled, a batch norm with a forward of its own" in message


def test_half_precision_is_normalised_as_precisely_as_in_one_process():
    torch.manual_seed(0)
    x = (torch.randn(16, 3, 4, 4) + 10).bfloat16()
    plain, synced = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    sync_batch_norm(synced, lambda: False, lambda values: 2 * values)  # as where the other rank has the same rows
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = plain(torch.cat([x, x]))[:16], synced(x)
    assert got.dtype == expected.dtype == torch.bfloat16
    assert difference(got.detach(), expected.detach()) <= 2**-6  # an ulp of numbers in [2, 4)
    assert difference(dict(synced.state_dict()), dict(plain.state_dict())) < 1e-4
