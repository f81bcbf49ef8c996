"""Compiled forwards: two graphs, whatever the batch sizes, and the numbers of eager ones."""

import copy
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from buttress import Split, Track
from buttress.engine import attacking
from buttress.engine.attacking import ModelAtWork
from buttress.engine.cuda_graphs import GraphedPasses
from buttress.engine.torch_compile import CompiledPasses
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


def test_batches_are_not_cut_where_examples_depend_on_one_another():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3, track_running_stats=False))
    at_work = ModelAtWork(model, compile="model", who="x")
    for size in (8, 5, 20):
        x = batch_of(size, seed=size).x
        torch.testing.assert_close(at_work.logits(x), model(x).detach())


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
    """A stand-in for ``torch.cuda.make_graphed_callables``: it counts captures, and its memory is static too."""

    def __init__(self) -> None:
        self.captured: list[torch.Size] = []
        self.replayed = 0

    def __call__(self, function, samples):
        (sample,) = samples
        self.captured.append(sample.shape)
        static_x, static_grad = sample.detach().clone().requires_grad_(), torch.empty_like(sample)
        static_logits = function(static_x).detach().clone()
        counts = self

        activations = {}  # static too: those of the newest replay

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                counts.replayed += 1
                static_x.data.copy_(x)
                with torch.enable_grad():
                    activations["logits"] = function(static_x)
                static_logits.copy_(activations["logits"].detach())
                return static_logits.detach()

            @staticmethod
            def backward(ctx, grad):
                static_grad.copy_(torch.autograd.grad(activations["logits"], static_x, grad)[0])
                return static_grad.detach()

        return Replay.apply


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    captures = Captures()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captures)
    monkeypatch.setattr(attacking, "compiled_passes", lambda choice, model, *_: GraphedPasses(model))
    return captures


def test_attack_steps_are_captured_once_and_what_lies_elsewhere_runs_without_a_graph(captures: Captures):
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


def test_what_a_captured_step_gave_outlives_the_next(captures: Captures):
    model, batch = ConvNet(), batch_of(12)
    seen = []
    for at_work in (without_graphs(copy.deepcopy(model)), ModelAtWork(model, who="x")):
        kept = []
        with at_work.attacking("eval"):
            for part in (slice(6), slice(6, 12)):
                x = batch.x[part].clone().requires_grad_()
                logits = at_work.model(x)
                kept += [logits, *torch.autograd.grad(logits.square().sum(), x)]
        seen.append(kept)
    assert captures.replayed == 2
    for ours, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_two_forwards_before_a_backward_are_an_error_where_activations_are_static(captures: Captures):
    batch = batch_of(6)
    at_work = ModelAtWork(ConvNet(), who="x")
    x = batch.x.clone().requires_grad_()
    with at_work.attacking("eval"):
        first, second = at_work.model(x), at_work.model(x)
        with pytest.raises(
            RuntimeError, match=r"two forwards before the backward of the first.*set compile: model, or off"
        ):
            (first + second).sum().backward()


def test_further_shapes_run_without_a_graph_and_a_notice_says_so(captures: Captures, caplog):
    engine = engine_of(ConvNet(), "fgsm")
    for size in (6, 4, 5, 5, 6):
        batch = batch_of(size)
        engine.step(batch.x, batch.y)
    assert captures.captured == [torch.Size([6, 1, 4, 4]), torch.Size([4, 1, 4, 4])]
    notices = [record.message for record in caplog.records if "run without a graph" in record.message]
    assert notices == ["compile: graphs: inputs of shape (5, 1, 4, 4) run without a graph"]


def without_graphs(model: nn.Module) -> ModelAtWork:
    at_work = ModelAtWork(model, who="x")
    at_work._compiled = None
    return at_work


def test_a_score_through_captured_steps_is_that_of_the_model(captures: Captures):
    batch, scores = batch_of(13), []
    for at_work in (without_graphs(ConvNet()), ModelAtWork(ConvNet(), who="x")):
        evaluator = Evaluator(at_work, load_attack({"pgd": {"steps": 3}}), LINF, batch_size=5)
        score = evaluator.score(Split(batch.x, batch.y))
        scores.append((score.clean_correct.tolist(), score.robust_correct.tolist(), score.robust_losses))
    assert captures.captured == [torch.Size([5, 1, 4, 4]), torch.Size([3, 1, 4, 4])]
    assert scores[0][:2] == scores[1][:2]
    torch.testing.assert_close(scores[0][2], scores[1][2])
