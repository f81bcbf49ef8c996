"""The robust generalization gap: robust accuracy on the training set minus that on the test set.

Both are of the same weights, in eval mode, under the attack of the evaluation. The widely quoted running accuracy of
the training attack is another number: it is measured in train mode, and under AWP at perturbed weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from buttress.training.selection import Record


@dataclass(frozen=True)
class Gap:
    """Accuracies in [0, 1] of one track after one epoch (from 1), and how far training is ahead of the test."""

    epoch: int
    track: str
    clean_train: float
    clean_test: float
    robust_train: float
    robust_test: float

    @property
    def clean(self) -> float:
        return self.clean_train - self.clean_test

    @property
    def robust(self) -> float:
        return self.robust_train - self.robust_test


def generalization_gaps(records: Sequence[Record]) -> list[Gap]:
    """The gap wherever a track was scored on both splits, by track, then by epoch."""
    found = {(record.track, record.epoch, record.split): record for record in records}
    gaps = []
    for track in dict.fromkeys(record.track for record in records):
        for epoch in sorted({record.epoch for record in records if record.track == track}):
            train, test = (found.get((track, epoch, split)) for split in ("train", "test"))
            if train is not None and test is not None:
                gaps.append(Gap(epoch, track, train.clean, test.clean, train.robust, test.robust))
    return gaps


def best_difference(gaps: Sequence[Gap]) -> float:
    """Best robust accuracy on the training set minus the best on the test set, each at its own epoch.

    Source: Yan, Xu, Zhang, Li, Xie, "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss
    Landscape" (AT-AMP), figure 5.
    """
    return max(gap.robust_train for gap in gaps) - max(gap.robust_test for gap in gaps)
