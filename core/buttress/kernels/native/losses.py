"""The compiled operators of the loss-stationary condition, called as their twins are; their shapes."""

import torch
from torch import Tensor


def lsc_mean(losses: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    mean, kept = torch.ops.buttress.lsc_mean(losses, c_min, inclusive)
    return mean, kept


def lsc_cross_entropy(logits: Tensor, targets: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    mean, kept, _ = torch.ops.buttress.lsc_cross_entropy(logits, targets, c_min, inclusive)
    return mean, kept


def register_fakes() -> None:
    """Shapes and dtypes of the operators, for torch.compile."""
    torch.library.register_fake("buttress::lsc_mean", _fake_mean)
    torch.library.register_fake("buttress::lsc_mean_backward", _fake_mean_backward)
    torch.library.register_fake("buttress::lsc_cross_entropy", _fake_cross_entropy)
    torch.library.register_fake("buttress::lsc_cross_entropy_backward", _fake_cross_entropy_backward)


def _fake_mean(losses: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    return losses.new_empty(()), losses.new_empty((), dtype=torch.int64)


def _fake_mean_backward(grad: Tensor, losses: Tensor, c_min: float, inclusive: bool) -> Tensor:
    return losses.new_empty(losses.shape)


def _fake_cross_entropy(
    logits: Tensor, targets: Tensor, c_min: float, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    rows = logits.new_empty((logits.shape[0], 2), dtype=wide)
    return logits.new_empty(()), targets.new_empty(()), rows


def _fake_cross_entropy_backward(grad: Tensor, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
    return logits.new_empty(logits.shape)
