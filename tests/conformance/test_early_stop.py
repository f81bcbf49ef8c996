"""``early_stop`` of attacks against a literal loop over examples in float64: answers, queries, and what it changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from buttress import Batch, ThreatModel
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import PluginError
from buttress.scoring.attacks import attack_name, load_attack
from buttress.scoring.evaluator import Evaluator
from buttress_plugins.attacks.pgd import PGD
from tests.models import ConvNet
from tests.plugins.conftest import engine_of

N, CLASSES, STEPS, ALPHA, SHARE = 24, 5, 6, 0.02, 0.6
THREATS = {"linf": ThreatModel("linf", 0.05), "l2": ThreatModel("l2", 0.3)}
norms = pytest.mark.parametrize("norm", THREATS)

ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {},
    "pgd margin": {"loss": "margin"},
    "pgd towards": {"targets": 1},
    "ifgsm": {},
    "mifgsm": {"decay": SHARE},
    "cw": {},
}
attacks = pytest.mark.parametrize("attack", ATTACKS)


@cache
def examples() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A model, images, labels of which two are wrong, and starts, parts of which leave ball and box."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Tanh(), nn.Linear(12, CLASSES)).double().eval()
    x = torch.rand(N, 1, 5, 5, dtype=torch.float64)
    y = model(x).argmax(1)
    y[:2] = (y[:2] + 1) % CLASSES
    return model, x, y, 0.03 * torch.randn(x.shape, dtype=torch.float64)


def entry(attack: str, **settings: Any) -> dict[str, Any]:
    sizes = {"steps": STEPS, "step_size": ALPHA * (1 if "linf" in settings.pop("norm") else 5)}
    return {attack.split()[0]: {**sizes, **ATTACKS[attack], "early_stop": True, **settings}}


@contextmanager
def queries(model: nn.Module) -> Iterator[list[int]]:
    """The number of examples in each forward of the block."""
    sizes: list[int] = []
    counting = model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    try:
        yield sizes
    finally:
        counting.remove()


class Operations(TorchDispatchMode):
    """The names of all operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def inside(z: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    eps = float(threat.eps)
    if threat.norm == "linf":
        return z.clamp(x - eps, x + eps).clamp(0, 1)
    length = float((z - x).norm())
    return (x + (z - x) * min(1.0, eps / length if length else 1.0)).clamp(0, 1)


def best_wrong(z: Tensor, y: int) -> int:
    return max((k for k in range(CLASSES) if k != y), key=lambda k: float(z[k]))


def loss_of(attack: str, z: Tensor, y: int, target: int) -> Tensor:
    if attack == "pgd towards":
        return F.log_softmax(z, 0)[target]
    return z[best_wrong(z.detach(), y)] - z[y] if attack in ("cw", "pgd margin") else -F.log_softmax(z, 0)[y]


def literal(attack: str, i: int, start: Tensor | None, threat: ThreatModel, alpha: float) -> tuple[Tensor, int]:
    """The answer for example i, and the number of points at which the model was asked."""
    model, xs, ys, _ = examples()
    x, y = xs[i], int(ys[i])
    target = best_wrong(model(x[None])[0].detach(), y)
    point, speed = x if start is None else inside(x + start[i], x, threat), torch.zeros_like(x)
    for k in range(STEPS):
        leaf = point.clone().requires_grad_()
        z = model(leaf[None])[0]
        prediction = int(z.argmax())
        if prediction == target if attack == "pgd towards" else prediction != y:
            return point, k + 1
        (g,) = torch.autograd.grad(loss_of(attack, z, y, target), leaf)
        if attack == "mifgsm":
            g = speed = SHARE * speed + g / g.abs().sum()
        point = inside(point + alpha * (g.sign() if threat.norm == "linf" else g / g.norm()), x, threat)
    return point, STEPS


def attacked(settings: dict[str, Any], threat: ThreatModel, start: Tensor | None) -> tuple[Tensor, list[int]]:
    """The answer of an attack in an evaluation, and the number of examples in each of its forwards."""
    model, x, y, _ = examples()
    (name,) = settings
    evaluator = Evaluator(model, load_attack(settings, given={"num_classes": CLASSES}), threat)
    with queries(model) as sizes:
        return evaluator.attacked(Batch(x, y), draws=None if start is None else {f"{name}.start": start}).x, sizes


@norms
@attacks
def test_every_example_is_answered_by_its_first_point_of_success_and_asked_no_more(attack: str, norm: str):
    threat, start = THREATS[norm], None if attack == "ifgsm" else examples()[3]
    settings = entry(attack, norm=norm)
    ((_, chosen),) = settings.items()
    points, counts = zip(*(literal(attack, i, start, threat, chosen["step_size"]) for i in range(N)), strict=True)
    answer, sizes = attacked(settings, threat, start)
    torch.testing.assert_close(answer, torch.stack(points), rtol=0, atol=1e-12)
    sizes = sizes[1:] if attack == "pgd towards" else sizes  # the targets' own forward
    assert sizes == [sum(count > k for count in counts) for k in range(STEPS) if any(count > k for count in counts)]
    assert len(set(counts)) >= 3, "the examples should be finished at different steps"
    assert sum(sizes) < STEPS * N


@norms
@attacks
def test_in_training_the_answers_are_the_same_and_the_batch_stays_whole(attack: str, norm: str):
    threat, start = THREATS[norm], None if attack == "ifgsm" else examples()[3]
    settings = entry(attack, norm=norm)
    (name,) = settings
    expected, _ = attacked(settings, threat, start)
    model, x, y, _ = examples()
    state = RunState(threat, torch.device("cpu"), phase="attack")
    state.draws = {} if start is None else {f"{name}.start": start}
    plugin: Any = load_attack(settings, given={"num_classes": CLASSES}).plugin
    with queries(model) as sizes, Operations() as operations:
        answer = plugin.generate_adv(model, Batch(x, y), Context(state, name)).x
    assert not operations.names & {"nonzero", "_local_scalar_dense", "index", "masked_select"}, (
        "it waits for the device"
    )
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-12)
    assert set(sizes) == {N}
    assert not answer.requires_grad


