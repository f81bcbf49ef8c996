"""AutoAttack: equal to the package called directly, never weaker than PGD and CW, and refused where it cannot work."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack as Package
from torch import Tensor, nn

from buttress import Split, ThreatModel
from buttress.errors import PluginError
from buttress.scoring.attacks import attack_name, load_attack
from buttress.scoring.cells import WRONG, Cells, Shard
from buttress.scoring.evaluator import Evaluator, evaluate
from buttress.scoring.keeper import Keeper
from buttress.scoring.worst_case import attack_all

LINF, L2 = ThreatModel("linf", "1/20"), ThreatModel("l2", 0.25)
norms = pytest.mark.parametrize(("threat", "norm"), [(LINF, "Linf"), (L2, "L2")], ids=["linf", "l2"])


class Net(nn.Module):
    """``[B,1,5,5]`` to 5 logits: smooth, not linear, and as robust as its random weights make it."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Tanh(), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def split_of(model: nn.Module, n: int = 24) -> Split:
    """Random images with the model's own labels, but for the first three."""
    x = torch.rand((n, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 5
    return Split(x, y)


@cache
def ours(threat: ThreatModel) -> Tensor:
    """Adversarial examples of the whole AutoAttack; made once, since they take seconds."""
    model = Net().eval()
    split = split_of(model)
    (batch,) = split.batches(torch.arange(len(split)), len(split))
    return Evaluator(model, load_attack("autoattack"), threat, seed=3).attacked(batch).x


@norms
def test_it_agrees_with_the_package_called_directly_sample_by_sample(threat: ThreatModel, norm: str):
    model = Net().eval()
    split = split_of(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    package = Package(model, norm=norm, eps=float(threat.eps), seed=3, version="standard")
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = 4
    theirs, labels = package.run_standard_evaluation(split.x, split.y, batch_size=len(split))
    assert torch.equal(ours(threat), theirs)
    right = model(theirs).argmax(1) == split.y
    assert torch.equal(right, labels == split.y)
    assert 0 < int(right.sum()) < len(split) - 3  # some fell, some stand
    assert not right[:3].any()


@norms
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_without_apgd_t_it_is_the_other_three_attacks_of_the_package(
    threat: ThreatModel, norm: str, classes: int, short_autoattack: type[Package]
):
    model = Net(classes).eval()
    x = torch.rand((16, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    split = Split(x, model(x).argmax(1))
    (batch,) = split.batches(torch.arange(len(split)), len(split))
    attack = load_attack({"autoattack": {"version": "without-apgd-t"}}, given={"num_classes": classes})
    ours = Evaluator(model, attack, threat, seed=3).attacked(batch).x
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    package = short_autoattack(
        model, norm=norm, eps=float(threat.eps), seed=3, version="custom", attacks=["apgd-ce", "fab-t", "square"]
    )
    package.apgd.n_restarts = package.fab.n_restarts = 1
    package.fab.n_target_classes = classes - 1
    theirs, _ = package.run_standard_evaluation(split.x, split.y, batch_size=len(split))
    assert torch.equal(ours, theirs)
    assert attack_name(attack) == "autoattack-without-apgd-t"
    pgd = evaluate(model, split, "pgd-100", threat)
    assert int((model(ours).argmax(1) == split.y).sum()) <= pgd.robust * len(split)


@pytest.mark.parametrize("settings", [{}, {"version": "without-apgd-t"}])
def test_a_model_that_resists_costs_the_forwards_that_progress_bars_count_on(settings: dict[str, str]):
    model, made = Net(4), []
    model.layers[1].weight.data.mul_(1e-3)  # hardly depends on its input
    model.register_forward_pre_hook(lambda *_: made.append(1))
    x = torch.rand((2, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    split = Split(x, model(x).argmax(1))
    attack = load_attack({"autoattack": settings}, given={"num_classes": 4})
    (batch,) = split.batches(torch.arange(2), 2)
    made.clear()
    Evaluator(model, attack, LINF).attacked(batch)
    assert len(made) == pytest.approx(attack.plugin.forwards(2), abs=5)  # the conditions are looked at, too


@norms
def test_its_answer_depends_on_the_batch_alone_so_that_shards_equal_one_process(
    threat: ThreatModel, norm: str, short_autoattack: type[Package], tmp_path: Path
):
    model = Net().eval()
    split = split_of(model)
    attack = load_attack("autoattack")
    one, other = Evaluator(model, attack, threat, seed=3), Evaluator(model, attack, threat, seed=3)
    batches = list(split.batches(torch.arange(24), 7))
    in_order = [one.attacked(batch, number).x for number, batch in enumerate(batches)]
    torch.rand(5)  # the process's own draws play no part
    assert torch.equal(other.attacked(batches[2], 9).x, in_order[2])

    attacks = [("pgd", load_attack({"pgd": {"steps": 1}})), ("autoattack", attack)]
    whole = attack_all(model, attacks, threat, split, torch.arange(24), seed=3, batch_size=7)
    for index in (2, 0, 1):
        keeper = Keeper(tmp_path, "work", Cells.empty(3, 24, 7), Shard(index, 3))
        attack_all(model, attacks, threat, split, torch.arange(24), seed=3, batch_size=7, keeper=keeper)
    merged = keeper.merged()
    assert merged.done.all()
    assert np.array_equal(merged.table, whole.table)
    assert (whole.table[2] == WRONG).any()  # it breaks what PGD leaves


@norms
def test_it_is_never_above_pgd_100_or_cw(threat: ThreatModel, norm: str):
    model = Net().eval()
    split = split_of(model)
    loaded = [(str(attack), load_attack(attack)) for attack in [{"pgd": {"steps": 100}}, {"cw": {"steps": 100}}]]
    verdicts = attack_all(model, loaded, threat, split, torch.arange(len(split)), each=True)
    clean, pgd, cw = (verdicts.table == 1).sum(1).tolist()
    auto = int((model(ours(threat)).argmax(1) == split.y).sum())
    assert auto <= min(pgd, cw) < clean


def test_on_a_linear_model_it_breaks_what_can_be_broken_and_no_more():
    """``z_y - z_k`` falls by at most ``eps ||w_y - w_k||_1``: away from the box, robustness is known exactly."""
    torch.random.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 4))
    weight = model[1].weight.detach()
    bias = -0.5 * weight.sum(1)  # all classes are equal in the middle of the box
    model[1].bias.data.copy_(bias)
    x = 0.5 + 0.2 * (2 * torch.rand((40, 1, 5, 5), generator=torch.Generator().manual_seed(2)) - 1)
    z = x.flatten(1) @ weight.T + bias
    y = z.argmax(1)
    gaps = (z.gather(1, y[:, None]) - z) - 0.05 * (weight[y][:, None] - weight).abs().sum(2)
    gaps.scatter_(1, y[:, None], torch.inf)
    slack = gaps.amin(1)
    sure = slack.abs() > 1e-4
    score = evaluate(model, Split(x, y), "autoattack", LINF)
    assert torch.equal(score.robust_correct[sure], (slack > 0)[sure])
    assert 0 < int(score.robust_correct.sum()) < 40


@pytest.mark.parametrize(
    ("classes", "threat", "x", "message"),
    [
        (5, ThreatModel("linf", 0.1, None), torch.rand(2, 1, 5, 5), r"clips to \[0, 1\].*no box"),
        (5, ThreatModel("linf", 0.1, (-1.0, 1.0)), torch.rand(2, 1, 5, 5), r"clips to \[0, 1\]"),
        (5, LINF, torch.rand(2, 25), r"expected float32 images \[B,C,H,W\], got float32 of shape \[2, 25\]"),
        (5, LINF, torch.rand(2, 1, 5, 5, dtype=torch.float64), "got float64"),
        (5, L2, torch.rand(2, 1, 1, 25), r"at least 5x5 under an L2 threat model, got \[1, 25\]"),
    ],
)
def test_what_it_cannot_attack_is_refused_with_the_reason(classes: int, threat: ThreatModel, x: Tensor, message: str):
    model = Net(classes).to(x.dtype)
    with pytest.raises(PluginError, match=f"(?s)autoattack.*{message}.*use pgd, cw and spsa"):
        evaluate(model, Split(x, torch.zeros(2, dtype=torch.int64)), "autoattack", threat)


@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_are_refused_before_anything_is_attacked(classes: int):
    message = rf"autoattack: expected at least 4 classes, got {classes}: .*'autoattack: {{version: without-apgd-t}}'"
    with pytest.raises(PluginError, match=message):
        load_attack("autoattack", given={"num_classes": classes})
    x = torch.rand(2, 1, 5, 5)
    with pytest.raises(PluginError, match=message):
        evaluate(Net(classes), Split(x, torch.zeros(2, dtype=torch.int64)), "autoattack", LINF)
