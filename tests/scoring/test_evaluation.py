"""Clean and robust accuracy on models whose robustness is known exactly."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Adv, Split, ThreatModel, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.errors import ConfigError, DataError, HookError, PluginError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator

from ..core.helpers import LINF, SHORT_PGD, assert_same, batch_of, plugin, snapshot
from ..models import MLP, ConvNet, Halfspace

W = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)


def line(*scores: float) -> Tensor:
    """Inputs without a box whose ``w.x`` are ``scores``."""
    return torch.tensor([[score / 2, score / 2, 0.0, 0.0] for score in scores], dtype=torch.float64)


# L-inf eps 1/10 moves w.x by 0.1 * |w|_1 = 0.2; L2 eps 1/10 by 0.1 * |w|_2 = 0.1414...
SPLIT = Split(line(0.1, 0.15, 0.3, -0.1, -0.3), torch.tensor([0, 0, 0, 0, 1]))


@pytest.mark.parametrize(
    ("norm", "robust"),
    [("linf", [False, False, True, False, True]), ("l2", [False, True, True, False, True])],
)
@pytest.mark.parametrize("attack", ["fgsm", {"pgd": {"steps": 5, "start": "none"}}, {"pgd": {"steps": 20}}])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_accuracies_of_a_half_space_follow_its_margins(norm: Any, robust: list[bool], attack: Any, batch_size: int):
    score = evaluate(Halfspace(W), SPLIT, attack, ThreatModel(norm, "1/10", None), batch_size=batch_size)
    assert score.clean_correct.tolist() == [True, True, True, False, True]
    assert score.robust_correct.tolist() == robust
    assert (score.clean, score.robust, score.n) == (4 / 5, sum(robust) / 5, 5)


@pytest.mark.parametrize(("norm", "reach"), [("linf", 0.2), ("l2", 0.1 * 2**0.5)])
def test_losses_of_attacked_examples_of_a_half_space_follow_their_margins(norm: Any, reach: float):
    attack = {"pgd": {"steps": 5, "start": "none"}}
    score = evaluate(Halfspace(W), SPLIT, attack, ThreatModel(norm, "1/10", None))
    margins = torch.tensor([0.1, 0.15, 0.3, -0.1, 0.3], dtype=torch.float64) - reach  # logits are (w.x, -w.x)
    torch.testing.assert_close(score.robust_losses, torch.log1p(torch.exp(-2 * margins)), rtol=1e-9, atol=0)


def test_without_an_attack_robust_accuracy_is_clean_accuracy():
    score = evaluate(Halfspace(W), SPLIT, "clean", ThreatModel("linf", "1/10", None))
    assert score.clean == score.robust == 4 / 5


def split_of(n: int = 10) -> Split:
    batch = batch_of(n)
    return Split(batch.x, batch.y)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attack_mode", ["eval", "train"])
def test_the_model_is_left_as_found(training: bool, attack_mode: str):
    model = ConvNet().train(training)
    model.bn.eval()
    model.linear.bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = snapshot(model)
    random = torch.random.get_rng_state()
    evaluate(model, split_of(), {"pgd": {"attack_mode": attack_mode}}, LINF, batch_size=4)
    assert_same(before, snapshot(model))
    assert [module.training for module in model.children()] == [training, False, training]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, True, True, False]
    assert all(bool((parameter.grad == 1).all()) for parameter in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


def test_both_forwards_and_the_attack_see_eval_mode():
    model = ConvNet()
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    evaluate(model, split_of(), {"pgd": {"attack_mode": "train", "steps": 2}}, LINF)
    assert seen == [False] * 4


def drawing() -> LoadedPlugin:
    """An attack that answers with its own noise."""

    def generate_adv(self: Any, batch: Any, ctx: Any) -> Adv:
        self.phases.append(ctx.phase)
        noise = torch.rand(batch.x.shape, generator=ctx.generator("noise"))
        self.draws.append(noise)
        return Adv(batch.x)

    return LoadedPlugin("drawing", plugin("drawing", generate_adv=generate_adv, draws=[], phases=[]))


def draws(evaluator: Evaluator, n: int = 10) -> list[Tensor]:
    evaluator.attack.plugin.draws.clear()
    evaluator.score(split_of(n))
    return list(evaluator.attack.plugin.draws)


@pytest.mark.parametrize("n", [4, 10])
def test_the_second_evaluation_draws_as_the_first(n: int):
    evaluator = Evaluator(ConvNet(), drawing(), LINF, batch_size=4)
    first, second = draws(evaluator, n), draws(evaluator, n)
    assert len(first) == -(-n // 4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_draws_depend_on_seed_and_batch_number():
    first = draws(Evaluator(ConvNet(), drawing(), LINF, batch_size=5))
    other = draws(Evaluator(ConvNet(), drawing(), LINF, batch_size=5, seed=1))
    values = {tuple(noise.flatten().tolist()) for noise in [*first, *other]}
    assert len(values) == 4


def test_attacks_in_evaluation_see_phase_evaluate():
    attack = drawing()
    Evaluator(ConvNet(), attack, LINF).score(split_of())
    assert attack.plugin.phases == ["evaluate"]


def test_equal_seeds_give_equal_scores():
    scores = [evaluate(ConvNet(), split_of(40), SHORT_PGD, LINF, seed=3) for _ in range(2)]
    assert torch.equal(scores[0].robust_correct, scores[1].robust_correct)


def test_values_are_always_checked_in_evaluation():
    far = LoadedPlugin("far", plugin("far", generate_adv=lambda self, batch: Adv((batch.x + 0.3).clamp(0, 1))))
    with pytest.raises(HookError, match=r"plugin 'far'.*\n  expected adversarial examples within linf distance 1/10"):
        evaluate(ConvNet(), split_of(), far, LINF)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("pdg", PluginError, "unknown attack 'pdg'; did you mean 'pgd'"),
        ("meat", PluginError, "unknown attack 'meat'"),
        ({"pgd": {"stepz": 3}}, ConfigError, r"pgd\.stepz: unknown key; did you mean 'steps'"),
        (3, ConfigError, "attack: expected a name"),
    ],
)
def test_a_wrong_attack_is_refused(entry: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        load_attack(entry)


def test_an_evaluation_on_no_example_is_refused():
    with pytest.raises(DataError):
        evaluate(MLP(), Split(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64)), "clean", LINF)


@pytest.mark.parametrize(("epoch", "place"), [(5, "evaluation after epoch 5, batch 2"), (None, "evaluation, batch 2")])
def test_an_attack_that_fails_in_an_evaluation_is_named_with_the_place(epoch: int | None, place: str):
    def generate_adv(self: Any, batch: Any, ctx: Any) -> Adv:
        if ctx.step == 1:
            raise ValueError("no")
        return Adv(batch.x)

    attack = LoadedPlugin("bad", plugin("bad", generate_adv=generate_adv))
    evaluator = Evaluator(ConvNet(), attack, LINF, batch_size=4)
    with pytest.raises(HookError, match=rf"hook generate_adv, {place}:\n  ValueError: no"):
        evaluator.score(split_of(), epoch)
