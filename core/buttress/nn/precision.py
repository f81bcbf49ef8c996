"""Switch torch to a precision: a region of autocast for a forward, TF32 for a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from buttress.errors import ConfigError
from buttress.precision import Precision


def fitting(precision: Precision | None, model: nn.Module, who: str) -> Precision:
    """``precision``, or, if it is None, that of the weights of ``model``.

    Raises:
        ConfigError: the weights or the device of ``model`` do not allow it. The message begins with ``who``.
    """
    weight = next(model.parameters())
    if precision is None:
        own = str(weight.dtype).removeprefix("torch.")
        return Precision(own, own, own)
    words = set(asdict(precision).values())
    dtype = torch.float64 if words == {"float64"} else torch.float32
    if weight.dtype != dtype:
        raise ConfigError(
            f"{who}: precision {precision}: expected weights of {dtype}, got {weight.dtype}; give the model that dtype "
            "before the optimizer is made, or choose a precision for these weights"
        )
    if "tf32" in words and weight.device.type != "cuda":
        raise ConfigError(
            f"{who}: precision {precision}: tf32 is an arithmetic of CUDA devices, and the model is on "
            f"{weight.device}; use float32, or bf16"
        )
    return precision


def region(word: str, device: torch.device) -> AbstractContextManager[Any]:
    """The region in which one forward runs, whatever the caller's autocast is set to.

    It keeps no low-precision copies of the weights: weights that are changed in place count at once.
    """
    if word == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False, cache_enabled=False)
    return nullcontext()


def expect_no_autocast(device: torch.device, who: str) -> None:
    """Expect that the caller has opened no autocast region.

    Raises:
        ConfigError: there is one. The message begins with ``who``.
    """
    if torch.is_autocast_enabled(device.type):
        raise ConfigError(
            f"{who}: called within torch.autocast, which keeps low-precision copies of the weights, so that weights "
            "changed in place (AWP, RWP, AMP, tracks) would be ignored; leave the region out, and give "
            'precision="bf16", which opens one for every forward'
        )


@contextmanager
def arithmetic(word: str, device: torch.device) -> Iterator[None]:
    """Switch TF32 on CUDA on for ``tf32`` and off for every other word, during the block."""
    if device.type != "cuda":
        yield
        return
    with tf32_set(word == "tf32"):
        yield


@contextmanager
def tf32_set(allowed: bool) -> Iterator[None]:
    """Let matrix products and convolutions on CUDA use TF32 or not during the block."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        before = products.allow_tf32, convolutions.allow_tf32
    except RuntimeError:  # the user has set the newer switches, of which torch reads no older ones any more
        with _newer_switches_kept():
            products.allow_tf32 = convolutions.allow_tf32 = allowed
            yield
        return
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def _newer_switches_kept() -> Iterator[None]:
    convolutions: Any = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, convolutions.conv, convolutions.rnn)
    before = [place.fp32_precision for place in places]
    try:
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
