"""AutoAttack, version ``standard``: APGD-CE, targeted APGD-DLR, targeted FAB and Square, each on the examples left.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", arXiv:2003.01690. The attacks are the authors' own code, as the package ``pyautoattack`` distributes it; this
file adds its conditions, its seed, and the protection of the process's random state. With fewer than ten classes the
targeted attacks aim at all K - 1 wrong ones, where the package would ask for nine. For two and three classes, where the
targeted DLR loss is not defined, the version ``without-apgd-t`` has the other three attacks.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pyautoattack import AutoAttack as Package
from torch import Tensor, nn

from buttress import Adv, Batch, Context, PluginError, ThreatModel, hookimpl

Version = Literal["standard", "without-apgd-t"]

# Target classes of the targeted attacks in the standard version, where there are as many.
TARGETS = 9
# The targeted DLR loss divides by a difference that involves the four largest logits.
FEWEST_CLASSES: dict[Version, int] = {"standard": 4, "without-apgd-t": 2}
# Numbers of forwards of the package for a batch that nothing breaks: a target class, and all others (Square: 5,000).
FORWARDS_OF_TARGET: dict[Version, int] = {"standard": 305, "without-apgd-t": 204}
OTHER_FORWARDS = 5120
# Square's first L2 perturbation is a grid of five by five tiles.
SMALLEST_L2_SIDE = 5


@dataclass(eq=False, kw_only=True)
class AutoAttack:
    """AutoAttack with the evaluation's seed. Every batch starts from it, as in the package.

    Args:
        version: ``standard``, for at least 4 classes; or ``without-apgd-t``, its other three attacks, which are defined
            for 2 and 3 classes too. Tables and files then say ``autoattack-without-apgd-t``.
        num_classes: number of classes K; given by the run.
    """

    version: Version = "standard"
    num_classes: int | None = None

    _targets: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._targets = TARGETS if self.num_classes is None else target_count(self.num_classes, self.version)

    def forwards(self, examples: int) -> int:
        """Number of forwards for a batch that nothing breaks, for progress bars."""
        return OTHER_FORWARDS + FORWARDS_OF_TARGET[self.version] * self._targets

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        x = batch.x.detach().contiguous()  # the package views images as rows
        check_conditions(x, ctx.threat)
        with torch.no_grad():
            targets = target_count(model(x[:1]).shape[1], self.version)
        with process_as_found(x.device):
            x_adv = autoattack(model, x, batch.y, ctx.threat, seed=ctx.seed, targets=targets, version=self.version)
        return Adv(x_adv)


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    seed: int,
    targets: int,
    version: Version = "standard",
) -> Tensor:
    """``[B,C,H,W]`` adversarial examples for ``x [B,C,H,W]`` in [0, 1] with labels ``y [B]``, all as one batch.

    Seeds torch's global generators; see ``process_as_found``.
    """
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    package = Package(model, norm=norm, eps=float(threat.eps), seed=seed, device=x.device, version="standard")
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = targets
    if version == "without-apgd-t":
        package.attacks_to_run.remove("apgd-t")
    if threat.norm == "l2":
        package.square.attack_single_run = where_a_margin_is_left(package.square)
    x_adv: Tensor = package.run_standard_evaluation(x, y, batch_size=len(x))[0]
    return x_adv


def where_a_margin_is_left(square: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The run of the package's Square, but for batches in which no label is ahead of all other classes.

    An example with equal or NaN logits may count as correct, and has no margin that an L2 run could reduce; alone with
    its like it ends the package in an error. Such a batch is returned as it is.
    """
    run = square.attack_single_run

    def guarded(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margins, _ = square.margin_and_loss(x, y)
        return run(x, y) if bool((margins > 0).any()) else (torch.ones_like(margins), x.clone())

    return guarded


def target_count(num_classes: int, version: Version = "standard") -> int:
    """Number of classes that the targeted attacks aim at.

    Raises:
        PluginError: fewer classes than the version is defined for.
    """
    fewest = FEWEST_CLASSES[version]
    if num_classes < fewest:
        cure = "take its other attacks: 'autoattack: {version: without-apgd-t}'" if num_classes > 1 else ""
        reason = ": its targeted DLR loss is made of the four largest logits" if version == "standard" else ""
        raise PluginError(
            f"autoattack: expected at least {fewest} classes, got {num_classes}{reason}; "
            f"{cure or 'there is nothing to attack'}"
        )
    return min(TARGETS, num_classes - 1)


def check_conditions(x: Tensor, threat: ThreatModel) -> None:
    """Check the conditions that the package takes for granted.

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
    """Restore the process state that the package changes: torch's generators and the trace function of debuggers."""
    trace = sys.gettrace()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        sys.settrace(trace)
