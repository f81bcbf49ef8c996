"""Broken models are flagged, honest ones are not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Split, ThreatModel
from buttress.audit import CHECKS, Finding, audit
from buttress.audit.finding import findings_text, graded
from buttress.audit.gradients import _apart
from buttress.audit.probe import Probe
from buttress.audit.records import autoattack_is_strongest, selection_is_honest, spsa_is_weaker
from buttress.audit.search import random_search
from buttress.errors import DataError
from tests.core.helpers import assert_same, snapshot
from tests.models import Halfspace

from .models import BROKEN, LINF, Around, digits, honest


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


@pytest.mark.parametrize("name", ["natural", "robust", "smooth"])
def test_honest_models_are_not_flagged(name: str):
    model, threat = honest(name)
    findings = audit(model, digits()[1], threat)
    assert {finding.status for finding in findings} == {"PASS"}, findings_text(findings)
    assert len(findings) == len(CHECKS)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_flagged(name: str):
    forward, checks = BROKEN[name]
    model = Around(honest("robust")[0], forward).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of those that draw
        findings = audit(model, digits()[1], LINF)
    found = {check for check, status in statuses(findings).items() if status != "PASS"}
    assert checks <= found, findings_text(findings)
    assert all(finding.cure for finding in findings if finding.status != "PASS")


def test_a_loader_that_normalises_is_flagged():
    test = digits()[1]
    findings = audit(honest("robust")[0], Split((test.x - 0.3) / 0.4, test.y), LINF)
    assert statuses(findings)["inputs in box"] == "FAIL"


@pytest.mark.parametrize("name", ["robust", "natural"], ids=["batch norm", "dropout"])
def test_train_mode_is_flagged(name: str):
    model, threat = honest(name)
    model.train()
    try:
        findings = audit(model, digits()[1], threat, examples=20)
    finally:
        model.eval()
    (finding,) = [finding for finding in findings if finding.check == "outputs repeat"]
    assert finding.status == "FAIL"
    assert "in train mode" in finding.reason


def test_an_audit_leaves_the_model_as_found():
    model, threat = honest("robust")
    model.train()
    before, rng = snapshot(model), torch.get_rng_state()
    try:
        audit(model, digits()[1], threat, examples=10)
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert_same(snapshot(model), before)
    assert all(p.grad is None or p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)


def test_two_audits_agree():
    model, threat = honest("natural")
    one, two = (audit(model, digits()[1], threat, examples=20, seed=5) for _ in range(2))
    assert one == two


def test_an_empty_split_is_refused():
    test = digits()[1]
    with pytest.raises(DataError, match="audit: expected at least one example"):
        audit(honest("natural")[0], Split(test.x[:0], test.y[:0]), LINF)


# Parts with answers known by hand


def test_random_search_finds_the_corner_of_a_halfspace():
    weight = torch.tensor([1.0, -2.0, 3.0, 0.5])
    model, x, y = Halfspace(weight), torch.full((2, 4), 0.5), torch.tensor([0, 1])
    found = random_search(lambda at: model(at), x, y, LINF, torch.Generator().manual_seed(0))
    best = x - 0.1 * weight.sign() * torch.tensor([[1.0], [-1.0]])
    torch.testing.assert_close(found, best)


@pytest.mark.parametrize("threat", [LINF, ThreatModel("l2", "1/2"), ThreatModel("linf", "1/10", None)], ids=str)
def test_random_search_stays_inside_the_threat_model(threat: ThreatModel):
    x = digits()[1].x[:5]
    found = random_search(honest("natural")[0], x, digits()[1].y[:5], threat, torch.Generator().manual_seed(0), 20)
    assert threat.contains(found, x)
    assert not torch.equal(found, x)


class Cubic(nn.Module):
    """Two logits of a polynomial of the input; optionally with a slope of ``factor`` times the true one."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.ones(())), factor

    def forward(self, x: Tensor) -> Tensor:
        z = (x**3).flatten(1).sum(1) * self.weight
        z = self.factor * z + (1 - self.factor) * z.detach()
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.0), (0.99, 0.0), (0.9, 1.0), (-1.0, 1.0)])
def test_slopes_are_compared_example_by_example(factor: float, expected: float):
    split = Split(torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)
    assert _apart(Probe(Cubic(factor), split, LINF)) == (expected, 12)


