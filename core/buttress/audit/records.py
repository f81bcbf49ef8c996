"""Check the records of a run: the split that chose the best epoch, and the order of strength of its attacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from buttress.audit.attacks import MASKED, MUCH, SLACK
from buttress.audit.finding import Finding, graded
from buttress.console.tables import percent

EvaluationBody = Mapping[str, Any]
"""The result of one ``buttress evaluate``: ``each``, and ``attacks``, its rows in order."""

WHITE_BOX = ("pgd", "cw")
# Where nothing is known of the run.
EVALUATE = "buttress evaluate RUN"
AUTOATTACK, SPSA = ("autoattack",), ("spsa",)


def selection_is_honest(best_by: str, checkpoint: str) -> Finding:
    """Weights chosen on the test split are the luckiest of many on it."""
    name = "selection is honest"
    if best_by == "test" and checkpoint == "best":
        reason = "the best epoch was chosen on the test split (evaluation.best_by: test)"
        cure = "hold out data.validation and set evaluation.best_by: validation, or report the last weights"
        return Finding(name, "WARN", reason, cure)
    chosen = "weights of the last epoch: nothing was chosen" if checkpoint == "last" else f"chosen on {best_by}"
    return Finding(name, "PASS", chosen)


def spsa_is_weaker(results: Sequence[EvaluationBody], evaluate: str = EVALUATE) -> Finding:
    """SPSA, which sees no gradients, cannot break many examples that gradient attacks do not.

    Args:
        results: every evaluation of the weights, the newest last.
        evaluate: the command that evaluates them, for the cure.
    """
    name = "SPSA is weaker"
    cure = f"{evaluate} --attack pgd-100 --attack spsa --examples 100"
    if not _was_run(SPSA, results):
        reason = "SPSA has not been run on these weights; the random search above is the only attack without gradients"
        return Finding(name, "SKIP", reason, cure)
    comparisons = _comparisons(results, strong=WHITE_BOX, weak=SPSA)
    if not comparisons:
        return Finding(name, "SKIP", "neither PGD nor CW has been run on the examples that SPSA attacked", cure)
    least = min(comparisons, key=lambda pair: pair.more)
    return graded(name, least.more, SLACK, MUCH, str(least), MASKED)


def autoattack_is_strongest(results: Sequence[EvaluationBody], evaluate: str = EVALUATE) -> Finding:
    """AutoAttack holds PGD and more, so PGD and CW cannot break examples that it does not.

    Args:
        results: every evaluation of the weights, the newest last.
        evaluate: the command that evaluates them, for the cure.
    """
    name = "AutoAttack is strongest"
    if not _was_run(AUTOATTACK, results):
        cure = f"{evaluate} --attack autoattack; where it refuses, what it names in its place"
        return Finding(name, "WARN", "AutoAttack has not been run on these weights", cure)
    comparisons = _comparisons(results, strong=AUTOATTACK, weak=WHITE_BOX)
    if not comparisons:
        reason = (
            "AutoAttack saw only what others had left, or nothing else was run: there is nothing to compare it with"
        )
        return Finding(name, "SKIP", reason, f"{evaluate} --attack autoattack --attack pgd-100 --attack cw")
    most = max(comparisons, key=lambda pair: pair.more)
    cure = "look for randomness in the model and for another input range; believe the lowest number"
    return graded(name, most.more, 0.0, SLACK, str(most), cure)


class _Comparison(NamedTuple):
    """The share of n examples (``more``) by which the attack that should be the weaker one is ahead."""

    strong: str
    weak: str
    more: float
    n: int

    def __str__(self) -> str:
        less_or_more = f"{percent(self.more)} % more" if self.more > 0 else "no more"
        return f"{self.weak} breaks {less_or_more} of {self.n} examples than {self.strong}"


def _was_run(attack: tuple[str, ...], results: Sequence[EvaluationBody]) -> bool:
    return any(str(row["attack"]).startswith(attack) for result in results for row in result["attacks"])


def _comparisons(
    results: Sequence[EvaluationBody], strong: tuple[str, ...], weak: tuple[str, ...]
) -> list[_Comparison]:
    """The newest comparison of every two attacks with these beginnings of names."""
    pairs = [*_by_accuracy(results, strong, weak), *_within(results, strong, weak)]
    return list({(pair.strong, pair.weak): pair for pair in pairs}.values())


def _by_accuracy(
    results: Sequence[EvaluationBody], strong: tuple[str, ...], weak: tuple[str, ...]
) -> Iterator[_Comparison]:
    """Compare accuracies on equally many examples, which are the same ones: the size determines the subset."""
    own = [row for result in results for row in result["attacks"] if row["accuracy"] is not None]
    for one in (row for row in own if row["attack"].startswith(strong)):
        for other in (row for row in own if row["attack"].startswith(weak) and row["n"] == one["n"]):
            yield _Comparison(one["attack"], other["attack"], one["accuracy"] - other["accuracy"], one["n"])


def _within(results: Sequence[EvaluationBody], strong: tuple[str, ...], weak: tuple[str, ...]) -> Iterator[_Comparison]:
    """Shares that the weaker attack broke of the examples that the stronger one before it had left."""
    for result in results:
        before: list[str] = []
        for row in result["attacks"]:
            if row["accuracy"] is None and row["attack"].startswith(weak):
                yield from (_Comparison(name, row["attack"], row["wrong"] / row["n"], row["n"]) for name in before)
            if row["attack"].startswith(strong):
                before.append(row["attack"])
