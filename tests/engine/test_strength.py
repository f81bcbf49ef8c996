"""Attacks in bf16 are as strong as in float32: on the demo's model, scored by the float32 model, n = 1,000."""

import pytest
import torch
from torch import Tensor

from buttress.config.file import load_config
from buttress.engine.attacking import ModelAtWork
from buttress.functional import cross_entropy, is_correct
from buttress.precision import Precision
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator
from buttress.training.assembly import Assembly, assemble
from buttress.training.dataset import load_data

from ..docs.blocks import ROOT

SHORT = ["epochs=12", "plugins=[{pgd: {steps: 2, step_size: 1/15}}]"]


@pytest.fixture(scope="module")
def demo() -> Assembly:
    """The demo, trained for a quarter of its epochs with a fifth of its steps of attack: 76 % robust."""
    file = load_config(ROOT / "configs" / "demo.yaml", SHORT)
    data, settings = load_data(file)
    assembly = assemble(file, data, settings, None)
    engine, schedule = assembly.engine, assembly.schedule
    for epoch in range(assembly.length.epochs):
        engine.set_lr(schedule.factor(float(epoch), assembly.length.time), float(epoch))
        for batch in assembly.training_set.batches(epoch):
            engine.step(batch.x, batch.y)
        engine.end_epoch()
    return assembly


def verdicts(demo: Assembly, attack: str | dict[str, dict[str, object]], word: str) -> tuple[float, float]:
    """Accuracy in percent and mean loss of the float32 model, on test examples that were attacked in ``word``."""
    model, test = demo.engine.model, demo.data.test
    attacker = Evaluator(
        ModelAtWork(model, Precision.scoring(word), who="attacker"), load_attack(attack), demo.evaluator.threat
    )
    judge = ModelAtWork(model, who="judge")
    correct, losses = list[Tensor](), list[Tensor]()
    for number, batch in enumerate(test.batches(torch.arange(len(test)), 500)):
        logits = judge.logits(attacker.attacked(batch, number).x)
        correct.append(is_correct(logits, batch.y))
        losses.append(cross_entropy(logits, batch.y))
    return 100 * float(torch.cat(correct).float().mean()), float(torch.cat(losses).mean())


def test_attacks_in_bf16_are_as_strong_as_in_float32(demo: Assembly):
    own = demo.file.config.evaluation.attack
    assert len(demo.data.test) == 1000
    accuracy, loss = verdicts(demo, own, "float32")
    accuracy_in_bf16, loss_in_bf16 = verdicts(demo, own, "bf16")
    assert 60 < accuracy < 90
    assert accuracy_in_bf16 == pytest.approx(accuracy, abs=0.5)
    assert loss_in_bf16 == pytest.approx(loss, rel=0.01)


def test_a_weaker_attack_would_be_seen(demo: Assembly):
    accuracy, loss = verdicts(demo, "fgsm", "float32")
    stalled, stalled_loss = verdicts(demo, {"pgd": {"steps": 1, "step_size": "1/20"}}, "float32")
    assert stalled > accuracy + 0.5
    assert stalled_loss < 0.99 * loss
