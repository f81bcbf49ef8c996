"""Plugins made on the spot, and engines around them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Engine, ThreatModel, hookimpl
from buttress.engine.context import Context
from buttress.engine.state import RunState

CPU = torch.device("cpu")
LINF = ThreatModel("linf", "1/10")
# An attack whose answer still shows where it started.
SHORT_PGD = {"pgd": {"steps": 1, "step_size": "1/1000"}}


def batch_of(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """``n`` random images ``[1,4,4]`` in [0, 1] with labels of 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((n, 1, 4, 4), generator=generator, dtype=torch.float64).to(dtype)
    return Batch(x, torch.randint(0, 3, (n,), generator=generator), torch.arange(n))


def plugin(label: str = "", /, wrapper: bool = False, **members: Any) -> Any:
    """An object whose methods named like hooks are hook implementations; other members are attributes."""
    from buttress.hookspecs import HOOKS

    body = {
        name: hookimpl(wrapper=wrapper)(member) if name in HOOKS and callable(member) else member
        for name, member in members.items()
    }
    made = type(label or "Made", (), body)()
    if label:
        made.name = label
    return made


def clean_attack(label: str = "attack", **members: Any) -> Any:
    """An attack that returns its input, for tests that are not about attacks."""
    return plugin(label, generate_adv=lambda self, batch: Adv(batch.x), **members)


def engine_of(
    model: nn.Module,
    *plugins: Any,
    threat: ThreatModel = LINF,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    **options: Any,
) -> Engine:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    return Engine(model, optimizer, list(plugins), threat, **options)


def step(engine: Engine, seed: int = 0, **options: Any) -> Any:
    """One step on a random batch of the model's dtype."""
    batch = batch_of(seed=seed, dtype=next(engine.model.parameters()).dtype)
    return engine.step(batch.x, batch.y, **options)


def context(label: str = "plugin", threat: ThreatModel = LINF, **run: Any) -> Context:
    return Context(RunState(threat, CPU, **run), label)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the summed cross-entropy with respect to ``x``, by ``backward``."""
    x = x.detach().clone().requires_grad_(True)
    F.cross_entropy(model(x), y, reduction="sum").backward(inputs=[x])
    assert x.grad is not None
    return x.grad


@contextmanager
def adding(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """A weight perturbation that, as the hook asks, only adds."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.add_(value)
    yield


def perturbation(
    exit_order: str | None = None, size: float = 0.5, names: Callable[[str], bool] = lambda name: True
) -> Any:
    """A plugin that adds ``size * N(0, 1)``, always the same, to the parameters that ``names`` chooses."""

    def perturb_weights(self: Any, model: nn.Module) -> Any:
        generator = torch.Generator().manual_seed(7)
        chosen = [weight for name, weight in model.named_parameters() if names(name)]
        return adding(chosen, [size * torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in chosen])

    extra = {} if exit_order is None else {"exit_order": exit_order}
    return plugin("perturbation", perturb_weights=perturb_weights, **extra)
