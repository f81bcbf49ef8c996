"""Every attack of evaluations on inputs and models at the edge: answers inside the threat model, and no surprise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Split, ThreatModel
from buttress.errors import HookError, PluginError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator, Score

from .catalogue import ATTACKS

pytestmark = pytest.mark.usefixtures("short_autoattack")

ENTRIES: dict[str, dict[str, Any]] = {
    **{name: {name: attack.settings} for name, attack in ATTACKS.items()},
    **{f"{name}, early stop": {name: {"steps": 2, "early_stop": True}} for name in ("cw", "ifgsm", "mifgsm", "pgd")},
    "apgd, all targets": {"apgd": {"steps": 2, "targets": "all"}},
    "apgd, dlr": {"apgd": {"steps": 2, "loss": "dlr"}},
    "pgd, one step": {"pgd": {"steps": 1}},
    "pgd, restarts, early stop": {"pgd": {"steps": 1, "restarts": 2, "early_stop": True}},
}
entries = pytest.mark.parametrize("name", ENTRIES)
norms = pytest.mark.parametrize("norm", ["linf", "l2"])
OTHERS = [name for name in ENTRIES if name != "autoattack"]  # which has conditions of its own


class Changed(nn.Module):
    """A small network, whose logits go through a function of them and of the inputs."""

    def __init__(self, features: int, classes: int, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, classes))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.layers(x), x)


def scored(
    name: str,
    threat: ThreatModel,
    x: Tensor,
    classes: int = 5,
    change: Callable[[Tensor, Tensor], Tensor] = lambda logits, x: logits,
    errors: int = 0,
) -> tuple[Score, Tensor]:
    """The score of an attack, and its answers, of a network that errs on the first ``errors`` examples."""
    model = Changed(x[0].numel(), classes, change).to(x.dtype).eval()
    y = model.layers(x).argmax(1)
    y[:errors] = (y[:errors] + 1) % classes
    evaluator = Evaluator(model, load_attack(ENTRIES[name]), threat)
    answers: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: answers.append(inputs[0].detach()))
    score = evaluator.score(Split(x, y))
    assert answers[-1].dtype == x.dtype
    assert bool(threat.contains(answers[-1], x))
    return score, answers[-1]


def images(n: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand((n, 1, 6, 6), generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("name", OTHERS)
@norms
@pytest.mark.parametrize("form", ["float64", "bfloat16", "float16", "flat", "unbounded"])
def test_of_every_dtype_and_form(form: str, norm: Any, name: str):
    x = images(dtype=getattr(torch, form, torch.float32) if form != "flat" else torch.float32)
    if form == "flat":
        scored(name, ThreatModel(norm, "1/10"), x.flatten(1))
    elif form == "unbounded":
        scored(name, ThreatModel(norm, 3, box=None), 20 * x - 10)
    else:
        scored(name, ThreatModel(norm, "1/10"), x)


@entries
@norms
def test_one_example_and_channels_last(norm: Any, name: str):
    threat = ThreatModel(norm, "1/10")
    scored(name, threat, images(1))
    scored(name, threat, images(2).expand(2, 3, 6, 6).contiguous(memory_format=torch.channels_last))


@entries
@norms
def test_a_radius_of_zero_leaves_the_inputs(norm: Any, name: str):
    x = images()
    score, answer = scored(name, ThreatModel(norm, 0), x, errors=2)
    assert torch.equal(answer, x)
    assert torch.equal(score.robust_correct, score.clean_correct)
    assert score.clean == 4 / 6


@entries
@norms
def test_logits_that_are_nan_are_wrong_and_disturb_no_other_example(norm: Any, name: str):
    x = images()
    x[:, 0, 0, 0] = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])

    def change(logits: Tensor, x: Tensor) -> Tensor:
        return torch.where(x.flatten(1)[:, :1] > 0.5, torch.nan, logits)

    score, _ = scored(name, ThreatModel(norm, "1/10"), x, change=change)
    assert score.clean_correct.tolist() == [False, True] * 3
    assert not bool(score.robust_correct[::2].any())


@entries
@norms
def test_a_model_without_gradient_is_attacked_without_an_error(norm: Any, name: str):
    score, _ = scored(name, ThreatModel(norm, "1/10"), images(), change=lambda logits, x: 0 * logits)
    assert torch.equal(score.robust_correct, score.clean_correct)


@entries
@norms
def test_where_the_model_errs_on_everything_nothing_is_left_to_break(norm: Any, name: str):
    score, _ = scored(name, ThreatModel(norm, "1/100"), images(), errors=6)
    assert score.clean == score.robust == 0


@pytest.mark.parametrize("name", [name for name in OTHERS if "dlr" not in name])
def test_two_classes_are_enough(name: str):
    scored(name, ThreatModel("linf", "1/10"), images(), classes=2)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("apgd, dlr", HookError, "dlr: expected at least 3 classes for it, got 2; use ce or margin"),
        ("autoattack", PluginError, "autoattack: expected at least 4 classes, got 2: .*; take its other attacks"),
    ],
)
def test_two_classes_are_too_few_for_the_dlr_loss(name: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        scored(name, ThreatModel("linf", "1/10"), images(), classes=2)
