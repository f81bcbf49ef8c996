"""Compiled forwards: two graphs, whatever the batch sizes, and the numbers of eager ones."""

import copy
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from buttress import Split, Track
from buttress.engine import compiling
from buttress.engine.attacking import ModelAtWork
from buttress.engine.compiling import CompiledPasses, GraphedPasses
from buttress.errors import ConfigError, HookError, ModelError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator

from ..core.helpers import LINF, batch_of, engine_of, step
from ..models import ConvNet

STACKS = {
    "at": ["pgd"],
    "trades": [{"pgd": {"loss": "kl"}}, {"trades": {"beta": 6.0}}],
    "awp": ["pgd", {"awp": {"gamma": 0.1}}],
    "rwp": ["pgd", {"rwp": {"gamma": 0.1, "k2": 2}}],
    "amp": ["pgd", {"amp": {"delta": 0.1}}],
    "meat": ["pgd", {"meat": {"start": 0, "history": "memory"}}],
    "swa": ["pgd", {"swa": {"start": 0}}],
}


@pytest.fixture(autouse=True)
def _without_code_generation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs as torch traces them, run without a C++ compiler: the same graphs, guards and limits, in milliseconds."""
    init = CompiledPasses.__init__
    monkeypatch.setattr(CompiledPasses, "__init__", lambda self, model: init(self, model, "aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def two_epochs(stack: list[object], compile: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], int]:
    """Losses, weights and scores of two epochs with an incomplete last batch, tracks and evaluations between them.

    Returns:
        All of them, and the number of graphs that the second epoch added.
    """
    engine = engine_of(ConvNet().to(dtype), *stack, epochs=2, compile=compile, batches=lambda: [batch_of(dtype=dtype)])
    evaluator = Evaluator(engine.at_work, load_attack({"pgd": {"steps": 2}}), LINF, batch_size=20)
    data = batch_of(33, seed=9, dtype=dtype)
    seen: list[Tensor] = []
    for _ in range(2):
        before = graphs()
        for size in (6, 6, 4):
            batch = batch_of(size, seed=size, dtype=dtype)
            seen.append(engine.step(batch.x, batch.y).losses)
        engine.end_epoch()
        seen.append(evaluator.score(Split(data.x, data.y)).robust_losses)
        for track in engine.tracks():
            with engine.track(track):
                seen.append(evaluator.score(Split(data.x, data.y)).robust_losses)
    return [*seen, *(value.detach() for value in engine.model.state_dict().values())], graphs() - before


@pytest.mark.parametrize("name", STACKS)
def test_two_graphs_and_the_same_numbers(name: str):
    eager, _ = two_epochs(STACKS[name], "off")
    assert graphs() == 0
    compiled, added = two_epochs(STACKS[name], "model")
    assert graphs() == 2
    assert added == 0
    assert len(compiled) == len(eager)
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_in_float32_are_those_of_the_eager_model():
    batch, grads = batch_of(8), {}
    for compile in ("off", "model"):
        model = ConvNet()
        engine = engine_of(model, "clean", compile=compile)
        engine.step(batch.x, batch.y)
        x = batch.x.clone().requires_grad_()
        with engine.at_work.attacking("eval"):
            (of_x,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), batch.y), x)
        grads[compile] = [of_x, *(weight.grad for weight in model.parameters())]
    for ours, theirs in zip(grads["model"], grads["off"], strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_ten_engines_in_one_process_share_no_limit():
    for _ in range(10):
        step(engine_of(ConvNet(), "fgsm", compile="model"))
    assert graphs() == 20


def test_weights_that_are_changed_in_place_count():
    batch = batch_of()
    model, other = ConvNet(), ConvNet(seed=1)
    at_work = ModelAtWork(model, compile="model", who="x")
    at_work.logits(batch.x)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)
    torch.testing.assert_close(at_work.logits(batch.x), ModelAtWork(other, who="x").logits(batch.x))


def test_attack_and_training_may_differ_in_precision():
    engine = engine_of(ConvNet(), "fgsm", compile="model", precision={"attack": "bf16"})
    for _ in range(2):
        step(engine)
    assert graphs() == 2
    engine.at_work.logits(batch_of().x)
    assert graphs() == 3  # the score is of another precision than the attack


class Printing(ConvNet):
    def forward(self, x: Tensor) -> Tensor:
        print("forward")  # noqa: T201
        return super().forward(x)


def test_a_model_that_does_not_compile_is_one_error():
    model = Printing()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match=r"model Printing does not compile: .*print.*; set compile: off"):
        step(engine_of(model, "fgsm", compile="model"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    step(engine_of(model, "fgsm"))


def test_a_model_that_cannot_take_the_inputs_says_so_compiled_too():
    with pytest.raises(ModelError, match="model ConvNet cannot take x"):
        engine_of(ConvNet(), "fgsm", compile="model").step(torch.rand(4, 2, 4, 4), torch.zeros(4, dtype=torch.int64))


def test_a_gradient_of_a_gradient_names_the_cure():
    engine = engine_of(ConvNet(), "fgsm", "grad_align", compile="model")
    with pytest.raises(HookError, match=r"double backward .*; set compile: off for this stack"):
        step(engine)


def test_other_choices_are_refused():
    with pytest.raises(
        ConfigError, match=re.escape("engine: compile: expected one of off, model, graphs, got 'modle'")
    ):
        engine_of(ConvNet(), "fgsm", compile="modle")
    with pytest.raises(ConfigError, match="compile: graphs are CUDA graphs, and the model is on cpu"):
        engine_of(ConvNet(), "fgsm", compile="graphs")


# CUDA graphs: the routing, with a stand-in that runs the captured function again on static buffers.


class Captures:
    """A stand-in for ``torch.cuda.make_graphed_callables``, which counts captures and copies into a static input."""

    def __init__(self) -> None:
        self.captured: list[torch.Size] = []
        self.replayed = 0

    def __call__(self, function, samples):
        (static,) = samples
        self.captured.append(static.shape)

        def replay(x: Tensor) -> Tensor:
            assert x.shape == static.shape
            assert x.dtype == static.dtype
            self.replayed += 1
            return function(x)

        return replay


def test_attack_steps_are_captured_once_and_what_lies_elsewhere_runs_without_a_graph(monkeypatch):
    captures = Captures()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captures)
    monkeypatch.setattr(compiling, "compiled_passes", lambda choice, model, device, who: GraphedPasses(model))
    monkeypatch.setattr("buttress.engine.attacking.compiled_passes", lambda choice, model, *_: GraphedPasses(model))
    engine = engine_of(ConvNet(), {"pgd": {"steps": 3}}, {"awp": {"gamma": 0.1}})
    for _ in range(2):
        step(engine)
    assert captures.captured == [torch.Size([6, 1, 4, 4])]
    assert captures.replayed == 6
    with torch.no_grad():
        others = {name: torch.randn_like(weight) for name, weight in engine.model.named_parameters()}
    with engine.track(Track("other", others, buffers="live")) as model:  # its buffers are copies
        logits = engine.at_work.logits(batch_of().x)
        with torch.no_grad():
            torch.testing.assert_close(logits, model.eval()(batch_of().x))
        model.train()
    assert captures.replayed == 6
    assert len(captures.captured) == 1


def test_an_eager_block_has_no_compiled_passes():
    at_work = ModelAtWork(ConvNet(), compile="model", who="test")
    x = batch_of(6).x
    with at_work.eagerly():
        eager = at_work.logits(x)
    assert graphs() == 0
    torch.testing.assert_close(at_work.logits(x), eager)
    assert graphs() == 1
