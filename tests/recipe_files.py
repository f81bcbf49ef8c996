"""What a recipe takes to run here: small networks, and files that its user has to make or fetch, made at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from buttress import Data
from buttress.config.file import load_config
from buttress.config.schema import Config
from buttress.training.model import build_model

from .image_sets import cifar, images, svhn

_TRANSFORMER = ["model.options.depth=1", "model.options.embed_dim=16", "model.options.num_heads=2"]
# Beginning of a model's name to the settings that make it small.
_NARROW = {
    "wrn": ["model.widen=1"],
    "preact": ["model.width=2"],
    "mlp": ["model.hidden=[4]"],
    **dict.fromkeys(("timm", "vit", "deit", "convit"), _TRANSFORMER),
}


def cut_down(config: Config) -> list[str]:
    """Overrides with which a recipe trains in a fraction of a second: few channels, two examples, two attack steps."""
    small = _NARROW[config.model.name.partition("_")[0]]
    plugins = [(name, settings) for entry in config.plugins for name, settings in entry.items()]
    counts = [f"{name}.{key}=2" for name, settings in plugins for key in ("steps", "k2") if key in settings]
    # A narrow network is not safe in the channels-last layout (tests/nn/test_layout.py).
    return [*small, *counts, "model.memory_format=contiguous", "data.batch_size=2", "device=cpu"]


@dataclass(frozen=True)
class DataFiles:
    """CIFAR and SVHN in ``folder``, in their true formats, and images with a teacher's labels in ``extra.npz``."""

    folder: Path

    def overrides(self, config: Config) -> list[str]:
        """Overrides that let a recipe use the files; of held-out images, one or two of each class remain."""
        data = config.data
        if data.name not in ("cifar10", "cifar100", "svhn"):  # they come with packages
            return further_images(config, self.folder)
        extra = [f"data.extra.path={self.folder / 'extra.npz'}"] if data.extra else []
        held = {"cifar100": 100}.get(data.name, 20) if data.settings()["validation"] else 0
        return [f"data.root={self.folder}", f"data.validation={held}", *extra]


def data_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DataFiles:
    """Make the files; torchvision takes them for the published ones."""
    cifar(folder, datasets.CIFAR10, monkeypatch, 10, "labels")
    cifar(folder, datasets.CIFAR100, monkeypatch, 100, "fine_labels")
    svhn(folder, monkeypatch)
    np.savez(folder / "extra.npz", image=images(40, 7).transpose(0, 2, 3, 1), label=np.arange(40) % 10)
    return DataFiles(folder)


def further_images(config: Config, folder: Path) -> list[str]:
    """Make the file of further images of a recipe on digits in ``folder``; overrides that name it, with its labels."""
    if not any("file" in section.given() for section in config.data.extras.values()):
        return []
    pixels = np.random.default_rng(7).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "copies.npz", image=pixels, label=np.arange(40) % 10)
    return [f"data.extra.file={folder / 'copies.npz'}", "data.extra.labels=given"]


def files_for(recipe: Path, overrides: Sequence[str], data: Data, folder: Path) -> list[str]:
    """Make the files that a recipe names in ``folder``; overrides that name them in place of its own.

    Args:
        recipe: the recipe.
        overrides: overrides with which it will be loaded.
        data: data that give the network its sizes.
        folder: folder of the files.
    """
    given = load_config(recipe, overrides).config
    stacks = [plugin for plugin in given.plugins if isinstance(plugin, dict)]
    weights = given.model.weights
    if weights is None and not any("kd" in stack for stack in stacks):
        return []
    made, _ = build_model(load_config(recipe, [*overrides, "model.weights=null", "plugins=[clean]"]), data)
    state = made.state_dict()
    named = []
    if weights is not None:  # with a head for two classes
        heads = {name: tensor[:2] for name, tensor in state.items() if name.startswith(tuple(weights.fresh))}
        torch.save({**state, **heads}, folder / "start.pt")
        named.append(f"model.weights.file={folder / 'start.pt'}")
    if any("kd" in stack for stack in stacks):
        torch.save(state, folder / "teacher.pt")
        named += [f"kd.{teacher}={folder / 'teacher.pt'}" for teacher in ("standard", "robust")]
    return named
