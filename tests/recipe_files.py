"""Files that a recipe starts from, which its user has to make or fetch: here with random weights."""

from collections.abc import Sequence
from pathlib import Path

import torch

from buttress import Data
from buttress.config.file import load_config
from buttress.training.model import build_model


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
