"""SWA: the mean of the weights at the ends of the late epochs."""

import numpy as np
import pytest
import torch

from ..models import ConvNet
from .conftest import assert_same, batch_of, engine_of, parameters, pooled_statistics, state, train


@pytest.mark.parametrize(("start", "first"), [(0, 0), (2, 2), (0.5, 3)])
def test_the_track_is_the_mean_of_the_snapshots_since_the_start(start: float, first: int):
    engine = engine_of(ConvNet().double(), "fgsm", {"swa": {"start": start}})
    snapshots = []
    for epoch in range(6):
        snapshots += train(engine, 1)
        (track,) = engine.tracks()
        assert (track.name, track.buffers, track.bn_inputs) == ("swa", "reestimate", "clean")
        if epoch < first:
            assert track.weights is None
            continue
        for name, weight in track.weights.items():
            mean = np.mean([snapshot[name].numpy() for snapshot in snapshots[first:]], axis=0)
            np.testing.assert_allclose(weight.numpy(), mean, rtol=1e-12, atol=1e-15)


def test_one_snapshot_is_the_model_and_shares_no_memory_with_it():
    model = ConvNet()
    engine = engine_of(model, "fgsm", {"swa": {"start": 0}})
    train(engine, 1)
    (track,) = engine.tracks()
    assert_same(track.weights, parameters(model))
    with torch.no_grad():
        model.linear.bias += 1
    assert not torch.equal(track.weights["linear.bias"], model.linear.bias)


def test_the_live_training_does_not_notice():
    plain, averaged = engine_of(ConvNet(), "pgd"), engine_of(ConvNet(), "pgd", {"swa": {"start": 0}})

    def look(_: int) -> None:
        with averaged.track(averaged.tracks()[0], lambda: [batch_of()]):
            pass

    train(plain, 3)
    train(averaged, 3, each=look)
    assert_same(state(plain.model), state(averaged.model))


def test_batch_norm_is_reestimated_with_the_mean_weights():
    model = ConvNet()
    engine = engine_of(model, "fgsm", {"swa": {"start": 0}})
    train(engine, 3)
    (track,) = engine.tracks()
    batches = [batch_of(9, 1), batch_of(2, 2)]
    with engine.track(track, lambda: batches):
        inside = state(model)
    mean_model = ConvNet()
    mean_model.load_state_dict({**state(mean_model), **track.weights})
    mean, variance = pooled_statistics(mean_model, [batch.x for batch in batches])
    np.testing.assert_allclose(inside["bn.running_mean"].numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inside["bn.running_var"].numpy(), variance, rtol=1e-4, atol=1e-7)


def test_a_track_that_is_held_does_not_move_with_the_training():
    engine = engine_of(ConvNet(), "fgsm", {"swa": {"start": 0}})
    train(engine, 1)
    (held,) = engine.tracks()
    before = {name: weight.clone() for name, weight in held.weights.items()}
    train(engine, 2)
    assert_same(before, held.weights)
