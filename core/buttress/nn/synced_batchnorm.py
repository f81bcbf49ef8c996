"""Batch norm whose statistics are those of the rows of all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm


class SyncedBatchNorm(_BatchNorm):
    """``nn.BatchNorm`` over the rows of all processes, in train mode.

    The mean and the second moment are summed over the processes by a function with a gradient, so that the gradient
    flows through the statistics to the rows of every process, as it does in one. Sums are made in float64, and numbers
    of half precision are normalised in float32, as torch does.
    """

    has_all_rows: Callable[[], bool]
    """Whether this process has all rows of the present batch."""
    total: Callable[[Tensor], Tensor]
    """Sums over the processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        takes_own = self.training or self.running_mean is None
        if not takes_own or self.has_all_rows():
            answer: Tensor = super().forward(input)
            return answer
        self._check_input_dim(input)
        return self._normalized(input)

    def _normalized(self, given: Tensor) -> Tensor:
        x = given if given.dtype == torch.float64 else given.float()
        dims = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, dims, correction=0)
        variance, mean = variance.double(), mean.double()
        sums = torch.stack([mean, variance + mean * mean, torch.ones_like(mean)]) * count
        first, second, number = self.total(sums)
        mean, number = first / number, number.detach()
        variance = second / number - mean * mean
        if self.training and self.track_running_stats:
            self._track(mean.detach(), variance.detach() * number / (number - 1).clamp_min(1))
        shape = (1, -1, *[1] * (x.dim() - 2))
        scale = (variance.clamp_min(0) + self.eps).rsqrt().to(x.dtype)
        shift = -mean.to(x.dtype) * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        normalized: Tensor = x * scale.view(shape) + shift.view(shape)
        return normalized.to(given.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum: Any = self.momentum
        if momentum is None:
            momentum = 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class SyncedOnCuda(SyncBatchNorm):
    """``nn.SyncBatchNorm`` that leaves out the other processes where this one has all rows of the batch."""

    has_all_rows: Callable[[], bool]

    def forward(self, input: Tensor) -> Tensor:
        return _BatchNorm.forward(self, input) if self.has_all_rows() else super().forward(input)


def is_synced(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm over the rows of all processes."""
    return isinstance(module, SyncedBatchNorm | SyncedOnCuda)


def _has_torchs_forward(module: _BatchNorm) -> bool:
    return type(module).forward in (_BatchNorm.forward, SyncBatchNorm.forward)


def unsynced(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Name and module of the first batch norm of ``model`` that has a forward of its own, and cannot be synced."""
    norms = ((name, each) for name, each in model.named_modules() if isinstance(each, _BatchNorm))
    return next(((name, each) for name, each in norms if not is_synced(each) and not _has_torchs_forward(each)), None)


def sync_batch_norm(model: nn.Module, has_all_rows: Callable[[], bool], total: Callable[[Tensor], Tensor]) -> None:
    """Let the batch norms of ``model`` take their statistics over the rows of all processes, in place.

    Modules stay the objects that they are, with their parameters, buffers and hooks; on CUDA devices the sums are those
    of torch's ``SyncBatchNorm``. Norms of another class, or with a forward of their own, are left as they are.

    Args:
        model: changed in place.
        has_all_rows: whether this process has all rows of the present batch.
        total: sum over the processes, with a gradient.
    """
    for module in model.modules():
        if not isinstance(module, _BatchNorm) or not _has_torchs_forward(module):
            continue
        weight = module.weight if module.weight is not None else module.running_mean
        if weight is not None and weight.device.type == "cuda":
            module.__class__ = SyncedOnCuda
            module.process_group = None  # type: ignore[assignment]
        else:
            module.__class__ = SyncedBatchNorm
            module.total = total  # type: ignore[assignment]
        module.has_all_rows = has_all_rows  # type: ignore[assignment]
