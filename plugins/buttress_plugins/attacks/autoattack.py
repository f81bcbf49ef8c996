"""AutoAttack, version ``standard``: APGD-CE, targeted APGD-DLR, targeted FAB and Square, each on what is left.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", arXiv:2003.01690. The attacks are the authors' own code, as the package ``pyautoattack`` distributes it; what
is here are its conditions, its seed, and the protection of the process's random state. With fewer than ten classes the
targeted attacks aim at all K - 1 wrong ones, where the package would ask for nine.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pyautoattack import AutoAttack as Package
from torch import Tensor, nn

from buttress import Adv, Batch, hookimpl
from buttress.context import Context
from buttress.errors import PluginError
from buttress.threat import ThreatModel

# Target classes of the targeted attacks in the standard version, where there are as many.
TARGETS = 9
# The targeted DLR loss divides by a difference that involves the four largest logits.
FEWEST_CLASSES = 4
# Forwards of the package for a batch that nothing breaks: those of each target class, and all others (Square: 5,000).
FORWARDS_OF_TARGET, OTHER_FORWARDS = 305, 5120
# Square's first L2 perturbation is a grid of five by five tiles.
SMALLEST_L2_SIDE = 5


class AutoAttack:
    """AutoAttack ``standard`` with the evaluation's seed, which every batch starts from, as the package does.

    Args:
        num_classes: number of classes K, at least 4; given by the run.
    """

    def __init__(self, *, num_classes: int | None = None) -> None:
        self._targets = TARGETS if num_classes is None else target_count(num_classes)

    def forwards(self, examples: int) -> int:
        """Of a batch that resists, for progress bars."""
        return OTHER_FORWARDS + FORWARDS_OF_TARGET * self._targets

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        x = batch.x.detach().contiguous()  # the package views images as rows
        check_conditions(x, ctx.threat)
        with torch.no_grad():
            targets = target_count(model(x[:1]).shape[1])
        with process_as_found(x.device):
            return Adv(autoattack(model, x, batch.y, ctx.threat, seed=ctx.seed, targets=targets))


def autoattack(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, *, seed: int, targets: int) -> Tensor:
    """``[B,C,H,W]`` adversarial examples for ``x [B,C,H,W]`` in [0, 1] with labels ``y [B]``, all as one batch.

    Seeds torch's global generators; see ``process_as_found``.
    """
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    package = Package(model, norm=norm, eps=float(threat.eps), seed=seed, device=x.device, version="standard")
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = targets
    x_adv, _ = package.run_standard_evaluation(x, y, batch_size=len(x))
    return x_adv


def target_count(num_classes: int) -> int:
    """How many classes the targeted attacks aim at.

    Raises:
        PluginError: fewer than 4 classes.
    """
    if num_classes < FEWEST_CLASSES:
        raise PluginError(
            f"autoattack: expected at least {FEWEST_CLASSES} classes, got {num_classes}: its targeted DLR loss is made "
            "of the four largest logits; use pgd, cw and spsa"
        )
    return min(TARGETS, num_classes - 1)


def check_conditions(x: Tensor, threat: ThreatModel) -> None:
    """What the package takes for granted.

    Raises:
        PluginError: another box than [0, 1], no images, images too small, or another dtype than float32.
    """
    if threat.box != (0.0, 1.0):
        raise PluginError(f"autoattack: it clips to [0, 1], and the threat model is {threat}; use pgd, cw and spsa")
    if x.dim() != 4 or x.dtype != torch.float32:
        got = f"{str(x.dtype).removeprefix('torch.')} of shape {list(x.shape)}"
        raise PluginError(f"autoattack: expected float32 images [B,C,H,W], got {got}; use pgd, cw and spsa")
    if threat.norm == "l2" and min(x.shape[2:]) < SMALLEST_L2_SIDE:
        raise PluginError(
            f"autoattack: expected images of at least 5x5 under an L2 threat model, got {list(x.shape[2:])}: Square "
            "starts from five by five tiles; use pgd, cw and spsa"
        )


@contextmanager
def process_as_found(device: torch.device) -> Iterator[None]:
    """Put back what the package changes in the process: torch's generators, and the trace function of debuggers."""
    trace = sys.gettrace()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        sys.settrace(trace)
