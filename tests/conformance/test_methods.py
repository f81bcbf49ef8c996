"""Three steps of every method with momentum and weight decay, against its literal reference: weights and buffers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel

from . import references as ref

N = 6
PERMUTATION = torch.tensor([3, 0, 5, 1, 2, 4])
GROUPS = {"1": ["conv1.*", "bn1.*"], "2": ["conv2.*", "bn2.*", "linear.*"]}
SMALL_GROUPS = {"1": ["conv1.*"], "2": ["linear.*"]}
PGD: dict[str, Any] = {"pgd": {"steps": ref.STEPS, "step_size": "3/100"}}
KL: dict[str, Any] = {"pgd": {"steps": ref.STEPS, "step_size": "3/100", "loss": "kl", "start": "gaussian"}}
TOLERANCE = 1e-9


def model_of(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind().double()


def batches(count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """x, y and the finished first perturbation; some of it leaves ball and box, as a gaussian start does."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        x = torch.rand((N, 1, 4, 4), generator=generator, dtype=torch.float64)
        start = 0.05 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        found.append((x, torch.randint(4, (N,), generator=generator), start))
    return found


def engine_of(model: nn.Module, plugins: list[Any], **options: Any) -> Engine:
    sgd = functools.partial(torch.optim.SGD, lr=ref.LR, momentum=ref.MOMENTUM, weight_decay=ref.DECAY)
    return Engine(model, sgd, plugins, ThreatModel("linf", "1/10"), **{"epochs": 3, **options})


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    worst = {name: float((found[name].double() - expected[name].double()).abs().max()) for name in expected}
    assert max(worst.values()) <= TOLERANCE, worst


@dataclass
class Case:
    """A stack and its reference.

    Args:
        plugins: as in a config; a function makes an entry for the convolutional network or for the other.
        step: the reference.
        draws: injected beside the attack's start.
        factor: on the learning rate.
    """

    plugins: list[Any]
    step: ref.Step
    draws: dict[str, Tensor] = field(default_factory=dict)
    factor: float = 1.0


def layered(name: str, **settings: Any) -> Callable[[bool], dict[str, Any]]:
    return lambda conv: {name: {**settings, "groups": GROUPS if conv else SMALL_GROUPS}}


def latter(name: str) -> bool:
    return not name.startswith(("conv1", "bn1"))


