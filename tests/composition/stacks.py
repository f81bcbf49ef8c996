"""Which plugins stand together: settings at which each shows within two epochs, and the refusals, each with its reason.

``python -m tests.composition.stacks`` writes ``docs/combining.md`` from it.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

ATTACKS = {"pgd": {"steps": 2}, "fgsm": {}, "clean": {}}
LOSSES: dict[str, dict[str, Any]] = {"cross_entropy": {}, "trades": {}, "mart": {}, "nmse": {}, "alp": {}}
PERTURBATIONS: dict[str, dict[str, Any]] = {
    "amp": {},
    "awp": {"gamma": 0.05},
    "rwp": {"gamma": 0.05, "c_min": "inf", "k2": 2},
    "rat_wp": {"gamma": 0.05},
}
ENSEMBLES: dict[str, dict[str, Any]] = {
    "piat": {},
    "meat": {"start": 0, "history": "memory"},
    "ema": {"tau": 0.5},
    "swa": {"start": 0},
}
OTHERS: dict[str, dict[str, Any]] = {
    "drop_easy": {"c_min": 2.2},
    "rat_lr": {},
    "freeze_layers": {"layers": [1]},
    "l1": {"weight": 1e-3},
    "l2_groups": {"weight_decay": 0.1},
    "mixup": {"num_classes": 10},
    "cutout": {"size": 3},
    "augment": {"pad": 1},
    "centralize": {},  # the example of an outside plugin
}
SETTINGS = {**ATTACKS, **LOSSES, **PERTURBATIONS, **ENSEMBLES, **OTHERS}

ONE_ATTACK = "a step has one attack"
ONE_LOSS = "a step has one loss"
ONE_PERTURBATION = "a step has one weight perturbation; two would each look for the worst weights of the other's"
SOFT_WEIGHTS = "the public code of AWP refuses Mixup, and nobody has measured the two together"
SOFT_MART = "MART sets the label's class against the best other one, which soft labels do not name"

# By hand, from the methods' papers: the pairs that are refused before step 1.
REFUSED: dict[frozenset[str], str] = {
    frozenset({"pgd", "fgsm"}): ONE_ATTACK,
    frozenset({"pgd", "clean"}): ONE_ATTACK,
    frozenset({"fgsm", "clean"}): ONE_ATTACK,
    frozenset({"cross_entropy", "trades"}): ONE_LOSS,
    frozenset({"cross_entropy", "mart"}): ONE_LOSS,
    frozenset({"cross_entropy", "nmse"}): ONE_LOSS,
    frozenset({"cross_entropy", "alp"}): ONE_LOSS,
    frozenset({"trades", "mart"}): ONE_LOSS,
    frozenset({"trades", "nmse"}): ONE_LOSS,
    frozenset({"trades", "alp"}): ONE_LOSS,
    frozenset({"mart", "nmse"}): ONE_LOSS,
    frozenset({"mart", "alp"}): ONE_LOSS,
    frozenset({"nmse", "alp"}): ONE_LOSS,
    frozenset({"amp", "awp"}): ONE_PERTURBATION,
    frozenset({"amp", "rwp"}): ONE_PERTURBATION,
    frozenset({"amp", "rat_wp"}): ONE_PERTURBATION,
    frozenset({"awp", "rwp"}): ONE_PERTURBATION,
    frozenset({"awp", "rat_wp"}): ONE_PERTURBATION,
    frozenset({"rwp", "rat_wp"}): ONE_PERTURBATION,
    frozenset({"mixup", "awp"}): SOFT_WEIGHTS,
    frozenset({"mixup", "rwp"}): SOFT_WEIGHTS,
    frozenset({"mixup", "rat_wp"}): SOFT_WEIGHTS,
    frozenset({"mixup", "mart"}): SOFT_MART,
}

NOTES = """\
## What a combination means

- A weight perturbation (AWP, RWP, RAT_WP, AMP) maximises the *whole* training loss of the stack: with TRADES both
  branches, with MART its weights, with `drop_easy` what is left. RWP's condition looks at each example's whole loss.
- `pgd` attacks the cross-entropy unless told otherwise: TRADES wants `pgd: {loss: kl, start: gaussian}`, MART
  `pgd: {start: gaussian}`.
- AMP attacks again inside its loop with the stack's own attack.
- Ensembles see unperturbed weights. PIAT writes back and therefore goes first: MEAT, SWA and EMA see the interpolated
  weights, which resemble each other more than those of plain training do, so their median moves less.
- RAT_LR leaves PIAT, the ensembles and weight perturbations as they are: it only changes a learning rate.
- L1 adds its gradient after the backward, so a weight perturbation does not maximise it.
- With the attack `clean`, the second terms of ALP and NMSE are zero (without dropout): both inputs are the same.

*Other words: ensemble of defenses, compatibility matrix, TRADES-AWP, stacking plugins.*
"""


def entry(name: str) -> dict[str, dict[str, Any]]:
    return {name: SETTINGS[name]}


def pairs() -> list[tuple[str, str]]:
    return list(combinations(SETTINGS, 2))


def document() -> str:
    """``docs/combining.md``."""
    names = list(SETTINGS)
    reasons = list(dict.fromkeys(REFUSED.values()))
    header = "| | " + " | ".join(f"`{name}`" for name in names) + " |"
    rows = [header, "|" + "---|" * (len(names) + 1)]
    for name in names:
        cells = []
        for other in names:
            reason = REFUSED.get(frozenset({name, other}))
            cells.append("." if name == other else str(reasons.index(reason) + 1) if reason else "+")
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(
        [
            "# Combining plugins",
            "",
            "Written from `tests/composition/stacks.py` by `python -m tests.composition.stacks`. A `+` is a pair",
            "that a test trains together for two epochs on digits; each of the two leaves its effect. A number",
            "is the reason for which the core refuses the pair before step 1.",
            "",
            *rows,
            "",
            *(f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, start=1)),
            "",
            NOTES,
        ]
    )


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "combining.md").write_text(document(), encoding="utf-8")
