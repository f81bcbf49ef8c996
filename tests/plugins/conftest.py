"""Small data, contexts and engines for the tests of the built-in plugins."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel
from buttress.engine.context import Context
from buttress.engine.state import RunState

from ..models import ConvNet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class ShortAutoAttack(AutoAttack):
    """AutoAttack of the package with a twentieth of its iterations: its answers without its strength."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 5
        self.square.n_queries = 250


@pytest.fixture
def short_autoattack(monkeypatch: pytest.MonkeyPatch) -> type[AutoAttack]:
    """The plugin's package, replaced by a short one."""
    monkeypatch.setattr("buttress_plugins.attacks.autoattack.Package", ShortAutoAttack)
    return ShortAutoAttack


def batch_of(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """``n`` random images in [0, 1] for ``ConvNet``."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.random((n, 1, 4, 4))).to(dtype)
    return Batch(x, torch.from_numpy(rng.integers(0, 3, n)), torch.arange(n))


def context(
    threat: ThreatModel | None = None, plugin: str = "plugin", draws: Mapping[str, Tensor] | None = None, **run: Any
) -> Context:
    """The context of a plugin, without an engine around it."""
    state = RunState(threat or ThreatModel("linf", "8/255"), CPU, **run)
    state.draws = draws or {}
    return Context(state, plugin)


def engine_of(model: nn.Module, *plugins: Any, **options: Any) -> Engine:
    """An engine with SGD and momentum; the attack is FGSM unless ``plugins`` begins with another."""
    optimizer = functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9)
    settings = {"epochs": 6, "validation": lambda: [batch_of(9, seed=9)], **options}
    return Engine(model, optimizer, list(plugins), settings.pop("threat", ThreatModel("linf", "8/255")), **settings)


def train(
    engine: Engine, epochs: int, steps: int = 2, each: Callable[[int], None] | None = None, n: int = 6
) -> list[dict[str, Tensor]]:
    """Train some epochs; the parameters at their ends, copied, in order. ``each(epoch)`` is called after each."""
    kept = []
    for _ in range(epochs):
        epoch = engine.epoch
        for step in range(steps):
            batch = batch_of(n, seed=1000 * epoch + step, dtype=next(engine.model.parameters()).dtype)
            engine.step(batch.x, batch.y)
        kept.append(parameters(engine.model))
        engine.end_epoch()
        if each:
            each(epoch)
    return kept


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def pooled_statistics(model: ConvNet, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Oracle for the re-estimated batch norm of ``ConvNet``, in NumPy and float64.

    The mean over examples of each batch's mean and unbiased variance, per channel.
    """
    kernel = model.conv.weight.detach().double().numpy()
    averages, variances, sizes = [], [], []
    for x in inputs:
        padded = np.pad(x.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        out = np.einsum("bchwij,ocij->bohw", windows, kernel)
        averages.append(out.mean((0, 2, 3)))
        variances.append(out.var((0, 2, 3), ddof=1))
        sizes.append(len(x))
    return np.average(averages, axis=0, weights=sizes), np.average(variances, axis=0, weights=sizes)
