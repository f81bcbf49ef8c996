"""Measure robust accuracy in the worst case over several attacks; keep the verdict on every example on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.data import Split
from buttress.engine.attacking import ModelAtWork
from buttress.functional import is_correct
from buttress.nn.contract import expect_some_finite
from buttress.nn.finite import remark_on
from buttress.scoring.cells import NOT_ATTACKED, RIGHT, WRONG, Cells, Shard
from buttress.scoring.evaluator import Evaluator
from buttress.scoring.keeper import Keeper
from buttress.scoring.meter import Meter, most_forwards
from buttress.threat import ThreatModel
from buttress.types import Batch

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """The verdict on every example, without an attack and under each attack.

    Args:
        names: ``clean``, then the names of the attacks in their order.
        table: ``[1+A,n]`` int8: ``RIGHT``, ``WRONG``, or ``NOT_ATTACKED`` for an example that was wrong before.
        seconds: ``[1+A]`` time spent, in seconds.
        each: whether every attack saw every example.
    """

    names: Sequence[str]
    table: NDArray[np.int8]
    seconds: NDArray[np.float64]
    each: bool

    def left_after(self, row: int) -> Flags:
        """``[n]`` bools: right without an attack, and under all attacks up to row ``row``."""
        left: Flags = (self.table[: row + 1] != WRONG).all(0)
        return left

    @staticmethod
    def of(names: Sequence[str], cells: Cells, each: bool) -> Verdicts:
        """The verdicts of ``cells``, the rows of which are ``names``."""
        return Verdicts(names, cells.table, cells.seconds.sum(1), each)

    @property
    def worst(self) -> Flags:
        """``[n]`` bools: right without an attack and under every attack."""
        return self.left_after(len(self.table) - 1)

    def rows(self) -> list[dict[str, Any]]:
        """A row for ``clean`` and for each attack: numbers of examples attacked and wrong, accuracies, and time.

        ``accuracy``, ``low`` and ``high`` belong to the attack by itself, over all n examples. They are null where it
        saw only examples that other attacks had left. ``left`` is the worst case over it and the attacks before it.
        """
        return [
            {
                "attack": name,
                "attacked": int((self.table[row] != NOT_ATTACKED).sum()),
                "wrong": int((self.table[row] == WRONG).sum()),
                **self._own(row),
                "left": share_of(self.left_after(row)),
                "seconds": round(float(self.seconds[row]), 1),
            }
            for row, name in enumerate(self.names)
        ]

    def _own(self, row: int) -> dict[str, Any]:
        own = share_of(self.table[row] == RIGHT)
        kept_from_it = (self.table[0] == RIGHT) & (self.table[row] == NOT_ATTACKED)
        return {**own, "accuracy": None, "low": None, "high": None} if kept_from_it.any() else own


def share_of(right: Flags) -> dict[str, Any]:
    """The share of True in ``right [n]``, with its 95 % interval."""
    n, count = len(right), int(right.sum())
    low, high = interval(count, n)
    return {"accuracy": count / n, "low": low, "high": high, "n": n}


def interval(right: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of an accuracy, measured as ``right`` of ``n`` examples."""
    from scipy.stats import binomtest  # slow to import, and few verbs need it

    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def attack_all(
    model: nn.Module | ModelAtWork,
    attacks: Sequence[tuple[str, LoadedPlugin]],
    threat: ThreatModel,
    split: Split,
    index: Tensor,
    *,
    seed: int = 0,
    batch_size: int = 500,
    each: bool = False,
    keeper: Keeper | None = None,
    reporter: Reporter | None = None,
) -> Verdicts:
    """Attack examples with one attack after the other; an example that is wrong already is not attacked again.

    An example keeps its batch. So the draws for it depend on the seed, the batch and the examples left in the batch,
    and not on other batches.

    Args:
        model: module that maps ``[B,*]`` to logits ``[B,K]``; attacked in eval mode, it stays as it is. One that is at
            work already is attacked in its own precision.
        attacks: names, each once, and attacks, in order.
        threat: the threat model.
        split: the examples.
        index: ``[n]`` positions in ``split``, on the CPU.
        seed: seed of the attacks' random draws.
        batch_size: number of examples that an attack gets at once.
        each: whether every attack sees every example, also one that is wrong already.
        keeper: keeper of the verdicts after every batch, for the batches of its shard; what it has already is not done
            again. None for all batches, kept in memory.
        reporter: reporter that shows progress.

    Returns:
        The verdicts, those of other shards as far as they are done.

    Raises:
        HookError, InputError: an attack failed, or refused the model.
        ModelError: the logits are not finite for any example.
    """
    at_work = model if isinstance(model, ModelAtWork) else ModelAtWork(model, who="evaluation")
    model, reporter = at_work.model, reporter or Reporter()
    evaluators = [Evaluator(at_work, attack, threat, seed=seed, batch_size=batch_size) for _, attack in attacks]
    cells = Cells.empty(1 + len(attacks), len(index), batch_size) if keeper is None else keeper.begin()
    own = (Shard() if keeper is None else keeper.shard).batches(cells.batches)
    names = ["clean", *(name for name, _ in attacks)]
    if cells.done.any():
        reporter.say(f"note: {cells.progress}")
    if remark := remark_on(model):
        reporter.say(f"note: {remark}")

    def attacked(evaluator: Evaluator | None, batch: Batch | None, number: int) -> tuple[Tensor, int]:
        """``[b]`` verdicts on the examples of ``batch``, and the number of them whose logits are not finite."""
        if batch is None:
            return torch.zeros(0, dtype=torch.bool), 0
        x = batch.x if evaluator is None else evaluator.attacked(batch, number).x
        logits = at_work.logits(x)
        return is_correct(logits, batch.y).cpu(), int((~torch.isfinite(logits)).any(1).sum())

    def fill(row: int, evaluator: Evaluator | None, ahead: Sequence[int]) -> None:
        """Attack the batches ``ahead``, whose numbers are sorted, and keep their cells of row ``row``."""
        columns = {number: cells.columns(number) if each else cells.left(row, number) for number in own}
        attack = None if evaluator is None else evaluator.attack
        costs = {number: most_forwards(attack, len(chosen)) for number, chosen in columns.items()}
        meter = Meter(reporter, at_work, f"{names[row]} ({row + 1} of {len(names)})", costs, ahead)
        batches = split.batches_at([index[columns[number]] for number in ahead if len(columns[number])])
        for number in ahead:
            began = monotonic()
            with meter.batch(number):
                batch = next(batches) if len(columns[number]) else None
                right, nonfinite = attacked(evaluator, batch, number)
                cell = (row, number, columns[number], right, monotonic() - began, nonfinite)
                cells.keep(*cell)
                if keeper is not None:
                    keeper.keep(*cell)

    for row, evaluator in enumerate([None, *evaluators]):
        if ahead := [number for number in own if not cells.done[row, number]]:
            with reporter:
                fill(row, evaluator, ahead)
        if evaluator is None and (remark := remark_on_logits(model, cells)):
            reporter.say(f"note: {remark}")
    return Verdicts.of(names, cells, each)


def remark_on_logits(model: nn.Module, cells: Cells) -> str:
    """A sentence about the number of examples whose logits are not finite, or an empty text where there is none.

    Raises:
        ModelError: the logits are not finite for any example.
    """
    known = cells.done[0]
    examples = sum(len(cells.columns(int(number))) for number in np.flatnonzero(known))
    nonfinite = int(cells.nonfinite.sum())
    if nonfinite == examples and not known.all():  # another shard may have the others
        return ""
    return expect_some_finite("evaluate", model, nonfinite, examples)
