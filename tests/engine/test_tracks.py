"""Ensembles and tracks: named, swapped in, measured, and swapped out bit for bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from buttress import Batch, Track
from buttress.engine.context import Context
from buttress.errors import HookError, PluginError

from ..core.helpers import assert_same, batch_of, clean_attack, engine_of, gradient, plugin, snapshot, step, weights_of
from ..models import MLP, ConvNet


def test_a_plugin_that_writes_back_is_called_first():
    calls = []

    def ensemble(label: str, **members: Any) -> Any:
        return plugin(label, ensemble_weights=lambda self, event: calls.append((event, label)), **members)

    engine = engine_of(
        MLP(),
        clean_attack(),
        ensemble("reads"),
        ensemble("writes", writes_back=True),
        ensemble("reads too", writes_back=False),
        ensemble("writes too", writes_back=True),
    )
    step(engine)
    engine.end_epoch()
    engine.tracks()
    names = ["writes", "writes too", "reads", "reads too"]
    assert calls == [(event, name) for event in ("step", "epoch", "evaluate") for name in names]


def tracking(label: str, track: Any) -> Any:
    return plugin(label, ensemble_weights=lambda self, model, event: track(model) if event == "evaluate" else None)


def test_track_names_are_unique():
    engine = engine_of(
        MLP(),
        clean_attack(),
        tracking("one", lambda model: Track("wa", None)),
        tracking("two", lambda model: Track("wa", None)),
    )
    with pytest.raises(PluginError, match=r"(?s)plugin 'two'.*the track name 'wa' is taken"):
        engine.tracks()


def test_a_track_may_not_be_called_live():
    engine = engine_of(MLP(), clean_attack(), tracking("one", lambda model: Track("live", None)))
    with pytest.raises(PluginError, match="the track name 'live' is taken"):
        engine.tracks()


@pytest.mark.parametrize("name", ["", "../../x", "a/b", ".hidden", "a b", None])
def test_a_track_is_named_as_a_file_can_be(name: Any):
    engine = engine_of(MLP(), clean_attack(), tracking("one", lambda model: Track(name, None)))
    with pytest.raises(PluginError, match=rf"plugin 'one' .*track name {name!r}: expected letters, digits"):
        engine.tracks()


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "second.bias"}, "second.bias"),
        (lambda w: {**w, "ghost": torch.zeros(1)}, "ghost"),
        (lambda w: {**w, "first.bias": torch.zeros(6)}, "first.bias"),
    ],
)
def test_a_track_holds_every_parameter_in_its_shape(weights: Any, wrong: str):
    engine = engine_of(MLP(), clean_attack(), tracking("t", lambda model: Track("t", weights(weights_of(model)))))
    with pytest.raises(HookError, match=rf"track 't': expected a tensor for every parameter.*wrong: {wrong}"):
        engine.tracks()


@pytest.mark.parametrize("buffers", ["live", "given", "reestimate"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("bn_inputs", ["clean", "adv"])
def test_a_track_swaps_in_its_weights_and_gives_everything_back_bit_for_bit(buffers: Any, fails: bool, bn_inputs: Any):
    model = ConvNet()
    engine = engine_of(model, {"pgd": {"steps": 2}})
    step(engine)
    before = snapshot(model)
    weights = {name: torch.full_like(weight, 0.1) for name, weight in model.named_parameters()}
    track = Track("t", weights, buffers, {"bn.running_mean": torch.full((4,), 5.0)}, bn_inputs)

    def look() -> None:
        with engine.track(track, lambda: [batch_of(seed=1)]) as inside:
            assert inside is model
            assert_same(weights, weights_of(model))
            moved = not torch.equal(model.bn.running_mean, before["bn.running_mean"])
            assert moved == (buffers != "live")
            if buffers == "given":
                assert torch.equal(model.bn.running_mean, torch.full((4,), 5.0))
                assert torch.equal(model.bn.running_var, before["bn.running_var"])
            if fails:
                raise ValueError("evaluation failed")

    if fails:
        with pytest.raises(ValueError, match="evaluation failed"):
            look()
    else:
        look()
    assert_same(before, snapshot(model))
    assert all(module.training for module in model.modules())


def test_a_track_is_reestimated_on_clean_inputs_unless_it_asks_for_adversarial_ones():
    model = ConvNet().double()
    engine = engine_of(model, "fgsm")
    step(engine)
    batch = batch_of(seed=1, dtype=torch.float64)
    model.eval()
    x_adv = (batch.x + 0.1 * gradient(model, batch.x, batch.y).sign()).clamp(0, 1)
    model.train()
    weights = {name: 2 * weight.detach() for name, weight in model.named_parameters()}
    for bn_inputs, inputs in (("clean", batch.x), ("adv", x_adv)):
        activations = F.conv2d(inputs, weights["conv.weight"], padding=1)
        with engine.track(Track("t", weights, "reestimate", bn_inputs=bn_inputs), lambda: [batch]):
            torch.testing.assert_close(model.bn.running_mean, activations.mean((0, 2, 3)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("own", [True, False])
def test_a_track_is_reestimated_on_batches_as_training_transforms_them(own: bool):
    model = ConvNet().double()
    batches = [batch_of(seed=seed, dtype=torch.float64) for seed in (1, 2)]
    drawn: list[Tensor] = []

    def brighter(self: Any, batch: Batch, ctx: Context) -> Batch:
        noise = torch.rand(batch.x.shape, generator=ctx.generator("noise"), dtype=torch.float64)
        drawn.append(noise)
        return replace(batch, x=batch.x * noise)

    stack = [clean_attack(), plugin("brighter", transform_batch=brighter)]
    engine = engine_of(model, *stack, batches=(lambda: batches) if own else None)
    before = [step(engine, seed).adv.x for seed in (3, 4)][-1]
    weights = {name: 2 * weight.detach() for name, weight in model.named_parameters()}
    drawn.clear()
    with engine.track(Track("t", weights), None if own else lambda: batches):
        assert len({float(noise.flatten()[0]) for noise in drawn}) == len(drawn) == 2  # two batches, two draws
        x = torch.cat([batch.x * noise for batch, noise in zip(batches, drawn, strict=True)])
        activations = F.conv2d(x, weights["conv.weight"], padding=1)
        torch.testing.assert_close(model.bn.running_mean, activations.mean((0, 2, 3)), rtol=0, atol=1e-14)
    engine.epoch, engine.global_step = 0, 0
    step(engine, 3)
    assert torch.equal(step(engine, 4).adv.x, before)  # training's own draws are where they were


def test_a_track_without_weights_is_the_live_model():
    model = ConvNet()
    engine = engine_of(model, clean_attack())
    step(engine)
    before = snapshot(model)

    def never() -> Any:
        raise AssertionError("batch norm of the live model is not re-estimated")

    with engine.track(Track("t", None), never):
        assert_same(before, snapshot(model))
