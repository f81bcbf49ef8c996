"""The way of tensors from the host to the device, without waiting for it."""

import torch
from torch import Tensor


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """``values``, which lie on the host, on ``device``; pinned memory lets the copy wait in the device's queue."""
    if device.type != "cuda":
        return values.to(device, non_blocking=True)
    return values.pin_memory().to(device, non_blocking=True)
