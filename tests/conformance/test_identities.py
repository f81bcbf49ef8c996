"""Where methods coincide, and what each promises of its perturbation, loss or schedule."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel, hookimpl
from buttress.errors import HookError
from buttress_plugins.ensembles.piat import schedule
from buttress_plugins.losses.nmse import nmse
from buttress_plugins.models.preact_resnet import preact_tiny

PGD: dict[str, Any] = {"pgd": {"steps": 3}}


def batch(seed: int = 0, n: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 1, 8, 8), generator=generator, dtype=torch.float64), torch.randint(
        10, (n,), generator=generator
    )


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return preact_tiny(in_channels=1, num_classes=10, width=4).double()


def engine_of(plugins: list[Any], model: nn.Module | None = None, decay: float = 5e-3) -> Engine:
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=decay)
    return Engine(model or network(), sgd, plugins, ThreatModel("linf", "1/10"), epochs=3)


def trained(
    *plugins: Any, drops: bool = False, decay: float = 5e-3, draws: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Weights and buffers after three epochs of three steps, the learning rate dropping twice where asked."""
    engine = engine_of([PGD, *plugins], decay=decay)
    for epoch in range(3):
        engine.set_lr(0.1**epoch if drops else 1.0, epoch)
        for step in range(3):
            engine.step(*batch(3 * epoch + step), draws=draws)
        engine.end_epoch()
    return dict(engine.model.state_dict())


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


AWP = {"awp": {"gamma": 0.03}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([{"rwp": {"c_min": 0.0}}], []),
        ([{"awp": {"gamma": 0.0}}], []),
        ([{"rwp": {"gamma": 0.03, "c_min": "inf", "k2": 1, "norm": "layer"}}], [AWP]),
        ([{"rwp": {"gamma": 0.03, "c_min": "inf", "k2": 1, "norm": "layer", "variant": "official"}}], [AWP]),
        ([{"rat_wp": {"gamma": 0.03, "layers": [1, 2, 3, 4]}}], [AWP]),
        ([{"awp": {"gamma": 0.03, "lsc": [0.0, 1e9]}}], [AWP]),
        ([{"amp": {"delta": 0.0}}], []),
        ([{"piat": {"lam": 0.0}}], []),
        ([{"nmse": {"mu": 0.0}}], [{"alp": {"weight": 0.0}}]),
        ([{"drop_easy": {"c_min": 0.0}}], []),
        ([{"l1": {"weight": 0.0}}], []),
        ([{"label_smoothing": {"num_classes": 10, "epsilon": 0.0}}], []),
        ([{"clip_grad": {"norm": 1e9}}], []),
    ],
    ids=str,
)
def test_methods_coincide(one: list[Any], other: list[Any]):
    assert distance(trained(*one), trained(*other)) <= 1e-12


def test_mixup_with_lambda_one_is_plain_training():
    draws = {"mixup.lam": torch.ones(()), "mixup.permutation": torch.randperm(12)}
    assert distance(trained({"mixup": {"num_classes": 10}}, draws=draws), trained()) <= 1e-12


def test_cutmix_with_lambda_one_is_plain_training():
    draws = {
        "cutmix.lam": torch.ones(()),
        "cutmix.permutation": torch.randperm(12),
        "cutmix.centre": torch.tensor([3, 4]),
    }
    assert distance(trained({"cutmix": {"num_classes": 10}}, draws=draws), trained()) <= 1e-12


def test_the_median_of_one_snapshot_is_the_model():
    engine = engine_of([PGD, {"meat": {"start": 0, "history": "memory"}}])
    engine.step(*batch())
    engine.end_epoch()
    (track,) = engine.tracks()
    assert all(torch.equal(track.weights[name], weight) for name, weight in engine.model.named_parameters())


@pytest.mark.parametrize("decay", [0.0, 5e-2])
def test_the_group_form_of_rat_lr_is_the_corrected_gradient_form_and_not_the_naive_one(decay: float):
    groups = trained("rat_lr", drops=True, decay=decay)
    assert distance(groups, trained({"rat_lr": {"form": "corrected"}}, drops=True, decay=decay)) <= 1e-12
    assert distance(groups, trained({"rat_lr": {"form": "gradient"}}, drops=True, decay=decay)) > 1e-4
    assert distance(groups, trained(drops=True, decay=decay)) > 1e-4


