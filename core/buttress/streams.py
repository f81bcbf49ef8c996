"""Seed random streams by their purpose: a stream depends on its key and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import torch

Span = Literal["step", "epoch", "run"]
"""The time over which every step begins a stream at the same place."""
Streams = dict[tuple[str, str, Span, torch.device], tuple[tuple[int, int], torch.Generator]]
"""Plugin, purpose, span and device to the (epoch, step) of a stream, and its generator."""


def seeded_generator(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator whose stream depends only on ``key``: the same on every run, independent of every other key."""
    return torch.Generator(device).manual_seed(seed_of(key))


def seed_of(key: Iterable[object]) -> int:
    """The seed of the stream of ``key``: 63 bits of a hash of its parts as Python writes them."""
    return int.from_bytes(blake2b(repr(tuple(key)).encode(), digest_size=8).digest(), "little") >> 1
