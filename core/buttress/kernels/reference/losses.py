"""The loss-stationary condition in pure torch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_NO_TARGET = -(2**63)  # for cross_entropy's ignore_index


def lsc_mean(losses: Tensor, c_min: float, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """See ``buttress.kernels.lsc_mean``."""
    if losses.dim() != 1 or not losses.is_floating_point():
        raise ValueError(f"lsc_mean: expected floating-point losses [B], got {losses.dtype} {list(losses.shape)}")
    _expect_number("lsc_mean", c_min)
    wide = _wide(losses)
    kept = _kept(wide, c_min, inclusive)
    return _mean(wide, kept).to(losses.dtype), kept.sum()


def lsc_cross_entropy(logits: Tensor, targets: Tensor, c_min: float, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """See ``buttress.kernels.lsc_cross_entropy``."""
    _check_logits(logits, targets)
    _expect_number("lsc_cross_entropy", c_min)
    if logits.device.type == "cpu":  # elsewhere torch asserts on the device
        _expect_classes(targets, logits.shape[1])
    wide = _wide(logits)
    with torch.no_grad():
        kept = _kept(_cross_entropy(wide, targets), c_min, inclusive)
    # Zeros in the place of logits that are not kept: of a NaN or an infinity there, 0 * NaN would reach the gradient.
    losses = _cross_entropy(torch.where(kept[:, None], wide, 0.0), targets)
    return _mean(losses, kept).to(logits.dtype), kept.sum()


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


def _check_logits(logits: Tensor, targets: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] == 0 or not logits.is_floating_point():
        raise ValueError(
            "lsc_cross_entropy: expected floating-point logits [B,K] with K >= 1, got "
            f"{logits.dtype} {list(logits.shape)}"
        )
    alike = targets.shape == logits.shape[:1] and targets.device == logits.device
    if not alike or targets.dtype != torch.int64:
        raise ValueError(
            f"lsc_cross_entropy: expected int64 targets [{len(logits)}] on {logits.device}, got "
            f"{targets.dtype} {list(targets.shape)} on {targets.device}"
        )


def _expect_classes(targets: Tensor, classes: int) -> None:
    wrong = (targets < 0) | (targets >= classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"lsc_cross_entropy: targets[{first}] is {int(targets[first])}, expected a class from 0 to {classes - 1}"
        )