def test_without_momentum_and_decay_the_naive_form_is_the_group_form():
    def run(form: str) -> dict[str, Tensor]:
        sgd = functools.partial(torch.optim.SGD, lr=0.1)
        engine = Engine(network(), sgd, [PGD, {"rat_lr": {"form": form}}], ThreatModel("linf", "1/10"), epochs=3)
        for epoch in range(3):
            engine.set_lr(0.1**epoch, epoch)
            engine.step(*batch(epoch))
            engine.end_epoch()
        return dict(engine.model.state_dict())

    assert distance(run("groups"), run("gradient")) <= 1e-12


# What is added to the weights


class Spy:
    """Keeps the weights that the training loss sees, and those that each attack sees."""

    def __init__(self) -> None:
        self.at_loss: dict[str, Tensor] = {}
        self.at_attack: list[dict[str, Tensor]] = []

    @staticmethod
    def copy(model: nn.Module) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @hookimpl(wrapper=True)
    def compute_loss(self, model: nn.Module, ctx: Any):
        if ctx.phase == "train":
            self.at_loss = self.copy(model)
        return (yield)

    @hookimpl(wrapper=True)
    def generate_adv(self, model: nn.Module):
        self.at_attack.append(self.copy(model))
        return (yield)


def perturbation(*plugins: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], Spy, nn.Module]:
    """v by name, the weights before, the spy, and the model after a step with learning rate 0."""
    spy, model = Spy(), network()
    before = Spy.copy(model)
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    engine = Engine(model, sgd, [PGD, *plugins, spy], ThreatModel("linf", "1/10"), epochs=1)
    engine.set_lr(0.0, 0)
    engine.step(*batch())
    return {name: spy.at_loss[name] - before[name] for name in before}, before, spy, model


def total(tensors: dict[str, Tensor]) -> float:
    return float(torch.cat([value.flatten() for value in tensors.values()]).norm())


def is_matrix(name: str, value: Tensor) -> bool:
    return value.dim() > 1 and "weight" in name


def test_awp_moves_each_matrix_by_gamma_and_nothing_else_and_all_comes_back():
    v, before, _, model = perturbation({"awp": {"gamma": 0.02}})
    for name, value in v.items():
        if is_matrix(name, value):
            assert float(value.norm() / before[name].norm()) == pytest.approx(0.02, rel=1e-9)
        else:
            assert not bool(value.any())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_rwp_has_one_norm_for_all(variant: str):
    v, before, _, _ = perturbation({"rwp": {"gamma": 0.02, "c_min": "inf", "k2": 4, "variant": variant}})
    moved = {name: value for name, value in v.items() if is_matrix(name, value)}
    assert total(moved) == pytest.approx(0.02 * total({name: before[name] for name in moved}), rel=1e-9)
    assert not any(bool(value.any()) for name, value in v.items() if name not in moved)


def test_rat_wp_moves_its_groups_alone():
    v, _, _, _ = perturbation({"rat_wp": {"layers": [3, 4]}})
    moved = {name for name, value in v.items() if bool(value.any())}
    assert moved == {name for name, value in v.items() if name.startswith(("layer3", "layer4")) and value.dim() > 1}


def test_an_empty_mask_leaves_the_gradient_of_plain_training():
    v, _, _, _ = perturbation({"rwp": {"c_min": 1e-9}})
    assert not any(bool(value.any()) for value in v.values())


def test_rwp_without_the_early_break_gives_the_same_weights():
    class NeverOnTheCpu:
        """A device that calls itself something else, so that nobody asks whether the mask is empty."""

        type = "other"

    from buttress_plugins.weights.rwp import RWP

    class Unbroken(RWP):
        @hookimpl
        def perturb_weights(self, adv: Any, objective: Any, ctx: Any) -> Any:
            class View:
                device = NeverOnTheCpu()

                def __getattr__(self, name: str) -> Any:
                    return getattr(ctx, name)

            return super().perturb_weights(adv, objective, View())

    settings: dict[str, Any] = {"gamma": 0.5, "c_min": 2.35, "k2": 5}
    one, *_ = perturbation({"rwp": settings})
    other, *_ = perturbation(Unbroken(**settings))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("steps", [1, 3])
