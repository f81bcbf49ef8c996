"""Detect a sudden collapse of training at the next evaluation: robust accuracy is back at chance.

Two kinds are distinguished by attacking the same split with the training attack. In *catastrophic overfitting* (Wong,
Rice, Kolter, "Fast is better than free: Revisiting adversarial training", arXiv:2001.03994) the model has learnt to
fool its own, weak attack: accuracy under it stays high while accuracy under the stronger evaluation attack falls to 0.
Else the model has stopped to classify at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from buttress.console.tables import percent
from buttress.data import Split
from buttress.engine.engine import Engine
from buttress.errors import WorkError
from buttress.functional import is_correct
from buttress.training.selection import Record


@dataclass(frozen=True)
class Collapse:
    """A collapse of training; accuracies in [0, 1] are those of the live model.

    Args:
        epoch: number of the epoch (from 1) after which it was noticed.
        healthy_epoch: number of the epoch (from 1) of the last evaluation before it.
        robust: accuracy under the evaluation attack now.
        best: the highest before.
        chance: accuracy of the best constant answer.
        training_attack: accuracy under the training attack now, or None where it cannot attack this split.
    """

    epoch: int
    healthy_epoch: int
    robust: float
    best: float
    chance: float
    training_attack: float | None

    @property
    def kind(self) -> str:
        # At least half of the lost accuracy is still there under the training attack.
        fooled = self.training_attack is not None and self.training_attack - self.robust >= self.best / 2
        return "catastrophic overfitting" if fooled else "collapse to chance"

    def __str__(self) -> str:
        own = "" if self.training_attack is None else f", {percent(self.training_attack)} under the training attack"
        return (
            f"{self.kind} in epochs {self.healthy_epoch + 1} to {self.epoch}: robust accuracy fell from "
            f"{percent(self.best)} to {percent(self.robust)} % (chance is {percent(self.chance)}){own}"
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


class CollapseGuard:
    """Looks for a collapse in every evaluation of the live model.

    Args:
        engine: engine whose training attack shows the kind of a collapse.
        name: name of the split in the records.
        split: split that chooses the best epoch.
        batch_size: number of examples in a forward.
    """

    def __init__(self, engine: Engine, name: str, split: Split, batch_size: int) -> None:
        self._engine, self._name, self._split, self._batch_size = engine, name, split, batch_size
        self._chance: float | None = None

    def look(self, records: Sequence[Record]) -> Collapse | None:
        """The collapse that the newest of the run's ``records`` shows for the first time, or None."""
        own = [record for record in records if record.track == "live" and record.split == self._name]
        now, before = own[-1], own[:-1]
        if not before:
            return None
        if self._chance is None:
            self._chance = majority_share(self._split, self._batch_size)
        best = max(record.robust for record in before)
        if not (
            has_collapsed(now.robust, best, self._chance, now.n)
            and not has_collapsed(before[-1].robust, best, self._chance, now.n)
        ):
            return None
        return Collapse(now.epoch, before[-1].epoch, now.robust, best, self._chance, self._under_training_attack())

    def _under_training_attack(self) -> float | None:
        right = torch.zeros((), dtype=torch.int64, device=self._engine.device)
        try:
            for batch in self._split.batches(torch.arange(len(self._split)), self._batch_size):
                adv = self._engine.attack(replace(batch, index=None), "collapse")
                right += is_correct(self._engine.at_work.logits(adv.x), batch.y).sum()
        except WorkError:  # an attack that keeps state for training examples has none for these
            return None
        return int(right) / len(self._split)


def has_collapsed(robust: float, best: float, chance: float, n: int) -> bool:
    """Whether robust accuracy is no better than chance and has been: two and four standard errors of chance."""
    error = chance_error(chance, n)
    return robust <= chance + 2 * error and best >= chance + 4 * error


def chance_error(chance: float, n: int) -> float:
    """The standard error of the accuracy of a constant answer on ``n`` examples."""
    return math.sqrt(chance * (1 - chance) / n)


def majority_share(split: Split, batch_size: int) -> float:
    """The share of the most frequent label, which is the accuracy of the best constant answer."""
    labels: torch.Tensor | None = getattr(split, "y", None)
    if labels is None:  # it reads its examples anew, the labels with them
        labels = torch.cat([batch.y for batch in split.batches(torch.arange(len(split)), batch_size)])
    return int(labels.bincount().max()) / len(labels)
