"""MAIL: its limits, TRADES, MART and the cross-entropy, and the refusal of soft labels."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from buttress.errors import HookError, PluginError

from ..core.helpers import batch_of, engine_of, snapshot, step
from ..models import ConvNet

# A slope so small that every margin has the weight scale / 2 = 1.
FLAT = {"slope": 1e-30, "bias": 0.0, "scale": 2.0, "start": 0}


def trained(*plugins: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = ConvNet().double()
    engine = engine_of(model, "fgsm", *plugins, epochs=9)
    for seed in range(2):
        step(engine, seed)
    return snapshot(model)


@pytest.mark.parametrize(
    ("form", "other"),
    [("at", "cross_entropy"), ("trades", {"trades": {"beta": 5.0}}), ("mart", {"mart": {"lam": 5.0}})],
)
def test_with_weights_of_one_it_is_the_plain_form(form: str, other: Any):
    expected = trained(other)
    limits = [{"start": 8}, FLAT, {**FLAT, "scale": 7.0, "normalize": True}]
    for settings in limits:
        actual = trained({"mail": {"form": form, **settings}})
        for name, value in actual.items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)
    weighted = trained({"mail": {"form": form, "start": 0}})
    assert any(not torch.equal(value, expected[name]) for name, value in weighted.items())


def test_soft_labels_are_refused_before_and_in_a_step():
    with pytest.raises(PluginError, match=r"'mail' .*refuses soft labels"):
        engine_of(ConvNet(), "fgsm", "mail", {"label_smoothing": {"num_classes": 3}})
    batch = batch_of()
    with pytest.raises(HookError, match=r"expected labels \[B\], got soft labels \(6, 3\)"):
        engine_of(ConvNet(), "fgsm", {"mail": {"start": 0}}).step(batch.x, F.one_hot(batch.y, 3).float())