def test_amp_stays_in_its_ball(steps: int):
    v, _, _, _ = perturbation({"amp": {"delta": 0.05, "steps": steps, "xi": 10.0}})
    assert total(v) == pytest.approx(0.05, rel=1e-9)
    v, _, _, _ = perturbation({"amp": {"delta": 0.05, "steps": steps, "xi": 10.0, "ball": "per_tensor"}})
    assert all(float(value.norm()) <= 0.05 * (1 + 1e-9) for value in v.values())
    v, _, _, _ = perturbation({"amp": {"delta": 1e6, "steps": steps, "xi": 1e-3}})
    assert 0 < total(v) < 1


def test_amp_with_two_iterations_attacks_twice_at_different_weights():
    _, before, spy, model = perturbation({"amp": {"delta": 0.5, "steps": 2}})
    first, second = spy.at_attack
    assert all(torch.equal(first[name], before[name]) for name in before)
    assert any(not torch.equal(first[name], second[name]) for name in before)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_amp_does_not_step_without_its_perturbation_where_the_gradient_is_not_finite():
    class Poison:
        """Leaves the losses as they are; the gradient of the perturbation's becomes NaN: sqrt has none at 0."""

        @hookimpl(wrapper=True)
        def compute_loss(self, ctx: Any):
            loss = yield
            poisoned = replace(loss, per_example=loss.per_example + (0 * loss.per_example).sqrt())
            return poisoned if ctx.phase == "perturb" else loss

    with pytest.raises(HookError, match=r"^plugin 'amp'.*perturb_weights[\s\S]*expected gradients of finite norm"):
        perturbation({"amp": {"delta": 0.05, "clip_norm": 1.0}}, Poison())


# Losses and schedules


def test_nmse_is_zero_at_equal_inputs_blind_to_scale_and_twice_one_minus_the_cosine():
    generator = torch.Generator().manual_seed(0)
    z, z_adv = torch.randn((2, 5, 4), generator=generator, dtype=torch.float64)
    assert not bool(nmse(z, z).any())
    assert torch.allclose(nmse(z, z_adv), nmse(3 * z, 0.1 * z_adv), rtol=1e-12)
    assert torch.allclose(nmse(z, z_adv), 2 * (1 - F.cosine_similarity(z_adv, z, dim=1)), rtol=1e-12)
    assert bool(torch.isfinite(nmse(torch.zeros(5, 4), z_adv.float())).all())


@pytest.mark.parametrize(("n", "lam"), [(0, 0.100), (9, 0.526), (60, 0.871), (119, 0.930), (179, 0.952), (2000, 0.99)])
def test_the_coefficients_of_piat(n: int, lam: float):
    assert schedule(n) == pytest.approx(lam, abs=5e-4)


def test_two_epochs_of_piat_by_hand_with_the_optimizer_still_attached():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0], [2.0]])
    weight = model[1].weight
    engine = Engine(model, torch.optim.SGD([weight], lr=0.1, momentum=0.9), ["clean", "piat"], ThreatModel("linf", 0))
    engine.step(torch.ones(1, 1, 1, 1), torch.tensor([0]))  # so that there is a momentum buffer
    buffer = engine.optimizer.state[weight]["momentum_buffer"].clone()
    weight.data = torch.tensor([[3.0], [0.0]])
    engine.end_epoch()  # 1/10 of the first weights and 9/10 of these
    assert torch.allclose(weight, torch.tensor([[0.1 * 1 + 0.9 * 3], [0.1 * 2 + 0.9 * 0]]))
    weight.data = torch.tensor([[0.0], [1.0]])
    engine.end_epoch()  # 2/11 of what came out and 9/11 of these
    assert torch.allclose(weight, torch.tensor([[2 / 11 * 2.8], [2 / 11 * 0.2 + 9 / 11]]))
    assert model[1].weight is weight
    assert torch.equal(engine.optimizer.state[weight]["momentum_buffer"], buffer)


