"""Training on images that several ranks map from one file: the numbers of one process."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buttress import Engine, Split, ThreatModel
from buttress.components.loaded import load_plugins
from buttress.data.double import DoubleSplit
from buttress.data.extra_source import ExtraSource
from buttress.data.training_set import TrainingSet
from buttress.engine.world import World
from buttress_plugins.data.mapped import Mapped

from ..models import ConvNet
from .ranks import Ranks
from .runs import difference

BATCH, STEPS = 9, 3
STACK: list[Any] = ["mixup", {"pgd": {"steps": 2, "step_size": "1/100"}}]


class Read(Split):
    """A split in memory of which each rank has its own rows."""

    reads_rows = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("mapped"), np.random.default_rng(0)
    arrays = {"image": rng.integers(0, 256, (30, 4, 4, 1), dtype=np.uint8), "label": np.arange(30) % 3}
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "compressed.npz", **arrays)
    return folder


def trained(world: World, folder: Path, stack: list[Any], kind: type[Split], start: int = 0) -> dict[str, Any]:
    """Weights after an epoch, from step ``start`` on, its losses, and the positions that this rank had."""
    real = kind(torch.rand(25, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(25) % 3)
    sources = [
        ExtraSource(DoubleSplit(Mapped(file=folder / f"{name}.npz").load(0).train), share, replacement)
        for name, share, replacement in (("stored", Fraction(4, 9), True), ("compressed", Fraction(2, 9), False))
    ]
    examples = TrainingSet(DoubleSplit(real), BATCH, False, 0, sources)
    engine = Engine(
        ConvNet().double(),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        load_plugins(stack, given={"num_classes": 3}),
        ThreatModel("linf", "1/10"),
        epochs=1,
        steps_per_epoch=STEPS,
        world=world,
        batch_norm="sync",
    )
    losses, index = [], []
    for batch, rows in examples.own_batches(0, start, world.rows):
        result = engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux, rows=rows)
        losses.append(world.sum(result.losses.sum()) / BATCH)
        index.append(batch.index)
    state = {name: value.clone() for name, value in engine.model.state_dict().items()}
    return {"state": state, "losses": losses, "index": index}


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(("kind", "stack"), [(Split, STACK), (Read, STACK[1:])], ids=["whole batches", "own rows"])
def test_ranks_give_the_numbers_of_one_process(
    ranks: Ranks, folder: Path, start: int, kind: type[Split], stack: list[Any]
):
    one = trained(World(), folder, stack, Split, start)
    answers = ranks.call(trained, folder, stack, kind, start)
    for rank, answer in enumerate(answers):
        for part in ("state", "losses"):
            assert difference(one[part], answer[part]) < 1e-9, part
        own = slice(rank, None, ranks.size) if kind is Read else slice(None)
        assert [each.tolist() for each in answer["index"]] == [each[own].tolist() for each in one["index"]]
