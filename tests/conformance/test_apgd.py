"""``apgd`` against that of the package ``pyautoattack`` from the same starts, and against ``pgd`` of equal steps."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from buttress import Batch, Split, ThreatModel, evaluate, load_attack_loss, target_classes
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress_plugins.attacks.apgd import Objective, State, apgd

NORMS = {"linf": ("Linf", 0.05), "l2": ("L2", 0.3)}
norms = pytest.mark.parametrize("norm", NORMS)
N, CLASSES = 24, 5


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    """The package keeps losses in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@cache
def examples() -> tuple[nn.Module, Tensor, Tensor]:
    """A model, and images with its own labels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Tanh(), nn.Linear(12, CLASSES)).double().eval()
    model.requires_grad_(False)
    x = torch.rand(N, 1, 5, 5, dtype=torch.float64)
    return model, x, model(x).argmax(1)


def run(norm: Any, steps: int, loss: str, targets: Tensor | None, stop: bool = False) -> tuple[State, Any]:
    """One run of ours and one of the package, from the same starts."""
    model, x, y = examples()
    name, eps = NORMS[norm]
    threat = ThreatModel(norm, eps)
    context = Context(RunState(threat, torch.device("cpu"), phase="evaluate"), "apgd")
    start = threat.surface_start(x, torch.Generator().manual_seed(1))
    objective = Objective(load_attack_loss(loss), model, Batch(x, y), targets, context, True)
    package = (APGDAttack if targets is None else APGDAttack_targeted)(
        model, n_iter=steps, norm=name, eps=eps, device="cpu"
    )
    package.loss, package.y_target = loss if targets is None else f"{loss}-targeted", targets
    package.init_hyperparam(x)
    theirs = package.attack_single_run(x, y, x_init=x + start)
    return apgd(objective, threat, steps=steps, start=start, stop=stop), theirs


LOSSES = {"CE": ("ce", False), "DLR": ("dlr", False), "CE towards": ("ce", True), "DLR towards": ("dlr", True)}


@norms
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 100])
@pytest.mark.parametrize("name", LOSSES)
def test_a_run_agrees_with_the_package(name: str, steps: int, norm: str):
    loss, targeted = LOSSES[name]
    ours, (best, right, best_loss, wrong) = run(norm, steps, loss, (examples()[2] + 2) % CLASSES if targeted else None)
    assert torch.equal(ours.wrong, ~right)
    assert float((ours.best_loss - best_loss).abs().max()) <= 1e-9
    # Where DLR has reached its highest value, 1, its gradient is that of the 1e-12 in it, and the package's 1e-12
    # beside the norm of the gradient decides. After 50 steps, steps of L2 are below the rounding of the loss.
    same = best_loss < 1 - 1e-6 if name == "DLR" else torch.ones(N, dtype=torch.bool)
    if norm == "linf" or steps <= 20:
        assert int(same.sum()) >= N // 2
        assert float((ours.best - best.detach())[same].abs().max()) <= 1e-9
        assert float((ours.x_wrong - wrong.detach())[same].abs().max()) <= 1e-9


@norms
@pytest.mark.parametrize("name", LOSSES)
def test_an_example_that_is_finished_early_has_the_same_verdict(name: str, norm: str):
    loss, targeted = LOSSES[name]
    targets = (examples()[2] + 2) % CLASSES if targeted else None
    model, _, y = examples()
    made: list[int] = []
    counting = model.register_forward_pre_hook(lambda _, inputs: made.append(len(inputs[0])))
    stopped, (best, right, best_loss, _) = run(norm, 20, loss, targets, stop=True)
    counting.remove()
    ours = made[21:]  # the package comes first
    assert torch.equal(stopped.wrong, ~right)
    assert 0 < int(right.sum()) < N
    assert bool((model(stopped.x_wrong).argmax(1) != y)[~right].all())
    assert float((stopped.best_loss - best_loss)[right].abs().max()) <= 1e-9
    if norm == "linf":
        assert torch.allclose(stopped.best[right], best[right], rtol=0, atol=1e-9)
    assert sum(ours) < 21 * N
    assert ours[-1] == int(right.sum()) or norm == "l2"


def test_the_likeliest_targets_are_those_of_the_package():
    model, x, _ = examples()
    logits = model(x)
    ranked = logits.sort(dim=1)[1]
    ours = target_classes(4, logits, logits.argmax(1), None)  # type: ignore[arg-type]
    assert torch.equal(ours, torch.stack([ranked[:, -k] for k in range(2, 6)]))
    assert torch.equal(target_classes("all", logits, logits.argmax(1), None), ours)  # type: ignore[arg-type]


def smooth() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def rectified() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def convolutional() -> nn.Module:
    conv = nn.Conv2d(1, 8, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))


@cache
def digits() -> Split:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Split(torch.from_numpy(x / 16).view(-1, 1, 8, 8), torch.from_numpy(y))


@pytest.mark.parametrize("make", [smooth, rectified, convolutional])
def test_on_digits_it_is_at_least_as_strong_as_pgd_of_equal_steps(make: Callable[[], nn.Module]):
    torch.manual_seed(0)
    model, data = make(), digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.x[:1000]), data.y[:1000]).backward()
        optimizer.step()
    held_out = Split(data.x[1000:], data.y[1000:])
    for threat, slack in ((ThreatModel("linf", "1/16"), 0), (ThreatModel("l2", "2/5"), 1)):
        pgd, auto = (evaluate(model, held_out, attack, threat) for attack in ("pgd-20", "apgd-20"))
        stand, against_pgd = int(auto.robust_correct.sum()), int(pgd.robust_correct.sum())
        assert 40 < stand <= against_pgd + slack  # under L2 an example of 797 may stand that fell to pgd
        assert pgd.robust < pgd.clean == auto.clean
