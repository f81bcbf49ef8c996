"""The loss-stationary condition in pure torch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from buttress.kernels.reference.checks import DTYPES, facts

_NO_TARGET = -(2**63)  # for cross_entropy's ignore_index


def lsc_mean(losses: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    """See ``buttress.kernels.lsc_mean``."""
    check_mean(losses, c_min)
    wide = _wide(losses)
    kept = _kept(wide, c_min, inclusive)
    return _mean(wide, kept).to(losses.dtype), kept.sum()


def lsc_cross_entropy(logits: Tensor, targets: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    """See ``buttress.kernels.lsc_cross_entropy``."""
    check_cross_entropy(logits, targets, c_min)
    if logits.device.type == "cpu":  # elsewhere torch asserts on the device
        _expect_classes(targets, logits.shape[1])
    wide = _wide(logits)
    with torch.no_grad():
        kept = _kept(_cross_entropy(wide, targets), c_min, inclusive)
    # Zeros in the place of logits that are not kept: of a NaN or an infinity there, 0 * NaN would reach the gradient.
    losses = _cross_entropy(torch.where(kept[:, None], wide, 0.0), targets)
    return _mean(losses, kept).to(logits.dtype), kept.sum()


def check_mean(losses: Tensor, c_min: float) -> None:
    """Raises ValueError: losses of another kind than floating-point ``[B]``; ``c_min`` is NaN."""
    if losses.dim() != 1 or losses.dtype not in DTYPES:
        raise ValueError(f"lsc_mean: losses: expected floating-point [B], got {facts(losses)}")
    _expect_number("lsc_mean", c_min)


def check_cross_entropy(logits: Tensor, targets: Tensor, c_min: float) -> None:
    """Raises ValueError: logits or targets of another kind; ``c_min`` is NaN."""
    if logits.dim() != 2 or logits.shape[1] == 0 or logits.dtype not in DTYPES:
        raise ValueError(f"lsc_cross_entropy: logits: expected floating-point [B,K] with K >= 1, got {facts(logits)}")
    alike = targets.shape == logits.shape[:1] and targets.device == logits.device
    if not alike or targets.dtype != torch.int64:
        raise ValueError(
            f"lsc_cross_entropy: targets: expected int64 [{logits.shape[0]}] on {logits.device}, got {facts(targets)}"
        )
    _expect_number("lsc_cross_entropy", c_min)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``[B]``; a target of -100 is as wrong as any other."""
    return F.cross_entropy(logits, targets, reduction="none", ignore_index=_NO_TARGET)


def _wide(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _kept(losses: Tensor, c_min: float, inclusive: bool) -> Tensor:
    return losses <= c_min if inclusive else losses < c_min


def _mean(losses: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, losses, 0.0).sum() / max(len(losses), 1)


def _expect_number(who: str, c_min: float) -> None:
    if math.isnan(c_min):
        raise ValueError(f"{who}: c_min: expected a number or an infinity, got nan")


def _expect_classes(targets: Tensor, classes: int) -> None:
    wrong = (targets < 0) | (targets >= classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"lsc_cross_entropy: targets[{first}] is {int(targets[first])}, expected a class from 0 to {classes - 1}"
        )
