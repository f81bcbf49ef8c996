"""What a run's own records say about its numbers: which split chose, and which attack was the strongest."""

from collections.abc import Mapping, Sequence
from typing import Any

from buttress.audit.attacks import MASKED, MUCH, SLACK
from buttress.audit.finding import Finding, graded

WHITE_BOX = ("pgd", "cw")


def selection_is_honest(best_by: str, checkpoint: str) -> Finding:
    """Weights chosen on the test split are the luckiest of many on it."""
    name = "selection is honest"
    if best_by == "test" and checkpoint == "best":
        reason = "the best epoch was chosen on the test split (evaluation.best_by: test)"
        cure = "hold out data.validation and set evaluation.best_by: validation, or report the last weights"
        return Finding(name, "WARN", reason, cure)
    chosen = "weights of the last epoch: nothing was chosen" if checkpoint == "last" else f"chosen on {best_by}"
    return Finding(name, "PASS", chosen)


def spsa_is_weaker(rows: Sequence[Mapping[str, Any]]) -> Finding:
    """What sees no gradients cannot find much that gradient attacks do not.

    Args:
        rows: ``attack``, ``accuracy`` and ``n`` of every evaluation of the weights.
    """
    name = "SPSA is weaker"
    newest = {str(row["attack"]): row for row in rows}
    spsa = next((row for label, row in newest.items() if label.startswith("spsa")), None)
    if spsa is None:
        return Finding(name, "PASS", "SPSA has not been run on these weights; the random search above stands in for it")
    same = [row["accuracy"] for label, row in newest.items() if label.startswith(WHITE_BOX) and row["n"] == spsa["n"]]
    if not same:
        return Finding(name, "PASS", f"no PGD or CW has been run on the same {spsa['n']} examples")
    reason = f"SPSA leaves {spsa['accuracy']:.1%}, PGD and CW {min(same):.1%} of {spsa['n']} examples"
    return graded(name, min(same) - spsa["accuracy"], SLACK, MUCH, reason, MASKED)


def autoattack_is_strongest(rows: Sequence[Mapping[str, Any]]) -> Finding:
    """AutoAttack holds PGD and more, so its accuracy cannot be above that of PGD or CW on the same examples.

    Args:
        rows: ``attack``, ``accuracy`` and ``n`` of every evaluation of the weights.
    """
    name = "AutoAttack is strongest"
    newest = {str(row["attack"]): row for row in rows}
    found = {label: row for label, row in newest.items() if label.startswith("autoattack")}
    if not found:
        cure = "buttress evaluate RUN --attack autoattack"
        return Finding(name, "WARN", "AutoAttack has not been run on these weights", cure)
    others = {label: row for label, row in newest.items() if label.startswith(WHITE_BOX)}
    for auto, row in found.items():
        for label, other in others.items():
            if other["n"] == row["n"] and row["accuracy"] > other["accuracy"]:
                reason = f"{auto} leaves {row['accuracy']:.1%}, {label} {other['accuracy']:.1%} of {row['n']} examples"
                cure = "look for randomness in the model and for another input range; believe the lowest number"
                return Finding(name, "FAIL", reason, cure)
    compared = ", ".join(sorted(others)) or "no other attack has been run"
    return Finding(name, "PASS", f"not above any other on the same examples ({compared})")
