"""Training on a folder of images by several ranks, each of which reads the files of its own rows."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Engine, ThreatModel
from buttress.components.loaded import load_plugins
from buttress.data.double import DoubleSplit
from buttress.data.order import epoch_order
from buttress.data.training_set import TrainingSet
from buttress.engine.world import World
from buttress_plugins.data import image_folder
from buttress_plugins.data.image_folder import ImageFolder

from ..photo_folder import write_photos
from .ranks import Ranks
from .runs import difference

IMAGES, BATCH, STEPS = 16, 7, 3  # batches of 7, 7 and 2, of which the last has fewer rows than three ranks
STACK: list[Any] = [{"augment": {"pad": 2}}, {"cutout": {"size": 3}}, {"pgd": {"steps": 2, "step_size": "1/100"}}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, {"train": IMAGES // 2, "test": 3}, suffix="jpg")
    return folder


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
        ).double()


def trained(world: World, root: Path, workers: int, start: int = 0) -> dict[str, Any]:
    """The model after an epoch, from step ``start`` on; losses, and the files that this rank opened in this process."""
    train = ImageFolder(root=root, size=8, workers=workers).load(0).train
    factory = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    plugins = load_plugins(STACK, given={"num_classes": 2})
    threat = ThreatModel("linf", "4/255")
    engine = Engine(
        network(), factory, plugins, threat, epochs=1, steps_per_epoch=STEPS, world=world, batch_norm="sync"
    )
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        open_image = image_folder.open_image
        patch.setattr(image_folder, "open_image", lambda path: opened.append(path) or open_image(path))
        losses, batches = [], TrainingSet(DoubleSplit(train), BATCH, False, 0)
        for batch, rows in batches.own_batches(0, start, world.rows):
            result = engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux, rows=rows)
            losses.append(world.sum(result.losses.sum()))
    state = {name: value.clone() for name, value in engine.model.state_dict().items()}
    return {"state": state, "losses": losses, "opened": opened}


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_give_the_numbers_of_one_process_and_read_their_own_files(ranks: Ranks, root: Path, workers: int):
    one = trained(World(), root, 0)
    answers = ranks.call(trained, root, workers)
    paths = sorted(map(str, root.glob("train/*/*.jpg")))
    parts = epoch_order(IMAGES, 0, 0).split(BATCH)
    for rank, answer in enumerate(answers):
        for part in ("state", "losses"):
            assert difference(one[part], answer[part]) < 1e-9, part
        own = [part[rank :: ranks.size] if len(part) >= ranks.size else part for part in parts]
        expected = [paths[position] for part in own for position in part.tolist()]
        assert answer["opened"] == (expected if workers == 0 else [])  # workers open them elsewhere
