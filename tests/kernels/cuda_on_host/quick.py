"""The checks of each family in small: what faults and sanitizers are tried with."""

from tests.kernels.cuda_on_host import large, losses, medians, perturbations
from tests.kernels.cuda_on_host.device import Device
from tests.kernels.cuda_on_host.numbers import BFLOAT16, FLOAT16, FLOAT32, FLOAT64


def check_median(device: Device) -> None:
    for n in (1, 2, 3, 4, 5, 8, 33, 34, 61):
        for middle in medians.MIDDLES:
            medians.check(device, FLOAT16, n, [1, 0, 1025, 300], middle)
        medians.check(device, FLOAT32, n, [1030], "mean", shift=1)
        medians.check(device, BFLOAT16, n, [1030], "mean", shift=1)
        medians.check(device, FLOAT64, n, [130], "lower")
    large.check_median(device)


def check_losses(device: Device) -> None:
    for kind in losses.KINDS:
        for batch, classes in ((1, 1), (9, 33), (40, 10)):
            losses.check(device, kind, batch, classes, odd=batch > 1)
        losses.check(device, kind, 0, 10)
    large.check_losses(device)
    large.check_mask(device)


def check_perturbations(device: Device) -> None:
    perturbations.check(device, [1, 300, 8193])
    perturbations.check(device, [9, 40], shift=1)
    large.check_perturb(device)


def check_median_small(device: Device) -> None:
    for n in (3, 34):
        medians.check(device, FLOAT16, n, [1, 1025], "mean")


def check_losses_small(device: Device) -> None:
    losses.check(device, "float", 9, 33, odd=True)


def check_perturbations_small(device: Device) -> None:
    perturbations.check(device, [3, 8193], numbers=(FLOAT32, BFLOAT16))


CHECKS = {
    "median": check_median,
    "lsc": check_losses,
    "perturb": check_perturbations,
    "median-small": check_median_small,
    "lsc-small": check_losses_small,
    "perturb-small": check_perturbations_small,
}
"""The small ones are for threads of the host, which take long to start."""
