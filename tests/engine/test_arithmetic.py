"""The arithmetic of a step, against plain torch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Loss

from ..core.helpers import batch_of, clean_attack, engine_of, gradient, plugin, step
from ..models import MLP, ConvNet

MODELS = pytest.mark.parametrize("make", [ConvNet, MLP])


def reference_attack(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, steps: int, alpha: float) -> Tensor:
    """PGD, L-inf 1/10, in eval mode, written out."""
    model.eval()
    x_adv = x + start
    for _ in range(steps):
        grad = gradient(model, x_adv, y)
        x_adv = x_adv + alpha * grad.sign()
        x_adv = torch.max(torch.min(x_adv, x + 0.1), x - 0.1).clamp(0, 1)
    model.train()
    return x_adv


def reference_training(model: nn.Module, starts: list[Tensor], lr: float, momentum: float, decay: float) -> None:
    """Adversarial training with SGD, by hand."""
    velocity: dict[str, Tensor] = {}
    for number, start in enumerate(starts):
        batch = batch_of(seed=number, dtype=torch.float64)
        x_adv = reference_attack(model, batch.x, batch.y, start, 3, 0.04)
        model.zero_grad()
        F.cross_entropy(model(x_adv), batch.y).backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                assert weight.grad is not None
                grad = weight.grad + decay * weight
                velocity[name] = grad if name not in velocity else momentum * velocity[name] + grad
                weight -= lr * velocity[name]


@MODELS
def test_training_equals_plain_torch_in_float64(make: type[nn.Module]):
    ours, plain = make().double(), make().double()
    starts = [0.1 * (2 * torch.rand((6, 1, 4, 4), dtype=torch.float64, generator=g) - 1) for g in generators(5)]
    engine = engine_of(
        ours, {"pgd": {"steps": 3, "step_size": "1/25"}}, lr=0.3, momentum=0.9, weight_decay=0.01, attack_mode="eval"
    )
    for number, start in enumerate(starts):
        step(engine, number, draws={"pgd.start": start})
    reference_training(plain, starts, lr=0.3, momentum=0.9, decay=0.01)
    for (name, a), b in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def test_a_penalty_is_added_to_the_mean_and_not_to_the_losses():
    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        losses = F.cross_entropy(model(adv.x), batch.y, reduction="none")
        return Loss(losses, 0.5 * sum(weight.square().sum() for weight in model.parameters()))

    with_penalty, with_decay = MLP().double(), MLP().double()
    engine = engine_of(with_penalty, clean_attack(compute_loss=compute_loss), momentum=0.0)
    expected = F.cross_entropy(with_decay(batch_of(dtype=torch.float64).x), batch_of().y, reduction="none").detach()
    torch.testing.assert_close(step(engine).losses, expected, rtol=0, atol=1e-14)
    step(engine_of(with_decay, clean_attack(), momentum=0.0, weight_decay=1.0))
    for a, b in zip(with_penalty.parameters(), with_decay.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_soft_labels_train_like_the_hard_ones_that_they_spell_out():
    hard, soft = MLP().double(), MLP().double()
    batch = batch_of(dtype=torch.float64)
    engine_of(hard, clean_attack()).step(batch.x, batch.y)
    engine_of(soft, clean_attack()).step(batch.x, F.one_hot(batch.y, 3).double())
    for a, b in zip(hard.parameters(), soft.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_gradients_of_an_earlier_step_do_not_add_up():
    model = MLP().double()
    engine = engine_of(model, clean_attack(), lr=0.0)
    step(engine)
    first = [parameter.grad.clone() for parameter in model.parameters()]
    step(engine)
    assert all(torch.equal(a, b.grad) for a, b in zip(first, model.parameters(), strict=True))


def test_adjust_grads_edits_what_the_optimizer_takes():
    def halve(self: Any, model: nn.Module, optimizer: Any) -> None:
        for parameter in model.parameters():
            parameter.grad.mul_(0.5)

    halved, slower = MLP().double(), MLP().double()
    step(engine_of(halved, clean_attack(adjust_grads=halve), lr=0.2, momentum=0))
    step(engine_of(slower, clean_attack(), lr=0.1, momentum=0))
    for a, b in zip(halved.parameters(), slower.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_transform_batch_is_what_attack_and_loss_see():
    batch = batch_of()
    seen = []
    darker = clean_attack(
        "darker",
        transform_batch=lambda self, batch: Batch(batch.x / 2, batch.y, batch.index),
    )
    watcher = plugin("watcher", transform_batch=lambda self, batch: seen.append(batch) or batch)
    result = engine_of(MLP(), darker, watcher).step(batch.x, batch.y, index=batch.index)
    assert torch.equal(seen[0].x, batch.x / 2)
    assert seen[0].index is batch.index
    assert torch.equal(result.adv.x, batch.x / 2)