CASES: dict[str, Case] = {
    "AT": Case([PGD], ref.plain()),
    "TRADES": Case([KL, "trades"], ref.plain(ref.trades, "kl")),
    "TRADES, two forwards": Case([KL, {"trades": {"clean_forwards": 2}}], ref.plain(ref.trades_two_forwards, "kl")),
    "MART": Case([PGD, "mart"], ref.plain(ref.mart)),
    "NMSE": Case([PGD, "nmse"], ref.plain(ref.nmse)),
    "NMSE, detached": Case(
        [PGD, {"nmse": {"mu": 2.0, "detach_weight": True}}], ref.plain(functools.partial(ref.nmse, mu=2.0, detach=True))
    ),
    "ALP": Case([PGD, "alp"], ref.plain(ref.alp)),
    "ALP, mixed": Case([PGD, {"alp": {"mixed": True}}], ref.plain(functools.partial(ref.alp, mixed=True))),
    "AWP": Case([PGD, {"awp": {"gamma": 0.05}}], ref.awp(0.05)),
    "AWP, restored": Case(
        [PGD, {"awp": {"gamma": 0.05, "exit_order": "restore_then_step"}}], ref.awp(0.05, finish=ref.step_at_restored)
    ),
    "AWP, all, global": Case(
        [PGD, {"awp": {"gamma": 0.05, "tensors": "all", "norm": "global"}}], ref.awp(0.05, every=True, one_norm=True)
    ),
    "AWP, LSC": Case([PGD, {"awp": {"gamma": 0.05, "lsc": [1.0, 1.6]}}], ref.awp(0.05, lsc=(1.0, 1.6))),
    "AWP with TRADES": Case([KL, "trades", {"awp": {"gamma": 0.05}}], ref.awp(0.05, ref.trades, "kl")),
    "AWP with MART": Case([PGD, "mart", {"awp": {"gamma": 0.05}}], ref.awp(0.05, ref.mart)),
    "RWP": Case([PGD, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3}}], ref.rwp(0.05)),
    "RWP, layer": Case(
        [PGD, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3, "norm": "layer"}}], ref.rwp(0.05, layerwise=True)
    ),
    "RWP, official": Case(
        [PGD, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3, "variant": "official"}}], ref.rwp(0.05, official=True)
    ),
    "RWP, all": Case([PGD, {"rwp": {"gamma": 0.05, "c_min": "inf", "k2": 4}}], ref.rwp(0.05, torch.inf, 4)),
    "RWP with TRADES": Case(
        [KL, "trades", {"rwp": {"gamma": 0.05, "c_min": 1.6, "k2": 2}}],
        ref.rwp(0.05, 1.6, 2, losses=ref.trades, attack="kl"),
    ),
    "RAT_WP": Case([PGD, layered("rat_wp", gamma=0.05, layers=[2])], ref.awp(0.05, only=latter)),
    "AMP": Case([PGD, {"amp": {"delta": 0.3}}], ref.amp(0.3)),
    "AMP, inside the ball": Case([PGD, {"amp": {"delta": 1e3, "xi": 0.5}}], ref.amp(1e3, xi=0.5)),
    "AMP, N = 3": Case([PGD, {"amp": {"delta": 0.5, "steps": 3, "xi": 0.4}}], ref.amp(0.5, 3, 0.4)),
    "AMP, per tensor, all batch norms": Case(
        [PGD, {"amp": {"delta": 0.1, "steps": 2, "ball": "per_tensor", "bn_update": "all"}}],
        ref.amp(0.1, 2, per_tensor=True, bn_all=True),
    ),
    "AMP, re-attack, clipped": Case(
        [PGD, {"amp": {"delta": 0.3, "steps": 2, "reattack_final": True, "clip_norm": 0.2}}],
        ref.amp(0.3, 2, reattack_final=True, clip=0.2),
    ),
    "AMP with TRADES": Case(
        [KL, "trades", {"amp": {"delta": 0.3, "steps": 2}}], ref.amp(0.3, 2, losses=ref.trades, attack="kl")
    ),
    "L1": Case([PGD, {"l1": {"weight": 1e-2}}], ref.l1(1e-2)),
    "L2": Case([PGD, {"l2_groups": {"weight_decay": 5e-2}}], ref.l2(5e-2)),
    "Mixup": Case(
        [PGD, {"mixup": {"num_classes": 4}}],
        ref.mixup(0.7, PERMUTATION),
        {"mixup.lam": torch.tensor(0.7, dtype=torch.float64), "mixup.permutation": PERMUTATION},
    ),
    "drop easy": Case([PGD, {"drop_easy": {"c_min": 1.3}}], ref.drop_easy(1.3, True)),
    "drop easy, batch": Case([PGD, {"drop_easy": {"c_min": 1.3, "mean_over": "batch"}}], ref.drop_easy(1.3, False)),
    "RAT_LR": Case([PGD, layered("rat_lr", layers=[2])], ref.fixed_lr(latter, 0.1), factor=0.1),
    "RAT_LR, corrected": Case(
        [PGD, layered("rat_lr", layers=[2], form="corrected")], ref.fixed_lr(latter, 0.1), factor=0.1
    ),
    "AT-fix-param": Case([PGD, layered("freeze_layers", layers=[2])], ref.frozen(latter)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])
@pytest.mark.parametrize("name", CASES)
def test_three_steps_agree_with_the_equations(name: str, kind: type[nn.Module]):
    case = CASES[name]
    model = model_of(kind)
    reference = ref.Reference(model, case.step)
    plugins = [entry(kind is ref.ConvNet) if callable(entry) else entry for entry in case.plugins]
    engine = engine_of(model, plugins)
    engine.set_lr(case.factor, 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for x, y, start in batches(3):
        engine.step(x, y, draws={"pgd.start": start, **case.draws})
        reference.step(x, y, start)
    assert_close(model.state_dict(), reference.model.state_dict())
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())