def test_piat_takes_a_function_of_the_epoch():
    from buttress_plugins.ensembles.piat import PIAT

    assert [PIAT(lam=lambda n: n / 10).coefficient(n) for n in (0, 3)] == [0.0, 0.3]
    assert PIAT(lam=0.25).coefficient(7) == 0.25


def test_mixup_draws_one_beta_coefficient_and_one_permutation_a_batch():
    from buttress.engine.context import Context
    from buttress.engine.state import RunState
    from buttress_plugins.transforms.mixup import Mixup

    state = RunState(ThreatModel("linf", "1/10"), torch.device("cpu"))
    mixup, lams = Mixup(num_classes=2, alpha=1.4), []
    x, y = torch.zeros(2, 1), torch.tensor([0, 1])
    x[0] = 1
    for state.step in range(4000):
        mixed = mixup.transform_batch(Batch(x, y), Context(state, "mixup"))
        assert torch.allclose(mixed.y.sum(1), torch.ones(2))
        assert torch.allclose(mixed.y[:, 0], mixed.x[:, 0])
        if float(mixed.y[0, 0] + mixed.y[1, 0]) == pytest.approx(1.0) and float(mixed.y[0, 0]) < 1:
            lams.append(float(mixed.y[0, 0]))
    values = torch.tensor(lams, dtype=torch.float64)
    assert abs(float(values.mean()) - 0.5) < 0.02
    assert float(values.var()) == pytest.approx(1.4**2 / ((2.8**2) * 3.8), rel=0.08)  # of Beta(1.4, 1.4)


def test_examples_dropped_are_those_below():
    from buttress_plugins.losses.drop_easy import drop

    losses = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    hard = losses >= 1.0
    assert float(drop(losses, hard, torch.tensor(3), 4, "kept").mean()) == pytest.approx(2.0)
    assert drop(losses, hard, torch.tensor(3), 4, "batch").tolist() == [0.0, 1.0, 2.0, 3.0]
    assert float(drop(losses, losses >= 9.0, torch.tensor(0), 4, "kept").sum()) == 0.0


def test_frozen_layers_with_frozen_batch_norm_keep_everything():
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    engine = engine_of([PGD, {"freeze_layers": {"layers": [3, 4], "freeze_bn": True}}], model)
    for step in range(2):
        engine.step(*batch(step))
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert same == {key for key in before if key.startswith(("layer3", "layer4"))}


def test_rat_lr_may_hold_a_learning_rate_of_its_own():
    engine = engine_of([PGD, {"rat_lr": {"lr": 0.02}}])
    engine.set_lr(0.01, 2.0)
    assert sorted(group["lr"] for group in engine.optimizer.param_groups) == [pytest.approx(0.001), 0.02]


def test_legacy_l2_leaves_the_learning_rate_of_batch_norm_alone():
    engine = engine_of([PGD, {"l2_groups": {"legacy_lr": True}}])
    engine.set_lr(0.01, 2.0)
    rates = {group["weight_decay"]: group["lr"] for group in engine.optimizer.param_groups}
    assert rates == {5e-3: pytest.approx(0.001), 0.0: 0.1}


def test_eq_4_needs_a_learning_rate_and_sgd():
    engine = engine_of([PGD, {"rat_lr": {"form": "gradient"}}])
    engine.set_lr(0.0, 0)
    with pytest.raises(HookError, match=r"the learning rate is 0, so eq\. 4 has no amplification"):
        engine.step(*batch())
    adam: Callable[..., Any] = functools.partial(torch.optim.Adam, lr=1e-3)
    engine = Engine(network(), adam, [PGD, {"rat_lr": {"form": "corrected"}}], ThreatModel("linf", "1/10"))
    with pytest.raises(HookError, match="form: corrected is for SGD, got Adam"):
        engine.step(*batch())
