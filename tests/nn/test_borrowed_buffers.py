"""Buffers that the ascent's forward moves are restored before its backward: any module's buffers, recomputed or not."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from buttress.engine.engine import Engine

from ..core.helpers import assert_same, batch_of, clean_attack, engine_of, plugin, snapshot


class Hidden(nn.Module):
    """``[B,1,4,4]`` to 3 logits, with a module ``between`` on the six hidden values."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.between, self.last = nn.Linear(16, 6), between, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(torch.tanh(self.first(x.flatten(1)))))


class Buffered(nn.Module):
    """Any function of a buffer and the hidden values."""

    def __init__(self, buffer: Tensor, function: Callable[[Any, Tensor], Tensor], persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("held", buffer, persistent=persistent)
        self.table = nn.Parameter(torch.linspace(-1, 1, 6))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class BatchNormAct(nn.BatchNorm1d):
    """A batch norm with a forward of its own, as timm's."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        training = self.training or not self.track_running_stats
        return F.relu(
            F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training, 0.1, self.eps)
        )


class OwnNorm(nn.Module):
    """Normalises by a running mean that it updates in place, first or last."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(6))
        self.first = first

    def update(self, x: Tensor) -> None:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            self.update(x)
        y = x * self.mean
        if not self.first:
            self.mean = self.mean + 0.1  # replaced: in place autograd would refuse it anywhere
        return y


class Recomputed(nn.Module):
    """Activation checkpointing."""

    def __init__(self, inner: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class Sharing(nn.Module):
    """Two modules that hold one buffer: the first writes it, the second reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = Buffered(torch.ones(6), _count)
        self.reader = Buffered(torch.ones(6), lambda own, x: x * own.held)
        self.reader.held = self.writer.held

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.writer(x))


class Viewing(nn.Module):
    """Two buffers on one memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("all", torch.ones(12))
        self.register_buffer("part", self.all[:6])

    def forward(self, x: Tensor) -> Tensor:
        self.all.add_(1)
        return x * self.part


class Odd(nn.Module):
    """Buffers of kinds that have no memory of their own, each under two names; one of them is read."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("one", "two"):
            self.register_buffer(f"none_{name}", None)
        held = {
            "sparse": torch.eye(6).to_sparse(),
            "empty": torch.zeros(0, 3),
            "expanded": torch.tensor([2.0]).expand(6),
            "strided": torch.arange(12.0)[::2],
            "complex": torch.ones(6, dtype=torch.complex64),
            "half": torch.ones(3, dtype=torch.bfloat16),
        }
        for kind, tensor in held.items():
            for name in ("one", "two"):
                self.register_buffer(f"{kind}_{name}", tensor, persistent=kind != "sparse")  # torch.equal takes none

    def forward(self, x: Tensor) -> Tensor:
        self.strided_one.add_(1)
        return x * self.expanded_two + (x * self.complex_one).real * self.strided_two


class Aliased(nn.Module):
    """Writes its buffer by another name."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("held", torch.ones(6))
        self.alias = [self.held]

    def forward(self, x: Tensor) -> Tensor:
        self.alias[0].add_(1)
        return x


def _count(own: Any, x: Tensor) -> Tensor:
    own.held.add_(1)
    return x * own.table


def _orthogonal() -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(6, 6))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "scale": lambda: Buffered(torch.tensor(2.0), lambda own, x: x * own.held),
    "not persistent": lambda: Buffered(torch.tensor(2.0), lambda own, x: x * own.held, persistent=False),
    "mask": lambda: Buffered(torch.arange(6) > 2, lambda own, x: x.masked_fill(own.held, 0.5)),
    "where": lambda: Buffered(torch.arange(6) > 2, lambda own, x: torch.where(own.held, x, x * own.table)),
    "index": lambda: Buffered(torch.tensor([5, 3, 1, 0, 0, 2]), lambda own, x: x + own.table[own.held]),
    "gather": lambda: Buffered(
        torch.tensor([[5, 3, 1, 0, 0, 2]]), lambda own, x: x.gather(1, own.held.expand(len(x), 6))
    ),
    "view": lambda: Buffered(torch.linspace(0, 1, 12), lambda own, x: x * own.held[3:9]),
    "matrix": lambda: Buffered(torch.eye(6), lambda own, x: x @ own.held),
    "counter": lambda: Buffered(torch.zeros(6), _count),
    "batch norm": lambda: nn.BatchNorm1d(6),
    "batch norm without average": lambda: nn.BatchNorm1d(6, momentum=None),
    "batch norm that does not track": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "batch norm, frozen": lambda: nn.BatchNorm1d(6).eval(),
    "batch norm of another class": lambda: BatchNormAct(6),
    "batch norm of another class, frozen": lambda: BatchNormAct(6).eval(),
    "own norm, moved first": lambda: OwnNorm(True),
    "own norm, moved last": lambda: OwnNorm(False),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    ),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(6, 6)),
    "spectral norm by hook": lambda: nn.utils.spectral_norm(nn.Linear(6, 6)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(6, 6)),
    "orthogonal": _orthogonal,
    "shared": Sharing,
    "overlapping": Viewing,
    "aliased": Aliased,
    "odd": Odd,
    **{
        f"recomputed {name}, {'' if reentrant else 'not '}reentrant": lambda make=make, r=reentrant: Recomputed(
            make(), r
        )
        for reentrant in (False,)
        for name, make in {
            "batch norm": lambda: nn.BatchNorm1d(6),
            "batch norm of another class": lambda: BatchNormAct(6),
            "own norm": lambda: OwnNorm(True),
            "counter": lambda: Buffered(torch.zeros(6), _count),
            "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(6, 6)),
            "dropout": lambda: nn.Dropout(0.5),
        }.items()
    },
    "compiled": lambda: OwnNorm(True),
    "compiled, with batch norm of another class": lambda: BatchNormAct(6),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6))),
}
PLUGINS = ("awp", {"rwp": {"k2": 2, "c_min": 9}}, {"amp": {"steps": 2}}, {"amp": {"bn_update": "all"}})


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Hidden(MODULES[name]()).train()
    return torch.compile(model, backend="aot_eager") if "compiled" in name else model


