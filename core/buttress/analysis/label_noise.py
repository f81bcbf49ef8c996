"""Whether a model has learned the labels that were flipped on purpose.

Robust overfitting is largely the fit of such labels (Dong et al., "Label Noise in Adversarial Training", NeurIPS 2022,
arXiv:2110.03135): a model that resists predicts the true class of a flipped example, one that has overfitted the given.
"""

from typing import NamedTuple

from torch import Tensor


class Fit(NamedTuple):
    """Numbers of flipped examples that are predicted as the label given, as the true one, and as another class."""

    as_given: int
    as_true: int
    as_other: int


def fit_of_flipped(predicted: Tensor, given: Tensor, true: Tensor) -> Fit:
    """How the examples with ``given != true`` are predicted; all ``[n]`` class numbers."""
    flipped = given != true
    as_given = int((flipped & (predicted == given)).sum())
    as_true = int((flipped & (predicted == true)).sum())
    return Fit(as_given, as_true, int(flipped.sum()) - as_given - as_true)
