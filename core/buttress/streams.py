"""Seed random streams by their purpose: a stream depends on its key and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor

Span = Literal["step", "epoch", "run"]
"""The time over which every step begins a stream at the same place."""
NoiseKind = Literal["uniform", "normal"]
"""NoiseKind of random numbers: uniform in [0, 1), or normal with mean 0 and deviation 1."""
NoiseSource = torch.Generator | Callable[[Tensor, NoiseKind], Tensor]
"""NoiseSource of random numbers: a generator, or a function of a tensor like them and their kind."""
Streams = dict[tuple[str, str, Span, torch.device, int], tuple[tuple[int, int], torch.Generator]]
"""Plugin, purpose, span, device and rank to the (epoch, step) of a stream, and its generator."""


def seeded_generator(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator whose stream depends only on ``key``: the same on every run, independent of every other key."""
    return torch.Generator(device).manual_seed(seed_of(key))


def seed_of(key: Iterable[object]) -> int:
    """The seed of the stream of ``key``: 63 bits of a hash of its parts as Python writes them."""
    return int.from_bytes(blake2b(repr(tuple(key)).encode(), digest_size=8).digest(), "little") >> 1


def noise(like: Tensor, source: NoiseSource, kind: NoiseKind = "uniform") -> Tensor:
    """Random numbers with the shape, dtype and device of ``like [*]``."""
    if not isinstance(source, torch.Generator):
        return source(like, kind)
    draw = {"uniform": torch.rand, "normal": torch.randn}[kind]
    return draw(like.shape, generator=source, dtype=like.dtype, device=like.device)
