"""Training on devices: averages that follow the model, and CUDA against the CPU."""

from typing import Any

import pytest
import torch
from torch import nn

from buttress.components.loaded import LoadedPlugin, load_plugins
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import HookError

from ..core.helpers import LINF, SHORT_PGD, batch_of, engine_of, snapshot
from ..models import MLP, ConvNet
from .helpers import leaving_the_ball


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_a_loaded_average_follows_the_model_to_its_device(name: str):
    entry = {name: {"start": 0}}
    here, there = nn.Linear(2, 2), nn.Linear(2, 2, device="meta")  # meta: any device but that of the checkpoint
    (kept,), (resumed,) = load_plugins([entry]), load_plugins([entry])
    states = {device: RunState(LINF, torch.device(device)) for device in ("cpu", "meta")}
    contexts = {device: Context(state, name) for device, state in states.items()}
    for loaded, model in ((kept, here), (resumed, there)):
        if hasattr(loaded.plugin, "start_run"):
            loaded.plugin.start_run(model, contexts[model.weight.device.type])

    def step_and_epoch(loaded: LoadedPlugin, model: nn.Linear) -> None:
        device = model.weight.device
        with states[device.type].after_update(torch.zeros((), dtype=torch.bool, device=device)):
            loaded.plugin.ensemble_weights(model, "step", contexts[device.type])
        loaded.plugin.ensemble_weights(model, "epoch", contexts[device.type])

    step_and_epoch(kept, here)
    resumed.plugin.load_state_dict(kept.plugin.state_dict())
    step_and_epoch(resumed, there)
    track = resumed.plugin.ensemble_weights(there, "evaluate", contexts["meta"])
    assert {weight.device.type for weight in track.weights.values()} == {"meta"}


@pytest.mark.cuda
def test_training_on_cuda_equals_training_on_the_cpu():
    trained = []
    for device in ("cpu", "cuda"):
        model = ConvNet().double().to(device)
        engine = engine_of(model, SHORT_PGD, {"ema": {"tau": 0.5}}, weight_decay=0.01)
        for seed in range(3):
            batch, start = (
                batch_of(seed=seed, dtype=torch.float64),
                batch_of(seed=50 + seed, dtype=torch.float64).x / 50,
            )
            engine.step(batch.x.to(device), batch.y.to(device), draws={"pgd.start": start.to(device)})
        engine.end_epoch()
        (track,) = engine.tracks()
        trained.append([value.cpu() for value in (*snapshot(model).values(), *track.weights.values())])
    for on_cpu, on_cuda in zip(*trained, strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=1e-10)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "stack",
    [
        ["pgd", {"awp": {"gamma": 0.1}}],
        [{"pgd": {"loss": "kl", "start": "gaussian"}}, "trades"],
        [{"apgd": {"steps": 4}}, {"ema": {"tau": 0.5}}],
    ],
    ids=["AWP", "TRADES", "APGD"],
)
def test_attack_steps_that_are_captured_on_cuda_give_the_same_numbers(stack: list[Any]):
    trained = []
    for choice in ("off", "graphs"):
        model = ConvNet().double().cuda()
        engine = engine_of(model, *stack, compile=choice)
        for seed in range(3):
            batch = batch_of(seed=seed, dtype=torch.float64)
            engine.step(batch.x.cuda(), batch.y.cuda())
        trained.append(snapshot(model))
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=0, atol=1e-10)


@pytest.mark.cuda
def test_checks_on_cuda_are_read_at_intervals_by_default():
    engine = engine_of(MLP().cuda(), leaving_the_ball({1}))
    for seed in range(3):
        batch = batch_of(seed=seed)
        engine.step(batch.x.cuda(), batch.y.cuda())
    with pytest.raises(HookError, match="first at epoch 1, step 2"):
        engine.read_checks()
