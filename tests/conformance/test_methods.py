"""Three steps of every method with momentum and weight decay, against its literal reference: weights and buffers."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel

from ..plugins.catalogue import CATALOGUE, SHORT
from . import references as ref
from .references_classes import VALIDATION

N = 6
CASES = {name: case for row in CATALOGUE.values() for name, case in row.references.items()}
TOLERANCE = 1e-9
STARTING = {"pgd", "apgd", "gairat", "fat"}  # the attacks whose start is injected
kinds = pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])


def model_of(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind().double()


def batches(count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """x, y and the finished first perturbation; some of it leaves ball and box, as a gaussian start does."""
    generator = torch.Generator().manual_seed(1)
    actual = []
    for _ in range(count):
        x = torch.rand((N, 1, 4, 4), generator=generator, dtype=torch.float64)
        start = 0.05 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        actual.append((x, torch.randint(4, (N,), generator=generator), start))
    return actual


def engine_of(model: nn.Module, plugins: list[Any], **options: Any) -> Engine:
    sgd = functools.partial(torch.optim.SGD, lr=ref.LR, momentum=ref.MOMENTUM, weight_decay=ref.DECAY)
    held_out = [Batch(x, y) for x, y in VALIDATION]
    settings = {"epochs": 3, "validation": lambda: held_out, **options}
    return Engine(model, sgd, plugins, ThreatModel("linf", "1/10"), **settings)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    worst = {name: float((actual[name].double() - expected[name].double()).abs().max()) for name in expected}
    assert max(worst.values(), default=0.0) <= TOLERANCE, worst


def start_of(stack: list[Any], start: Tensor) -> dict[str, Tensor]:
    """The draw with which the stack's attack begins, if it has one."""
    ((name, settings),) = stack[0].items() if isinstance(stack[0], dict) else [(stack[0], {})]
    return {f"{name}.start": start} if name in STARTING and settings.get("start") != "gradient" else {}


def tracks_of(engine: Engine) -> dict[str, dict[str, Tensor]]:
    return {track.name: dict(track.weights or {}) for track in engine.tracks()}


@kinds
@pytest.mark.parametrize("name", CASES)
def test_three_steps_agree_with_the_equations(name: str, kind: type[nn.Module]):
    case = CASES[name]
    model = model_of(kind)
    reference = ref.Reference(model, case.step)
    stack = [entry(kind is ref.ConvNet) if callable(entry) else entry for entry in case.stack]
    engine = engine_of(model, stack)
    engine.set_lr(case.factor, 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if case.end is None:
        for x, y, start in batches(3):
            engine.step(x, y, aux=case.aux, draws={**start_of(stack, start), **case.draws})
            reference.step(x, y, start)
    else:
        train(engine, reference, case.end, draws=case.draws)
    assert_close(model.state_dict(), reference.model.state_dict())
    tracks = tracks_of(engine)
    assert tracks.keys() == reference.tracks.keys()
    for track, weights in tracks.items():
        assert_close(weights, reference.tracks[track])
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())


def train(
    engine: Engine, reference: ref.Reference, end: ref.End, epochs: int = 3, draws: dict[str, Tensor] | None = None
) -> None:
    """Train both for epochs of two steps; ``draws`` are injected, by default the start of PGD."""
    data = batches(2 * epochs)
    for epoch in range(epochs):
        for x, y, start in data[2 * epoch : 2 * epoch + 2]:
            engine.step(x, y, draws=draws or {"pgd.start": start})
            reference.step(x, y, start)
        engine.end_epoch()
        end(reference, epoch)


@kinds
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
    engine = engine_of(model, [SHORT, {"piat": {**settings, "buffers": buffers}}], batches=lambda: data)
    end = ref.piat(lams, buffers, [batch.x for batch in data], settings.get("skip_first", False))
    train(engine, reference, end)
    assert_close(model.state_dict(), reference.model.state_dict())


@kinds
def test_ensembles_of_one_run_do_not_disturb_one_another(kind: type[nn.Module]):
    model = model_of(kind)
    reference = ref.Reference(model, ref.ema(0.8))
    entries = [
        {"meat": {"start": 0, "history": "memory"}},
        {"swa": {"start": 0}},
        {"ema": {"tau": 0.8, "warmup": False}},
    ]
    engine = engine_of(model, [SHORT, *entries])

    def end(reference: ref.Reference, epoch: int) -> None:
        ref.meat(reference, epoch)
        reference.ends.pop()
        ref.swa(reference, epoch)

    train(engine, reference, end)
    for track, weights in tracks_of(engine).items():
        assert_close(weights, reference.tracks[track])
    assert len(reference.tracks) == 3