@pytest.mark.parametrize(("amount", "status"), [(0.1, "PASS"), (0.2, "WARN"), (0.3, "FAIL"), (float("nan"), "FAIL")])
def test_grades(amount: float, status: str):
    assert graded("x", amount, 0.1, 0.2, "reason", "cure").status == status


def alone(attack: str, accuracy: float, n: int = 100) -> dict[str, Any]:
    """An evaluation with one attack, which has seen everything."""
    return {"attacks": [{"attack": attack, "accuracy": accuracy, "wrong": 0, "n": n}]}


def after(*attacks: tuple[str, int], n: int = 100) -> dict[str, Any]:
    """An evaluation with several, each on what those before it had left; with the number that it broke."""
    own = [1 - attacks[0][1] / n, *[None] * (len(attacks) - 1)]
    rows = zip(attacks, own, strict=True)
    return {"attacks": [{"attack": name, "accuracy": share, "wrong": wrong, "n": n} for (name, wrong), share in rows]}


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], "WARN"),
        ([alone("pgd-20", 0.5)], "WARN"),
        ([alone("pgd-20", 0.5), alone("autoattack", 0.4)], "PASS"),
        ([alone("pgd-20", 0.5), alone("autoattack", 0.5)], "PASS"),
        ([alone("autoattack", 0.51), alone("pgd-100", 0.5)], "WARN"),
        ([alone("autoattack", 0.53), alone("cw-20", 0.5), alone("pgd-20", 0.54)], "FAIL"),
        ([alone("autoattack", 0.6), alone("cw-20", 0.5), alone("autoattack", 0.5)], "PASS"),  # the newest counts
        ([alone("autoattack", 0.51, 50), alone("cw-20", 0.5)], "SKIP"),
        ([alone("autoattack", 0.51), alone("fgsm", 0.3)], "SKIP"),
        ([after(("pgd-100", 40), ("autoattack", 3))], "SKIP"),  # AutoAttack has no accuracy of its own here
        ([after(("autoattack", 40), ("pgd-100", 0))], "PASS"),
        ([after(("autoattack", 40), ("fgsm", 20), ("pgd-100", 2))], "WARN"),
        ([after(("autoattack", 40), ("pgd-100", 0), ("cw-100", 3))], "FAIL"),
    ],
)
def test_autoattack_is_compared_with_pgd_and_cw(results: list[dict[str, Any]], status: str):
    found = autoattack_is_strongest(results)
    assert (found.status, bool(found.cure)) == (status, status != "PASS")


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([alone("pgd-20", 0.5)], "SKIP"),
        ([alone("spsa-20", 0.5)], "SKIP"),
        ([alone("pgd-20", 0.5), alone("spsa-100", 0.55)], "PASS"),
        ([alone("pgd-20", 0.5), alone("cw-20", 0.47), alone("spsa-100", 0.46)], "PASS"),
        ([alone("pgd-20", 0.5), alone("spsa-100", 0.46)], "WARN"),
        ([alone("pgd-20", 0.5), alone("spsa-100", 0.3)], "FAIL"),
        ([alone("pgd-20", 0.5), alone("spsa-100", 0.3, 50)], "SKIP"),
        ([after(("pgd-100", 40), ("cw-100", 1), ("spsa-100", 2))], "PASS"),
        ([after(("pgd-100", 40), ("spsa-100", 4))], "WARN"),
        ([after(("fgsm", 40), ("spsa-100", 9), ("pgd-20", 9))], "SKIP"),
    ],
)
def test_spsa_is_compared_with_gradient_attacks(results: list[dict[str, Any]], status: str):
    found = spsa_is_weaker(results)
    assert (found.status, bool(found.cure)) == (status, status != "PASS")


@pytest.mark.parametrize(("examples", "status"), [(49, "WARN"), (100, "PASS")])
def test_a_handful_of_examples_is_said_to_be_one(examples: int, status: str):
    model, threat = honest("natural")
    findings = audit(model, digits()[1], threat, examples=examples)
    assert statuses(findings)["enough to attack"] == status


@pytest.mark.parametrize(
    ("by", "checkpoint", "status"),
    [("test", "best", "WARN"), ("test", "last", "PASS"), ("validation", "best", "PASS")],
)
def test_selection_on_the_test_split_is_flagged(by: str, checkpoint: str, status: str):
    assert selection_is_honest(by, checkpoint).status == status
