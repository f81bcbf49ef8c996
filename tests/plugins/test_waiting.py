"""Nothing in a step waits for the device, with any built-in plugin: a GPU is kept busy."""

from typing import Any

import pytest

from buttress import load_plugins
from buttress.kernels import use_backend
from buttress.testing import Waits

from ..models import ConvNet
from .catalogue import CATALOGUE, stack_of
from .conftest import batch_of, engine_of

# Settings with which more of a plugin's code runs.
SETTINGS = {
    "pgd": {"restarts": 2, "early_stop": True, "targets": "next"},
    "apgd": {"restarts": 2, "targets": "random"},
    "augment": {"pad": 1, "rotation": 15.0, "interpolation": "bilinear"},
    "cutmix": {"mixup_alpha": 0.8},
    "clip_grad": {"value": 0.1},
    "ema": {"buffers": "ema"},
}
READS_ON_THE_CPU = {"rwp"}  # whether an example is kept; on CUDA the steps that are left go on with a factor of 0
# Also on the CPU, losses.py checks the classes where pure torch computes.


def stepped(name: str, device: str = "cpu", **options: Any) -> list[str]:
    """Places at which steps wait, at the start and at the end of a run, but for the first, which makes state."""
    *before, own = stack_of(name)
    entries = [*before, {name: {**own[name], **SETTINGS.get(name, {})}}]
    model, batches = ConvNet().to(device), [batch_of(seed=seed) for seed in range(3)]
    inputs = [tuple(each.to(device) for each in (batch.x, batch.y, batch.index)) for batch in batches]
    with Waits(device) as waits:
        plugins = load_plugins(entries, given={"num_classes": 3})
        engine = engine_of(model, *plugins, **{"checks": "interval", "nonfinite": "skip", **options})
        for epoch, (x, y, index) in zip((0, 0, 5), inputs, strict=True):
            engine.epoch = epoch
            engine.step(x, y, index=index)
            if engine.global_step == 1:
                waits.places.clear()
    return waits.places


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_step_waits_for_the_device(name: str):
    own = [f"{name}.py:", "losses.py:"] if name in READS_ON_THE_CPU else []
    places = stepped(name)
    assert [place for place in places if not place.startswith(tuple(own))] == []
    assert bool(places) == bool(own)


@pytest.mark.parametrize("options", [{"nonfinite": "stop"}, {"precision": "bf16"}, {"checks": "off"}], ids=str)
def test_no_step_waits_for_the_device_with_options_of_the_engine(options: dict[str, Any]):
    assert stepped("pgd", **options) == []


@pytest.mark.parametrize("name", ["awp", "rwp", "amp"])
def test_no_step_waits_for_the_device_without_compiled_operations(name: str):
    with use_backend("torch"):
        assert bool(stepped(name)) == (name in READS_ON_THE_CPU)


@pytest.mark.cuda
@pytest.mark.parametrize("name", CATALOGUE)
def test_no_step_on_cuda_waits_for_it(name: str):
    assert stepped(name, "cuda") == []
