"""Buffers that are not finite are noticed before they are saved, and weights of strangers are remarked upon."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Split, Track, evaluate
from buttress.errors import DivergenceError
from tests.core.helpers import LINF, batch_of, engine_of, plugin, snapshot, step
from tests.models import ConvNet


class Moved(ConvNet):
    """Its running variance becomes infinite in a forward in train mode, when it is told so; its loss stays finite."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = False
        self.register_buffer("mask", torch.full((2,), -torch.inf))  # on purpose

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if self.bad and self.training:
            self.bn.running_var.data.fill_(torch.inf)  # uncounted: the backward goes through
        return logits


def test_a_buffer_that_is_not_finite_stops_the_run_where_checks_are_read():
    model = Moved()
    engine = engine_of(model, "fgsm")
    step(engine)
    engine.read_checks()  # a mask of infinities is no divergence
    model.bad = True
    step(engine)
    with pytest.raises(DivergenceError, match=r"buffer 'bn\.running_var' holds 4 non-finite values after step 2"):
        engine.read_checks()
    with pytest.raises(DivergenceError, match=r"buffer 'bn\.running_var'"):
        engine.end_epoch()


def test_where_bad_steps_are_skipped_it_is_one():
    model = Moved()
    engine = engine_of(model, "fgsm", nonfinite="skip")
    step(engine)
    before, model.bad = snapshot(model), True
    step(engine)
    assert all(torch.equal(value, before[name]) for name, value in snapshot(model).items())
    said = engine.read_checks()
    assert said.startswith(
        "1 bad step skipped, the first at epoch 1, step 2: the buffer 'bn.running_var' is not finite"
    )
    assert said.endswith("(the model's forwards)")
    model.bad = False
    step(engine)
    assert not engine.read_checks()


@pytest.mark.parametrize("what", ["weights", "buffers"])
def test_a_track_that_is_not_finite_is_not_evaluated(what: str):
    def ensemble_weights(self: Any, model: nn.Module, event: str) -> Track | None:
        if event != "evaluate":
            return None
        weights = {name: w.detach().clone() for name, w in model.named_parameters()}
        if what == "weights":
            weights["linear.bias"][0] = torch.nan
            return Track("mean", weights, "live")
        return Track("mean", weights, "given", {"bn.running_mean": torch.full((4,), torch.nan)})

    engine = engine_of(ConvNet(), "fgsm", plugin("mean", ensemble_weights=ensemble_weights))
    step(engine)
    (track,) = engine.tracks()
    name = "parameter 'linear.bias'" if what == "weights" else r"buffer 'bn\.running_mean'"
    with (
        pytest.raises(DivergenceError, match=rf"{name} holds \d non-finite values? in track 'mean'"),
        engine.track(track),
    ):
        pass
    engine.read_checks()  # the live model is as it was


def test_weights_that_are_not_finite_are_evaluated_with_a_remark(caplog: pytest.LogCaptureFixture):
    class Partly(ConvNet):
        """Logits that are not finite for one example alone."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.where(torch.arange(len(x)) == 0, self.extra.sum(), 0)[:, None]

    model, given = Partly(), batch_of()
    model.extra = nn.Parameter(torch.tensor([torch.nan, 1.0]))
    with caplog.at_level(logging.WARNING):
        evaluate(model, Split(given.x, given.y), "clean", LINF)
    assert "parameter 'extra' holds 1 non-finite value\n" in caplog.text
