"""Precision: every forward in its own region, so that weights changed in place count; what stays float32."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from buttress import Split, Track, evaluate
from buttress.engine import attacking
from buttress.engine.attacking import ModelAtWork
from buttress.errors import ConfigError
from buttress.nn.precision import tf32_set
from buttress.precision import Precision
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator

from ..core.helpers import LINF, batch_of, engine_of, plugin, step
from ..models import ConvNet, FourStages

PERTURBATIONS = {
    "awp": {"awp": {"gamma": 0.5}},
    "rwp": {"rwp": {"gamma": 0.5, "k2": 2, "c_min": "inf"}},
    "amp": {"amp": {"delta": 0.5}},
    "rat_wp": {"rat_wp": {"gamma": 0.5}},
}


def losses(perturbation: object, **options: object) -> torch.Tensor:
    """``[6]`` training losses of one step on the four-stage network, with a weight perturbation or none."""
    batch, generator = batch_of(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = FourStages(width=32)
    stack = ["clean", *([perturbation] if perturbation else [])]
    x = torch.rand((6, 1, 8, 8), generator=generator)
    return engine_of(model, *stack, **options).step(x, batch.y).losses


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbed_weights_count_in_bf16(name):
    moved = losses(PERTURBATIONS[name]) - losses(None)
    moved_in_bf16 = losses(PERTURBATIONS[name], precision="bf16") - losses(None, precision="bf16")
    assert moved.mean() > 0.05
    assert moved_in_bf16.mean() == pytest.approx(moved.mean(), rel=0.25)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_within_one_region_of_autocast_perturbed_weights_would_be_ignored(name, monkeypatch):
    """The trap: what ``region`` is for, and why a region around a step is refused."""
    monkeypatch.setattr(attacking, "region", lambda word, device: nullcontext())
    monkeypatch.setattr(attacking, "expect_no_autocast", lambda device, who: None)
    with torch.autocast("cpu", torch.bfloat16):
        perturbed, plain = losses(PERTURBATIONS[name]), losses(None)
    # All but the last bits: only biases and norms, which no region casts, could have moved.
    assert (perturbed - plain).abs().max() < 0.2 * (losses(PERTURBATIONS[name]) - losses(None)).abs().max()


def test_a_track_is_scored_with_its_own_weights_in_bf16():
    batch = batch_of(64)
    model = ConvNet().eval()
    with torch.no_grad():
        others = {name: torch.randn_like(weight) for name, weight in model.named_parameters()}
    other = copy.deepcopy(model)
    other.load_state_dict({**other.state_dict(), **others})
    engine = engine_of(model.train(), "clean", precision={"score": "bf16"})
    split = Split(batch.x, batch.y)
    expected = [evaluate(net, split, "clean", LINF, precision="bf16").robust_losses for net in (model, other)]
    evaluator = Evaluator(engine.at_work, load_attack("clean"), LINF)
    live = evaluator.score(split).robust_losses
    with engine.track(Track("other", others, buffers="live")):
        swapped = evaluator.score(split).robust_losses
    assert torch.equal(live, expected[0])
    assert torch.equal(swapped, expected[1])
    assert (live - swapped).abs().max() > 0.1


def test_weights_gradients_logits_losses_and_optimizer_stay_float32_in_bf16():
    seen = {}

    def look(self, model, batch, adv):
        logits = model(adv.x)
        seen["logits"] = logits.dtype
        return nn.functional.cross_entropy(logits, batch.y, reduction="none")

    model = ConvNet()
    inside = []
    model.conv.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    engine = engine_of(model, "fgsm", plugin("look", compute_loss=look), precision="bf16")
    result = step(engine)
    assert set(inside) == {torch.bfloat16}
    assert seen["logits"] == result.losses.dtype == torch.float32
    state = [value["momentum_buffer"] for value in engine.optimizer.state.values()]
    for tensor in [*model.parameters(), *state, *(weight.grad for weight in model.parameters())]:
        assert tensor.dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "attack", "train", "score"),
    [
        (None, torch.float32, torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16, torch.float32),
        ({"attack": "bf16"}, torch.bfloat16, torch.float32, torch.float32),
        ({"train": "bf16", "score": "bf16"}, torch.float32, torch.bfloat16, torch.bfloat16),
    ],
)
def test_each_kind_of_work_has_its_own_precision(precision, attack, train, score):
    model, seen = ConvNet(), []
    model.conv.register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.dtype)))
    engine = engine_of(model, "fgsm", {"awp": {"gamma": 0.1}}, precision=precision)
    step(engine)
    assert {dtype for training, dtype in seen if not training} == {attack}
    assert {dtype for training, dtype in seen if training} == {train}
    seen.clear()
    engine.at_work.logits(batch_of().x)
    assert {dtype for _, dtype in seen} == {score}


def test_an_attack_within_the_training_step_has_the_precision_of_attacks_and_the_rest_its_own_again():
    model, seen = ConvNet(), []
    model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    engine = engine_of(model, "fgsm", {"amp": {"delta": 0.1, "reattack_final": True}}, precision={"attack": "bf16"})
    step(engine)
    low, full = torch.bfloat16, torch.float32
    assert seen[0] == low  # the attack, then at perturbed weights again, before the loss of the step
    assert seen.index(full) < len(seen) - 1 - seen[::-1].index(low) < len(seen) - 1
    assert seen[-1] == full


def test_a_region_around_a_step_an_evaluation_or_an_attack_is_refused():
    engine = engine_of(ConvNet(), "fgsm")
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    batch = batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ConfigError, match=r"engine: called within torch\.autocast, which keeps"):
            step(engine)
        with pytest.raises(ConfigError, match=r"evaluation: called within torch\.autocast"):
            evaluate(ConvNet(), Split(batch.x, batch.y), "fgsm", LINF)
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())
    step(engine)


@pytest.mark.parametrize(("training", "scores"), [("bf16", None), ("float32", "bf16")])
def test_an_evaluation_within_a_hook_is_in_its_own_precision_and_the_step_goes_on_in_that_of_the_engine(
    training, scores
):
    batch, model, seen = batch_of(), ConvNet(), []
    split = Split(batch.x, batch.y)

    def evaluating(self, model, batch, adv):
        seen.append(evaluate(model, split, "fgsm", LINF, precision=scores).robust_losses)
        return nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")

    inside = []
    expected = evaluate(model, split, "fgsm", LINF, precision=scores).robust_losses
    model.conv.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    step(engine_of(model, "clean", plugin("evaluating", compute_loss=evaluating), precision=training))
    assert torch.equal(seen[0], expected)
    own, engines = (torch.bfloat16 if word == "bf16" else torch.float32 for word in (scores, training))
    assert inside == [own] * (len(inside) - 1) + [engines]


def test_a_region_that_a_plugin_opens_changes_nothing_in_the_model_s_forward():
    seen = []

    def within(self, model, batch, adv):
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.cross_entropy(model(adv.x).float(), batch.y, reduction="none")

    model = ConvNet()
    model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    step(engine_of(model, "fgsm", plugin("within", compute_loss=within)))
    assert set(seen) == {torch.float32}


def test_without_a_precision_that_of_the_weights_holds_and_others_are_refused():
    assert ModelAtWork(ConvNet(), who="x").precision == Precision()
    assert str(ModelAtWork(ConvNet().double(), who="x").precision) == "float64"
    assert str(ModelAtWork(ConvNet().bfloat16(), who="x").precision) == "bfloat16"
    with pytest.raises(
        ConfigError, match=r"engine: precision bf16: expected weights of torch.float32, got torch.float64"
    ):
        engine_of(ConvNet().double(), "fgsm", precision="bf16")
    with pytest.raises(ConfigError, match=r"expected weights of torch.float64, got torch.float32"):
        engine_of(ConvNet(), "fgsm", precision="float64")
    with pytest.raises(ConfigError, match="tf32 is an arithmetic of CUDA devices, and the model is on cpu"):
        engine_of(ConvNet(), "fgsm", precision="tf32")


def test_tf32_is_on_for_its_work_alone():
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    for allowed in (True, False):
        with tf32_set(allowed):
            assert (products.allow_tf32, convolutions.allow_tf32) == (allowed, allowed)
        assert (products.allow_tf32, convolutions.allow_tf32) == before


def test_inputs_are_in_the_layout_of_the_weights():
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    model[0].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    x = torch.rand(2, 3, 4, 4)
    ModelAtWork(model, who="x").logits(x)
    ModelAtWork(model.to(memory_format=torch.channels_last), who="x").logits(x)
    assert seen == [False, True]


def test_passes_are_counted():
    engine = engine_of(ConvNet(), {"pgd": {"steps": 3}}, {"awp": {"gamma": 0.1}})
    step(engine)
    passes, examples = engine.at_work.counter.passes, engine.at_work.counter.examples
    assert (passes.forwards, passes.input_backwards, passes.weight_backwards) == (5, 3, 2)
    assert (examples.forwards, examples.input_backwards, examples.weight_backwards) == (30, 18, 12)