def gradients_of(losses: Tensor, model: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(losses.mean(), list(model.parameters()), allow_unused=True))


def quietly(function: Callable[[], Any]) -> Any:
    """Dropout draws from the global generator: the same for everybody."""
    torch.manual_seed(2)
    return function()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning", "ignore:.*deprecated:FutureWarning")
def test_the_ascent_sees_every_buffer_as_found_and_leaves_it_so(name: str):
    model, reference, batch = made(name), made(name), batch_of()
    if isinstance(reference.between, Recomputed):
        reference.between = reference.between.inner
    expected = quietly(lambda: gradients_of(F.cross_entropy(reference(batch.x), batch.y, reduction="none"), reference))
    before, places = snapshot(model), {key: id(value) for key, value in model.named_buffers()}
    ascents: list[Any] = []

    def ascend(self: Any, model: nn.Module, adv: Any, objective: Any) -> None:
        for _ in range(2):  # twice: the second begins where the first did
            ascents.append(quietly(lambda: objective.grads(objective(adv).mean(), list(model.parameters()))))
            assert_same(before, snapshot(model))
        assert {key: id(value) for key, value in model.named_buffers()} == places or "script" in name

    step_on(engine_of(model, clean_attack(), plugin("ascending", perturb_weights=ascend)))
    for grads in ascents:
        for grad, same in zip(grads, expected, strict=True):
            torch.testing.assert_close(grad, torch.zeros_like(grad) if same is None else same, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("arch", ["mobilenetv3_small_050", "efficientnet_b0", "eva02_tiny_patch14_224"])
def test_networks_of_timm_are_perturbed(arch: str):
    sizes = {"img_size": 28} if arch.startswith("eva") else {}
    model = timm.create_model(arch, num_classes=3, **sizes).train()
    before = snapshot(model)

    def ascend(self: Any, model: nn.Module, adv: Any, objective: Any) -> None:
        objective.grads(objective(adv).mean(), list(model.parameters()))
        assert_same(before, snapshot(model))

    engine = engine_of(model, clean_attack(), plugin("ascending", perturb_weights=ascend), lr=0.0)
    engine.step(torch.rand(2, 3, 28, 28), torch.arange(2))
    engine_of(model, clean_attack(), "awp", lr=0.0).step(torch.rand(2, 3, 28, 28), torch.arange(2))


def test_a_compiled_model_is_not_compiled_again_for_its_buffers():
    counter = CompileCounterWithBackend("aot_eager")
    model = torch.compile(Hidden(OwnNorm(True)), backend=counter)
    engine = engine_of(model, "pgd", {"rwp": {"k2": 2, "c_min": 9}})
    step_on(engine)
    graphs = counter.frame_count
    for seed in range(3):
        step_on(engine, seed)
    assert counter.frame_count == graphs


def step_on(engine: Engine, seed: int = 0) -> Any:
    batch = batch_of(seed=seed)
    return engine.step(batch.x, batch.y)


@pytest.mark.parametrize("entry", PLUGINS, ids=str)
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning", "ignore:.*deprecated:FutureWarning")
def test_every_weight_perturbation_trains_every_module(name: str, entry: Any):
    model, plain = made(name), made(name)
    for engine in (engine_of(model, clean_attack(), entry), engine_of(plain, clean_attack())):
        torch.manual_seed(3)
        for seed in range(2):
            step_on(engine, seed)
    if entry != PLUGINS[3]:
        counts = [key for key, value in model.named_buffers() if not value.is_floating_point()]
        assert all(torch.equal(model.get_buffer(key), plain.get_buffer(key)) for key in counts)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
