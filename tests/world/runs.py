"""A short training with any stack, on any number of ranks, as numbers to compare."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel
from buttress.components.loaded import load_plugins
from buttress.engine.split import part_of
from buttress.engine.world import World

from ..models import ConvNet

SIZES = [8, 8, 7, 8, 2]  # of the batches of an epoch; the last has fewer rows than three ranks
EPOCHS = 4
LINF = ThreatModel("linf", "1/10")


def batches(epoch: int, extra: bool = False) -> list[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    total = sum(SIZES)
    x = torch.rand((total, 1, 4, 4), generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (total,), generator=generator)
    index = torch.arange(total)
    aux = {"extra": torch.arange(total) % 3 == 0, "unlabelled": torch.arange(total) % 5 == 0} if extra else {}
    parts = zip(x.split(SIZES), y.split(SIZES), index.split(SIZES), strict=True)
    starts = [sum(SIZES[:k]) for k in range(len(SIZES))]
    return [
        Batch(a, b, c, {name: value[s : s + len(a)] for name, value in aux.items()})
        for (a, b, c), s in zip(parts, starts, strict=True)
    ]


def engine_of(world: World, stack: list[Any], net: Callable[[], nn.Module] = ConvNet, **options: Any) -> Engine:
    world.counts.clear()
    model = net().double()
    loaded = load_plugins(stack, given={"num_classes": 3})
    factory = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
    return Engine(
        model,
        factory,
        loaded,
        LINF,
        epochs=EPOCHS,
        steps_per_epoch=len(SIZES),
        examples=sum(SIZES),
        classes=[12, 11, 10],
        batches=lambda: iter(batches(0)),
        validation=lambda: iter(batches(9)),
        world=world,
        **{"batch_norm": "sync", **options},
    )


def trained(
    world: World, stack: list[Any], extra: bool = False, by_rows: bool = False, **options: Any
) -> dict[str, Any]:
    """Weights, buffers, tracks, losses, metrics and collectives of 20 steps; ``by_rows`` gives each rank its rows."""
    engine = engine_of(world, stack, **options)
    losses: list[Tensor] = []
    records: list[dict[str, float]] = []
    for epoch in range(EPOCHS):
        for batch in batches(epoch, extra):
            rows = world.rows(len(batch.x)) if by_rows else None
            part = batch if rows is None else part_of(batch, rows)
            result = engine.step(part.x, part.y, index=part.index, aux=part.aux, rows=rows)
            losses.append(world.sum(result.losses.sum()) / len(batch.x))
        records.append(engine.records())
        engine.end_epoch({"loss": 1.0})
    tracks = {}
    for track in engine.tracks():
        with engine.track(track) as model:
            tracks[track.name] = {name: value.clone() for name, value in model.state_dict().items()}
    return {
        "state": {name: value.clone() for name, value in engine.model.state_dict().items()},
        "tracks": tracks,
        "losses": torch.stack(losses),
        "records": records,
        "counts": dict(world.counts),
    }


def difference(one: Any, other: Any) -> float:
    """Largest difference between numbers, tensors, and lists and dicts of them."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        return max(map(difference, one, other), default=0.0)
    gap = (torch.as_tensor(one, dtype=torch.float64) - torch.as_tensor(other, dtype=torch.float64)).abs()
    return float(gap.max()) if gap.numel() else 0.0