# Once an epoch


def train(engine: Engine, reference: ref.Reference, each: Callable[[int], None], epochs: int = 3) -> None:
    data = batches(2 * epochs)
    for epoch in range(epochs):
        for x, y, start in data[2 * epoch : 2 * epoch + 2]:
            engine.step(x, y, draws={"pgd.start": start})
            reference.step(x, y, start)
        engine.end_epoch()
        each(epoch)


@pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])
@pytest.mark.parametrize(
    ("settings", "lams"),
    [
        ({}, [1 / 10, 2 / 11, 3 / 12]),
        ({"n0": 1}, [2 / 11, 3 / 12, 4 / 13]),
        ({"lam": 0.5}, [0.5, 0.5, 0.5]),
        ({"lam": 0.0}, [0.0, 0.0, 0.0]),
        ({"a": 0.15}, [0.1, 0.15, 0.15]),
        ({"skip_first": True}, [0.0, 2 / 11, 3 / 12]),
    ],
    ids=str,
)
@pytest.mark.parametrize("buffers", ["interpolate", "keep", "reestimate"])
def test_piat_interpolates_with_the_epoch_s_coefficient(
    settings: dict[str, Any], lams: list[float], buffers: str, kind: type[nn.Module]
):
    model = model_of(kind)
    reference = ref.Reference(model, ref.plain())
    data = [Batch(x, y) for x, y, _ in batches(2)]
    engine = engine_of(model, [PGD, {"piat": {**settings, "buffers": buffers}}], batches=lambda: data)

    def floats() -> dict[str, Tensor]:
        named = reference.model.state_dict()
        return {key: value for key, value in named.items() if value.is_floating_point()}

    previous = {key: value.clone() for key, value in floats().items()}

    def interpolate(epoch: int) -> None:
        interpolated = lams[epoch]
        with torch.no_grad():
            for key, value in floats().items():
                if buffers == "interpolate" or key in reference.weights:
                    value.copy_(interpolated * previous[key] + (1 - interpolated) * value)
            if buffers == "reestimate" and not (settings.get("skip_first") and epoch == 0):
                remeasure(reference.model, [batch.x for batch in data])
        previous.update({key: value.clone() for key, value in floats().items()})

    train(engine, reference, interpolate)
    assert_close(model.state_dict(), reference.model.state_dict())


@torch.no_grad()
def remeasure(model: nn.Module, inputs: list[Tensor]) -> None:
    """Running statistics as the plain mean over batches of equal size; n unbiased as torch's batch norm has it."""
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    for x in inputs:
        model(x)
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.momentum = 0.1


@pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])
def test_median_mean_and_average_of_historical_weights(kind: type[nn.Module]):
    model = model_of(kind)
    reference = ref.Reference(model, ref.plain())
    entries = [
        {"meat": {"start": 0, "history": "memory"}},
        {"swa": {"start": 0}},
        {"ema": {"tau": 0.8, "warmup": False}},
    ]
    engine = engine_of(model, [PGD, *entries])
    history: list[dict[str, Tensor]] = []
    average = {key: weight.detach().clone() for key, weight in reference.weights.items()}
    step = reference.method

    def averaging(self: ref.Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        step(self, x, y, start)
        for key, weight in self.weights.items():
            average[key] = 0.8 * average[key] + 0.2 * weight.detach()

    reference.method = averaging
    train(engine, reference, lambda _: history.append({k: w.detach().clone() for k, w in reference.weights.items()}))
    tracks = {track.name: dict(track.weights or {}) for track in engine.tracks()}
    stacked = {key: torch.stack([snapshot[key] for snapshot in history]) for key in average}
    assert_close(tracks["meat"], {key: value.sort(0).values[1] for key, value in stacked.items()})
    assert_close(tracks["swa"], {key: value.mean(0) for key, value in stacked.items()})
    assert_close(tracks["ema"], average)
