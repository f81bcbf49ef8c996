"""Where the methods of fast adversarial training coincide with others."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Engine, ThreatModel

from .test_identities import batch, distance, network

START = 0.1 * (2 * torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1)


def trained(*plugins: Any, norm: Any = "linf", draws: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Weights and buffers after three steps."""
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    engine = Engine(network(), sgd, list(plugins), ThreatModel(norm, "1/10"), epochs=3)
    for number in range(3):
        engine.step(*batch(number), draws=draws)
    return dict(engine.model.state_dict())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fast_is_fgsm_from_a_uniform_start(norm: str):
    start = START if norm == "linf" else 0.1 * START
    fast = trained("fast", norm=norm, draws={"fast.start": start})
    fgsm = trained({"fgsm": {"start": "uniform"}}, norm=norm, draws={"fgsm.start": start})
    assert distance(fast, fgsm) == 0
    assert distance(fast, trained("fgsm", norm=norm)) > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_n_fgsm_without_noise_is_fgsm(norm: str):
    quiet = trained({"n_fgsm": {"k": 0.0}}, norm=norm)
    assert distance(quiet, trained("fgsm", norm=norm)) <= 1e-12
    assert distance(quiet, trained("n_fgsm", norm=norm)) > 0


def test_grad_align_of_weight_zero_is_the_plain_loss():
    assert distance(trained("fgsm", {"grad_align": {"lam": 0.0}}), trained("fgsm")) == 0
    assert distance(trained("fgsm", "grad_align"), trained("fgsm")) > 0
