"""Steps made in parts, ``accumulate``: the numbers of whole ones, and with batch norm those of as many processes."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Batch, Context, Engine, Loss
from buttress.engine.world import World
from buttress.errors import ButtressError, ConfigError, PluginError
from buttress.nn.modes import evaluating

from ..core.helpers import LINF, assert_same, batch_of, clean_attack, engine_of, plugin, snapshot, step
from ..models import ConvNet, DroppingNet
from .ranks import Ranks
from .runs import difference, trained
from .test_plugins import STACKS


class GroupNormNet(ConvNet):
    """``ConvNet`` without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.GroupNorm(2, 4)


class FrozenNet(ConvNet):
    """``ConvNet`` whose batch norm stays in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bn.eval()


class SpectralNet(ConvNet):
    """``ConvNet`` with a spectral norm, whose forwards move its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(self.linear)


class Narrow(ConvNet):
    """Notes the number of rows of each of its forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return super().forward(x)


EVERY = [
    pytest.param(*case.values[1:], id=str(case.id).removeprefix("3-"))
    for case in STACKS
    if case.values[0] == 3 and case.values[1] != "randomized_at"
]
FEW = ("pgd", "trades", "mart", "awp", "rwp", "amp", "ema", "free_at", "clip_grad", "piat")


@pytest.mark.parametrize(("name", "stack"), EVERY)
def test_a_plugin_gives_the_numbers_of_whole_steps_without_batch_norm(name: str, stack: list[Any]):
    net = FrozenNet if name == "kd" else GroupNormNet  # of the form of its teachers
    options: dict[str, Any] = {"net": net, "batch_norm": "local"}
    whole, parts = (trained(World(), stack, name == "rst", accumulate=count, **options) for count in (1, 3))
    for part in ("state", "tracks", "losses", "records"):
        assert difference(whole[part], parts[part]) < 1e-9, part


@pytest.mark.parametrize("ranks", [3], indirect=True)
@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
@pytest.mark.parametrize(
    ("name", "stack"), [case for case in EVERY if str(case.id).endswith("-0") and case.values[0] in FEW]
)
def test_batch_norm_has_the_numbers_of_as_many_processes(ranks: Ranks, name: str, stack: list[Any], mode: str):
    options: dict[str, Any] = {"batch_norm": "local", "attack_mode": mode}
    parts = trained(World(), stack, accumulate=3, **options)
    for answer in ranks.call(partial(trained, stack=stack, **options)):
        for part in ("state", "losses"):
            assert difference(parts[part], answer[part]) < 1e-9, part


@pytest.mark.parametrize("ranks", [2], indirect=True)
def test_processes_make_parts_of_their_rows(ranks: Ranks):
    stack = [{"pgd": {"steps": 2}}, "trades", "awp"]
    options: dict[str, Any] = {"net": GroupNormNet, "batch_norm": "local"}
    whole = trained(World(), stack, **options)
    for answer in ranks.call(partial(trained, stack=stack, accumulate=2, **options)):
        assert difference(whole["state"], answer["state"]) < 1e-9


def test_no_forward_of_a_step_has_more_rows_than_a_part():
    model = Narrow()
    engine = engine_of(model, {"pgd": {"steps": 2}}, "trades", "awp", accumulate=4)
    batch = batch_of(10)
    engine.step(batch.x, batch.y)
    assert set(model.rows) == {2, 3}
    model.rows.clear()
    short = batch_of(3)  # fewer examples than parts: a whole
    engine.step(short.x, short.y)
    assert set(model.rows) == {3}


def test_passes_are_counted_as_those_of_whole_steps():
    counts = []
    for parts in (1, 3):
        engine = engine_of(ConvNet(), {"pgd": {"steps": 2}}, "trades", "awp", accumulate=parts)
        step(engine)
        counts.append((engine.at_work.counter.passes, engine.at_work.counter.examples))
    assert counts[0] == counts[1]


def test_dropout_has_in_the_backward_the_masks_of_the_forward():
    model, batch = DroppingNet().double(), batch_of(6, dtype=torch.float64)
    model.bn = nn.Identity()
    weights = list(model.parameters())
    torch.manual_seed(0)
    losses = [F.cross_entropy(model(batch.x[i::3]), batch.y[i::3], reduction="sum") / 6 for i in range(3)]
    expected = [
        weight - 0.1 * grad for weight, grad in zip(weights, torch.autograd.grad(sum(losses), weights), strict=True)
    ]
    engine = engine_of(model, clean_attack(), accumulate=3)
    torch.manual_seed(0)
    engine.step(batch.x, batch.y)
    for weight, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), value.detach(), rtol=1e-12, atol=1e-14)


def in_eval_mode(self: Any, model: nn.Module, batch: Batch) -> Loss:
    """A forward in eval mode whose gradient is taken when the modules are in train mode again."""
    with evaluating(model):
        logits = model(batch.x)
    return Loss(F.cross_entropy(logits, batch.y, reduction="none"))


def test_the_forward_in_the_backward_has_the_modes_of_the_first():
    results = []
    for parts in (1, 3):
        model = ConvNet().double()
        engine = engine_of(model, clean_attack(), plugin("frozen", compute_loss=in_eval_mode), accumulate=parts)
        step(engine)
        results.append(snapshot(model))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-12, atol=1e-14)


def spoiled(self: Any, model: nn.Module, ctx: Context) -> None:
    if ctx.global_step == 1:
        model.linear.weight.grad.fill_(torch.nan)  # type: ignore[union-attr,operator]


def test_a_bad_step_is_skipped_as_a_whole():
    model = ConvNet().double()
    engine = engine_of(model, "pgd", plugin("spoil", adjust_grads=spoiled), accumulate=3, nonfinite="skip")
    step(engine)
    before = snapshot(model)
    step(engine)
    assert_same(before, snapshot(model))
    assert engine.read_checks().startswith("1 bad step skipped")


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_parts_have_the_precision_of_whole_steps(precision: str):
    results = []
    for parts in (1, 3):
        model = GroupNormNet()
        engine = engine_of(model, "pgd", "trades", accumulate=parts, precision=precision)
        step(engine)
        results.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-2 if precision == "bf16" else 1e-5, atol=1e-3)


def test_a_model_whose_forwards_move_buffers_is_refused():
    with pytest.raises(ButtressError, match=r"accumulate: a forward of model SpectralNet moves its buffer 'linear\."):
        step(engine_of(SpectralNet(), clean_attack(), accumulate=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "engine: accumulate: expected the number of parts of a step, at least 1, got 0"),
        ({"accumulate": True}, "got True"),
        ({"accumulate": 2, "compile": "model"}, "compile: model has graphs of whole ones; leave one of the two out"),
        ({"accumulate": 2, "batch_norm": "sync"}, "batch_norm: sync wants the statistics of all rows at once"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        Engine(ConvNet(), partial(torch.optim.SGD, lr=0.1), ["clean"], LINF, **options)


def test_a_plugin_that_reads_modules_within_the_model_is_refused():
    with pytest.raises(PluginError, match=r"accumulate: plugin 'randomized_at' .* refuses forwards in parts: it reads"):
        engine_of(ConvNet(), "pgd", "randomized_at", accumulate=2)
    engine_of(ConvNet(), "pgd", "randomized_at", accumulate=1)
