"""The twins in pure torch: the fallback, and the oracle that compiled code is tested against."""

from buttress.kernels.reference.files import read_rows
from buttress.kernels.reference.losses import lsc_cross_entropy, lsc_mean
from buttress.kernels.reference.medians import median, median_many, median_many_out, median_out
from buttress.kernels.reference.perturbations import (
    amp_first_step_,
    amp_step_,
    perturb_,
    restore_,
    rwp_first_step_,
    rwp_step_,
    unperturb_,
)

__all__ = [
    "amp_first_step_",
    "amp_step_",
    "lsc_cross_entropy",
    "lsc_mean",
    "median",
    "median_many",
    "median_many_out",
    "median_out",
    "perturb_",
    "read_rows",
    "restore_",
    "rwp_first_step_",
    "rwp_step_",
    "unperturb_",
]