@norms
@attacks
def test_it_breaks_what_is_broken_without_it_and_leaves_the_rest_as_it_is(attack: str, norm: str):
    threat, start = THREATS[norm], None
    if attack != "ifgsm":  # one that lies inside, as random ones do
        x = examples()[1]
        start = threat.project(x + examples()[3], x) - x
    (stopped, _), (whole, _) = (
        attacked(entry(attack, norm=norm, early_stop=each), threat, start) for each in (True, False)
    )
    model, _, y, _ = examples()
    right, right_without = (model(answer).argmax(1) == y for answer in (stopped, whole))
    assert not bool((right & ~right_without).any())
    assert 0 < int(right.sum()) < N
    torch.testing.assert_close(stopped[right], whole[right], rtol=0, atol=1e-12)


RUNS: dict[str, Any] = {"steps": 3, "step_size": 0.03, "restarts": 2}


def starts_of(runs: int) -> Tensor:
    x = examples()[1]
    noise = torch.rand((runs, *x.shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return (x + 0.1 * noise - 0.05).clamp(0, 1) - x


def test_of_several_restarts_the_first_that_breaks_an_example_answers_for_it():
    model, _, y, _ = examples()
    threat, starts, short = THREATS["linf"], starts_of(6), {"steps": 1, "step_size": 0.03, "early_stop": True}
    answers = torch.stack([attacked({"pgd": short}, threat, start)[0] for start in starts])
    wrong = model(answers.flatten(0, 1)).argmax(1).view(6, N) != y
    first = wrong.long().argmax(0)
    assert len(set(first[wrong.any(0)].tolist())) >= 2, "several starts should be needed"
    answer, _ = attacked({"pgd": {**short, "restarts": 6}}, threat, starts)
    assert torch.equal(model(answer).argmax(1) != y, wrong.any(0))
    expected = answers[first, torch.arange(N)]
    torch.testing.assert_close(answer[wrong.any(0)], expected[wrong.any(0)], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("settings", "runs"), [({}, 2), ({"targets": "all"}, 8), ({"targets": 2}, 4)], ids=str)
def test_every_restart_attacks_what_the_ones_before_left(settings: dict[str, Any], runs: int):
    model, _, y, _ = examples()
    plain, plain_sizes = attacked({"pgd": {**RUNS, **settings}}, THREATS["linf"], starts_of(runs))
    answer, sizes = attacked({"pgd": {**RUNS, **settings, "early_stop": True}}, THREATS["linf"], starts_of(runs))
    right, right_without = (model(each).argmax(1) == y for each in (answer, plain))
    assert 0 < int(right.sum()) < N
    assert not bool((right & ~right_without).any())
    torch.testing.assert_close(answer[right], plain[right], rtol=0, atol=1e-12)
    assert sizes == sorted(sizes, reverse=True)
    assert int(right.sum()) <= sizes[-1] < N
    assert set(plain_sizes) == {N}


def test_an_example_that_is_wrong_from_the_start_costs_one_forward_and_stays():
    model, x, y, _ = examples()
    wrong = (y + 1 + (model(x).argmax(1) == (y + 1) % CLASSES).long()) % CLASSES
    for settings in (
        {"ifgsm": {}},
        {"mifgsm": {}},
        {"cw": {"start": "none"}},
        {"pgd": {"start": "none", "restarts": 3}},
    ):
        ((name, own),) = settings.items()
        evaluator = Evaluator(model, load_attack({name: {**own, "early_stop": True}}), THREATS["l2"])
        with queries(model) as sizes:
            assert torch.equal(evaluator.attacked(Batch(x, wrong)).x, x)
        assert sizes == [N]


def test_an_error_that_is_not_the_target_does_not_end_an_attack_with_targets():
    model, x, _, _ = examples()
    targets = model(x).argmin(1)
    wrong = torch.where(targets == 0, 1, 0)  # the model errs everywhere but on its class 0
    attack = load_attack({"pgd": {"steps": 3, "targets": "least_likely", "early_stop": True}})
    with queries(model) as sizes:
        Evaluator(model, attack, THREATS["linf"]).attacked(Batch(x, wrong))
    assert sizes == 4 * [N]  # the targets are a forward


def test_what_is_stopped_early_says_so_in_tables():
    assert attack_name(load_attack({"pgd": {"steps": 20, "early_stop": True}})) == "pgd-20-early-stop"
    assert attack_name(load_attack({"cw": {"early_stop": False}})) == "cw-100"


def test_in_training_it_asks_for_labels_of_inputs_that_are_not_mixed():
    pgd: dict[str, Any] = {"pgd": {"early_stop": True}}
    with pytest.raises(
        PluginError, match=r"'pgd' .*refuses mixed inputs, which plugin 'mixup' .*: its early stop looks"
    ):
        engine_of(ConvNet(), pgd, {"mixup": {"num_classes": 3}})
    assert not PGD(loss="kl", early_stop=True).takes
    assert PGD(loss="kl").takes == ("unlabelled examples",)
