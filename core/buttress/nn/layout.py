"""Memory layouts of images: strides that torch reads in one way only, and the layout with which it damages memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from buttress.errors import ModelError

# oneDNN, with which torch convolves on the CPU, writes beyond its memory in the gradient of the weights of a strided
# 1x1 convolution over channels-last inputs of fewer channels than this (uxlfoundation/oneDNN issue 6035).
_SAFE_CHANNELS = 16


def plain_strides(x: Tensor) -> Tensor:
    """``x [B,*]`` in the strides of ``torch.contiguous_format``, without a copy, if it is an image of one channel.

    The stride of a dimension of size 1 has no meaning, but torch takes a 1 there for the channels-last layout, and
    convolves the images of one channel that a ``permute`` has made in that layout.
    """
    if x.dim() != 4 or x.shape[1] != 1 or x.stride(1) != 1 or not x.is_contiguous():
        return x
    return x.squeeze(1).unsqueeze(1)


def expect_safe_layout(who: str, model: nn.Module, x: Tensor) -> None:
    """Expect that the gradients of ``model`` at inputs ``x [B,*]`` can be taken without damage to memory.

    Raises:
        ModelError: on the CPU, model or inputs are in the channels-last layout, and a convolution of the model is one
            that oneDNN cannot differentiate in it. The message begins with ``who``.
    """
    if x.device.type != "cpu" or not torch.backends.mkldnn.enabled:
        return
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if not is_channels_last(x) and not any(is_channels_last(module.weight) for module in convolutions.values()):
        return
    for name, module in convolutions.items():
        strided = any(stride > 1 for stride in module.stride)
        if module.kernel_size == (1, 1) and strided and module.in_channels < _SAFE_CHANNELS:
            raise ModelError(
                f"{who}: the channels-last layout is not safe on the CPU with convolution {name!r} (1x1, strided, "
                f"{module.in_channels} channels): oneDNN writes beyond its memory in its gradient (oneDNN issue 6035); "
                f"use the contiguous layout, or at least {_SAFE_CHANNELS} channels"
            )


def has_channels_last_weights(model: nn.Module) -> bool:
    """Whether some convolution of ``model`` has its weights in the channels-last layout."""
    return any(is_channels_last(weight) for weight in model.parameters())


def in_channels_last(value: Any) -> Any:
    """Images ``[B,C,H,W]`` in the channels-last layout, copied where they are in another; anything else as it is."""
    if isinstance(value, Tensor) and value.dim() == 4:
        return plain_strides(value.contiguous(memory_format=torch.channels_last))
    return value


def is_channels_last(tensor: Tensor) -> bool:
    """Whether ``tensor`` is in the channels-last layout, and in no other."""
    if tensor.dim() != 4 or not tensor.is_contiguous(memory_format=torch.channels_last):
        return False
    return not tensor.is_contiguous()
