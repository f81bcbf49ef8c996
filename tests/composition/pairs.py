"""The pairs of plugins that are refused, by the table; ``python -m tests.composition.pairs`` writes their page."""

from itertools import combinations
from pathlib import Path
from typing import Any

from ..plugins.catalogue import CATALOGUE
from ..plugins.row import Place

# The example of a plugin from outside stands beside the built-in ones.
SETTINGS: dict[str, dict[str, Any]] = {**{name: row.pair for name, row in CATALOGUE.items()}, "centralize": {}}
PAGE = Path(__file__).parents[2] / "docs" / "combining.md"

ONE: dict[Place, str] = {
    "attack": "a step has one attack",
    "loss": "a step has one loss",
    "perturbation": "a step has one weight perturbation; two would each look for the worst weights of the other's",
}

NOTES = """\
## What a combination means

- A weight perturbation (AWP, RWP, RAT_WP, AMP) maximises the *whole* training loss of the stack: with TRADES both
  branches, with MART its weights, with `drop_easy` what is left. RWP's condition looks at each example's whole loss.
- `pgd` attacks the cross-entropy unless told otherwise: TRADES wants `pgd: {loss: kl, start: gaussian}`, MART
  `pgd: {start: gaussian}`. With `pgd: {loss: objective}` it attacks the training loss itself.
- AMP attacks again inside its loop with the stack's own attack.
- Ensembles see unperturbed weights. PIAT writes back and therefore goes first: MEAT, SWA and EMA see the interpolated
  weights, which resemble each other more than those of plain training do, so their median moves less.
- RAT_LR leaves PIAT, the ensembles and weight perturbations as they are: it only changes a learning rate.
- L1 adds its gradient after the backward, so a weight perturbation does not maximise it.
- With the attack `clean`, the second terms of ALP and NMSE are zero (without dropout): both inputs are the same.

*Other words: ensemble of defenses, compatibility matrix, TRADES-AWP, stacking plugins.*
"""


def at_place(place: Place) -> list[str]:
    """The plugins that take a place in a step."""
    return [name for name, row in CATALOGUE.items() if place in row.places]


def refused() -> dict[frozenset[str], str]:
    """The pairs that are refused before step 1, each with the reason."""
    pairs = {frozenset(pair): reason for place, reason in ONE.items() for pair in combinations(at_place(place), 2)}
    own = {frozenset({name, other}): reason for name, row in CATALOGUE.items() for other, reason in row.refuses.items()}
    return pairs | own


REFUSED = refused()


def entry(name: str) -> dict[str, dict[str, Any]]:
    return {name: SETTINGS[name]}


def pairs() -> list[tuple[str, str]]:
    return list(combinations(SETTINGS, 2))


def document() -> str:
    """The text of ``docs/combining.md``."""
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
            "Written from the table in `tests/plugins/catalogue.py` by `python -m tests.composition.pairs`. A `+` is a",
            "pair that a test trains together for two epochs on digits; each of the two leaves its effect. A number",
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
    PAGE.write_text(document(), encoding="utf-8")
