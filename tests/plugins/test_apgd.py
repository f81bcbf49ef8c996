"""Auto-PGD: its checkpoints, its targets and runs, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import nn

from buttress import Split, ThreatModel, evaluate, load_plugins, target_classes
from buttress.errors import ButtressError, HookError, PluginError
from buttress.scoring.attacks import attack_name, load_attack
from buttress.scoring.evaluator import Evaluator
from buttress_plugins.attack_losses.dlr import dlr, targeted_dlr
from buttress_plugins.attacks.apgd import checkpoints

from ..models import MLP
from .conftest import batch_of, context, engine_of

LINF = ThreatModel("linf", "1/10")
LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [1.0, 2.0, 5.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


class Wide(nn.Module):
    """``[B,1,4,4]`` to 4 logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_checkpoints_are_those_of_the_paper():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]  # p = 0.22, 0.41, 0.57, ...
    assert checkpoints(10) == {2: 2, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1}
    assert checkpoints(1) == {1: 1}


def test_dlr_by_hand():
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([(3 - 4) / (4 - 1), (5 - 2) / (5 - 1)])
    towards = targeted_dlr(LOGITS, LABELS, torch.tensor([3, 0])).tolist()
    assert towards == pytest.approx([(0 - 4) / (4 - 0.5), (1 - 2) / (5 - 0)])
    assert torch.allclose(dlr(1000 * LOGITS, LABELS), dlr(LOGITS, LABELS))


def test_targets_by_hand():
    ctx = context(plugin="apgd")
    for targets, expected in {
        "least_likely": [[3, 3]],
        "next": [[1, 2]],
        1: [[2, 2]],
        2: [[2, 2], [1, 0]],
        "all": [[2, 2], [1, 0], [3, 3]],
    }.items():
        assert target_classes(targets, LOGITS, LABELS, ctx).tolist() == expected
    assert target_classes("next", LOGITS, torch.tensor([3, 3]), ctx).tolist() == [[0, 0]]
    y = torch.arange(4).repeat(50)
    (drawn,) = target_classes("random", torch.zeros(200, 4), y, ctx)
    assert not bool((drawn == y).any())
    assert sorted(set(((drawn - y) % 4).tolist())) == [1, 2, 3]


def test_random_targets_are_injected_and_none_may_be_the_label():
    batch = batch_of()
    given = (batch.y + 1) % 3
    entry = {"apgd": {"steps": 2, "targets": "random"}}
    engine, other = engine_of(MLP(), entry), engine_of(MLP(), {"apgd": {"steps": 2, "targets": "next"}})
    start = torch.zeros_like(batch.x)
    actual = engine.step(batch.x, batch.y, draws={"apgd.start": start, "apgd.targets": given})
    assert torch.equal(actual.adv.x, other.step(batch.x, batch.y, draws={"apgd.start": start}).adv.x)
    wrong = given.clone()
    wrong[2] = batch.y[2]
    with pytest.raises(HookError, match=rf"got the label of example 2, {int(batch.y[2])}; choose another class"):
        engine.step(batch.x, batch.y, draws={"apgd.targets": wrong})


def test_every_run_attacks_what_the_ones_before_left():
    model, batch = Wide().eval(), batch_of(12)
    split, seen = Split(batch.x, model(batch.x).argmax(1)), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    attack = load_attack({"apgd": {"steps": 3, "targets": "all"}}, given={"num_classes": 4})
    whole = Evaluator(model, attack, LINF).score(split)
    assert 0 < whole.robust < 1
    assert len(seen) <= attack.plugin.forwards(12) + 2
    assert seen[:3] == [12, 12, 12]  # clean, targets, start
    assert seen[-1] == 12
    assert min(seen) <= whole.robust * 12 + 1
    assert whole.robust <= evaluate(model, split, {"apgd": {"steps": 3, "targets": "least_likely"}}, LINF).robust


def test_of_several_runs_the_highest_loss_is_trained_on():
    batch, best = batch_of(), None
    starts = 0.1 * torch.stack([torch.ones_like(batch.x), -torch.ones_like(batch.x)])
    losses = []
    for draws in (starts[0], starts[1], starts):
        engine = engine_of(MLP(), {"apgd": {"steps": 2, "restarts": 2 if draws is starts else 1}}, threat=LINF)
        before = MLP()
        best = engine.step(batch.x, batch.y, draws={"apgd.start": draws}).adv.x
        losses.append(nn.functional.cross_entropy(before(best), batch.y, reduction="none").detach())
    torch.testing.assert_close(losses[2], torch.maximum(losses[0], losses[1]))


def test_names_in_tables_tell_its_loss_and_targets():
    assert attack_name(load_attack({"apgd": {"steps": 20}})) == "apgd-20"
    assert attack_name(load_attack({"apgd": {"steps": 20, "loss": "dlr", "targets": 9}})) == "apgd-20-dlr-targets-9"


def targeted(loss: str) -> dict[str, Any]:
    return {"apgd": {"loss": loss, "targets": "next"}}


@pytest.mark.parametrize(
    ("entry", "classes", "message"),
    [
        ({"apgd": {"loss": "dlr"}}, 2, "attack loss dlr: expected at least 3 classes for it, got 2; use ce or margin"),
        ({"pgd": {"loss": "dlr"}}, 2, "attack loss dlr: expected at least 3 classes for it, got 2; use ce or margin"),
        (targeted("dlr"), 3, "dlr: expected at least 4 classes for the targeted form of it, got 3; use ce or margin"),
        (targeted("kl"), 10, "targets: loss kl leads to no class; use ce, dlr or margin"),
        ({"apgd": {"targets": 9}}, 9, "targets: expected at most 8, the number of wrong classes, got 9; use all"),
    ],
    ids=str,
)
def test_what_is_not_defined_is_refused_before_step_1(entry: dict[str, Any], classes: int, message: str):
    (name,) = entry
    with pytest.raises(ButtressError, match=rf"^plugins\.0\.{name}.*: .*{message}"):
        load_plugins([entry], given={"num_classes": classes})
    with pytest.raises(ButtressError, match=message):
        load_attack(entry, given={"num_classes": classes})


@pytest.mark.parametrize("settings", [{"loss": "dlr", "targets": "next"}, {"targets": 3}], ids=str)
def test_what_only_the_model_tells_is_refused_in_the_first_step(settings: dict[str, Any]):
    batch = batch_of()
    with pytest.raises(
        ButtressError, match=r"at least 4 classes .*got 3|at most 2, the number of wrong classes, got 3"
    ):
        engine_of(MLP(), {"apgd": settings}).step(batch.x, batch.y)


@pytest.mark.parametrize("settings", [{"loss": "dlr"}, {"targets": "next"}], ids=str)
def test_soft_labels_are_refused(settings: dict[str, Any]):
    with pytest.raises(PluginError, match=r"'apgd' .*refuses soft labels, which plugin 'mixup' .*gives: it"):
        engine_of(MLP(), {"apgd": settings}, {"mixup": {"num_classes": 3}})


@pytest.mark.parametrize("settings", [{}, {"loss": "dlr"}, {"targets": 2}, {"restarts": 2}], ids=str)
def test_bfloat16_is_attacked_in_bfloat16(settings: dict[str, Any]):
    batch = batch_of(dtype=torch.bfloat16)
    adv = engine_of(MLP().bfloat16(), {"apgd": {"steps": 2, **settings}}, threat=LINF).step(batch.x, batch.y).adv
    assert adv.x.dtype == torch.bfloat16
