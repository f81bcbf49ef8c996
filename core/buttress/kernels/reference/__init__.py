"""Pure torch and Python: the fallback, and what compiled code is tested against."""

from buttress.kernels.reference.files import read_rows
from buttress.kernels.reference.losses import lsc_cross_entropy, lsc_mean
from buttress.kernels.reference.medians import median, median_many
from buttress.kernels.reference.perturbations import accumulate_, ascend_, perturb_, restore_, unperturb_

__all__ = [
    "accumulate_",
    "ascend_",
    "lsc_cross_entropy",
    "lsc_mean",
    "median",
    "median_many",
    "perturb_",
    "read_rows",
    "restore_",
    "unperturb_",
]
