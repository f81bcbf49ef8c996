"""The only door to compiled code: operations with a pure-torch twin each.

The config key ``backend``, the environment variable ``BUTTRESS_BACKEND`` or ``with use_backend(...)`` chooses:
``auto`` takes compiled code where it exists, ``torch`` never does, ``native`` raises where it does not exist, with the
reason.

    medians, averages           combine N tensors, networks or files into one, element by element
    geometric                   combine N files into one, as whole vectors
    files, file_work, blocks    read N files in bounded memory; agreement: whether they are of one model
    perturbations               move weights by a share of their norm, and back
    losses                      average losses under the loss-stationary condition
    backend                     choose the implementation of an operation
    reference/, native/         the two implementations
"""

from buttress.kernels.averages import MEAN, trimmed_mean_reduction, weighted_mean_reduction
from buttress.kernels.backend import Backend, backend, status, use_backend
from buttress.kernels.file_work import Integers, Reduction
from buttress.kernels.files import combine_files
from buttress.kernels.geometric import geometric_median_files
from buttress.kernels.losses import lsc_cross_entropy, lsc_mean
from buttress.kernels.medians import median, median_files, median_many, median_reduction
from buttress.kernels.perturbations import (
    amp_first_step_,
    amp_step_,
    perturb_,
    restore_,
    rwp_first_step_,
    rwp_step_,
    unperturb_,
)
from buttress.kernels.reference.medians import Middle
from buttress.kernels.reference.perturbations import Ball, Norm

__all__ = [
    "MEAN",
    "Backend",
    "Ball",
    "Integers",
    "Middle",
    "Norm",
    "Reduction",
    "amp_first_step_",
    "amp_step_",
    "backend",
    "combine_files",
    "geometric_median_files",
    "lsc_cross_entropy",
    "lsc_mean",
    "median",
    "median_files",
    "median_many",
    "median_reduction",
    "perturb_",
    "restore_",
    "rwp_first_step_",
    "rwp_step_",
    "status",
    "trimmed_mean_reduction",
    "unperturb_",
    "use_backend",
    "weighted_mean_reduction",
]
