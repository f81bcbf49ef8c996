"""PGD under an L2 threat model: to the digits of the public codes where asked, and blind to the scale of the loss."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, ThreatModel
from buttress.functional import InputLoss, attack_loss, pgd
from buttress_plugins.attacks.cw import CW
from buttress_plugins.attacks.fgsm import FGSM
from buttress_plugins.attacks.ifgsm import IFGSM
from buttress_plugins.attacks.mifgsm import MIFGSM
from buttress_plugins.attacks.pgd import PGD
from buttress_plugins.attacks.spsa import SPSA
from tests.plugins.conftest import context

from . import references as ref

EPS, ALPHA, STEPS = 0.5, 0.13, 8
N = 12
L2 = ThreatModel("l2", "1/2")


class Scaled(nn.Module):
    """Logits times a factor."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.factor


def model_of(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return kind().double().eval()


def examples() -> tuple[Tensor, Tensor, Tensor]:
    """x with many values at the border of the box, y, and a start, parts of which leave ball and box."""
    generator = torch.Generator().manual_seed(4)
    x = (1.6 * torch.rand((N, 1, 4, 4), generator=generator, dtype=torch.float64) - 0.3).clamp(0, 1)
    start = 0.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (N,), generator=generator), start


LINEAGES = {"ro": (ref.l2_attack_ro, "ce"), "trades": (ref.l2_attack_trades, "kl")}


@pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])
@pytest.mark.parametrize("name", LINEAGES)
def test_a_variant_gives_the_digits_of_its_public_code(name: str, kind: type[nn.Module]):
    model, (x, y, start) = model_of(kind), examples()
    attack, loss = LINEAGES[name]
    expected = attack(model, x, y, start, EPS, ALPHA, STEPS)
    plugin: Any = PGD(steps=STEPS, step_size=ALPHA, loss=loss, start="gaussian", l2_variant=name)
    actual = plugin.generate_adv(model, Batch(x, y), context(L2, draws={"plugin.start": start})).x
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    exact: Any = PGD(steps=STEPS, step_size=ALPHA, loss=loss, start="gaussian")
    other = exact.generate_adv(model, Batch(x, y), context(L2, draws={"plugin.start": start})).x
    assert float((other - expected).abs().max()) > 1e-9


def test_the_order_of_projections_is_that_of_the_variant_unless_it_is_given():
    model, (x, y, start) = model_of(ref.MLP), examples()

    def attacked(**settings: Any) -> Tensor:
        return pgd(attack_loss("ce", model, x, y), x, L2, steps=STEPS, step_size=ALPHA, start=start, **settings)

    for variant, order in {"exact": "norm_then_box", "ro": "norm_then_box", "trades": "box_then_norm"}.items():
        other = "box_then_norm" if order == "norm_then_box" else "norm_then_box"
        assert torch.equal(attacked(l2_variant=variant), attacked(l2_variant=variant, projection_order=order))
        assert not torch.equal(attacked(l2_variant=variant), attacked(l2_variant=variant, projection_order=other))


def tiny(loss: InputLoss, factor: float) -> InputLoss:
    return lambda x: factor * loss(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("exponent", [-100, -60, -30, 30, 60, 100])
def test_a_step_does_not_depend_on_the_scale_of_the_loss(exponent: int, dtype: torch.dtype):
    """Powers of two, so that nothing is rounded: 2 ** -100 is 8e-31, whose square no float32 holds."""
    x, y, _ = (each.to(dtype) if each.is_floating_point() else each for each in examples())
    loss = attack_loss("ce", model_of(ref.MLP).to(dtype), x, y)
    unbounded, settings = ThreatModel("l2", "1/2", box=None), {"steps": 1, "step_size": ALPHA}
    actual = pgd(tiny(loss, 2.0**exponent), x, unbounded, **settings)
    assert torch.equal(actual, pgd(loss, x, unbounded, **settings))
    assert (actual - x).flatten(1).norm(dim=1).tolist() == pytest.approx([ALPHA] * N, rel=1e-5)


# Those that draw nothing.
ATTACKS: dict[str, Any] = {
    "fgsm": FGSM(),
    "ifgsm": IFGSM(steps=3),
    "mifgsm": MIFGSM(steps=3),
    "pgd": PGD(steps=3, start="none"),
    "pgd margin": PGD(steps=3, start="none", loss="margin"),
    "cw": CW(steps=3, start="none"),
}


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_of_one_example_does_not_depend_on_the_batch(name: str, norm: Any):
    model, (x, y, _), threat = model_of(ref.MLP), examples(), ThreatModel(norm, "1/10")
    together = ATTACKS[name].generate_adv(model, Batch(x, y), context(threat)).x
    for i in range(3):
        single = ATTACKS[name].generate_adv(model, Batch(x[i : i + 1], y[i : i + 1]), context(threat)).x
        torch.testing.assert_close(single, together[i : i + 1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    "attack", [ATTACKS["pgd margin"], ATTACKS["cw"], SPSA(steps=2, samples=8)], ids=["pgd", "cw", "spsa"]
)
def test_a_model_cannot_hide_its_margin_by_scaling_its_logits(attack: Any, norm: Any):
    model, (x, y, _), threat = model_of(ref.MLP), examples(), ThreatModel(norm, "1/10")
    plain = attack.generate_adv(model, Batch(x, y), context(threat)).x
    for exponent in (-40, -20, 4):  # beyond 2 ** 4 the margin is above cw's kappa
        actual = attack.generate_adv(Scaled(model, 2.0**exponent), Batch(x, y), context(threat)).x
        torch.testing.assert_close(actual, plain, rtol=0, atol=1e-9)


def test_a_zero_gradient_moves_nothing():
    x, _, _ = examples()
    for variant in ("exact", "ro", "trades"):
        actual = pgd(lambda x: 0 * x.flatten(1).sum(1), x, L2, steps=3, step_size=ALPHA, l2_variant=variant)
        assert torch.equal(actual, x)
