"""Every random draw of a built-in plugin can be injected, under a name that its page and its docstring state."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ..models import ConvNet
from .catalogue import CATALOGUE, stack_of
from .conftest import batch_of, engine_of

PAGES = Path(__file__).parents[2] / "docs" / "methods"
# Settings with which a plugin makes all its draws.
SETTINGS = {
    "apgd": {"targets": "random"},
    "pgd": {"targets": "random"},
    "fgsm": {"start": "uniform"},
    "augment": {"pad": 1, "rotation": 15.0},
    "fat": {"steps": 3, "rises": [0]},
    "fawa": {"threshold": 0.0, "attack": "pgd"},
    **{name: {"num_classes": 3} for name in ("cfa", "mixup", "cutmix", "label_smoothing")},
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_draw_can_be_injected_under_a_documented_name(name: str):
    *before, own = stack_of(name)
    stack = [*before, {name: {**own[name], **SETTINGS.get(name, {})}}]
    engine = engine_of(ConvNet(), *stack)
    batch = batch_of()
    engine.step(batch.x, batch.y, index=batch.index)
    asked = set(engine._state.requested_draws)
    engine.end_epoch()
    asked |= engine._state.requested_draws
    made = {f"{plugin}.{purpose}" for plugin, purpose, *_ in engine._state._generators if plugin == name}
    names = {re.sub(r"\.\d+$", "", each) for each in asked if each.startswith(f"{name}.")}
    assert made <= names, "a random draw that cannot be injected"
    (point,) = entry_points(group="buttress.plugins", name=name)
    for text in (PAGES / f"{name}.md").read_text(), point.load().__doc__:
        assert names <= set(re.findall(rf"\b{name}\.[a-z_]+", text))
