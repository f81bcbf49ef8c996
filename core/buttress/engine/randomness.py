"""The random streams of a run, and the draws that its caller injects in the place of some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from buttress.errors import DataError
from buttress.streams import Span, Streams, seed_of


class Randomness:
    """Random streams that depend on the place in the run, 0-based ``epoch`` and ``step``, and on nothing before it.

    Args:
        device: device of the generators, where a plugin asks for no other.
        seed: seed of the run.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device, self.seed = device, seed
        self.epoch = self.step = 0
        self.replays = 1
        self.draws: Mapping[str, Tensor] = {}
        self.requested_draws: set[str] = set()
        self._generators: Streams = {}
        self._lasting: Streams = {}  # of spans longer than a step
        self._reader = ""
        self._steps_back = 0  # from the present step to that whose draws are made

    def begin_step(self, draws: Mapping[str, Tensor]) -> None:
        """Start all random streams of the step at their beginning, with ``draws`` injected in the place of some.

        So a step that failed makes the same draws when it is tried again.
        """
        self.rewind()
        self.draws, self.requested_draws = draws, set()

    def generator(
        self, plugin: str, purpose: str, per: Span = "step", device: torch.device | None = None, rank: int = 0
    ) -> torch.Generator:
        """The stream of (seed, plugin, purpose, epoch, step, rank); a second call in one step continues it.

        Args:
            plugin: label of the plugin that draws.
            purpose: purpose of the draws.
            per: span in which every step begins the stream at the same place; one that is longer than a step has the
                same stream for every reader.
            device: device of the generator; None: that of the model.
            rank: number of the process that draws; 0 for draws that all make alike.
        """
        streams = self._generators if per == "step" else self._lasting
        key, now = (plugin, purpose, per, device or self.device, rank), (self.epoch, self.step - self._steps_back)
        held = streams.get(key)
        if held and held[0] == now:
            return held[1]
        generator = held[1] if held else torch.Generator(device or self.device)
        streams[key] = (now, generator.manual_seed(seed_of((self.seed, plugin, purpose, *self._beginning(per, rank)))))
        return generator

    def _beginning(self, per: Span, rank: int) -> tuple[object, ...]:
        """The part of the key of a stream that depends on the place in the run."""
        if per == "step":
            return self.epoch, self.step - self._steps_back, rank, self._reader
        return ("epoch", self.epoch, rank) if per == "epoch" else ("run", rank)

    @contextmanager
    def draws_of_first_replay(self) -> Iterator[None]:
        """Let the block draw from the streams of the first step on the present batch."""
        self._steps_back = self.step % self.replays
        try:
            yield
        finally:
            self._steps_back = 0

    @contextmanager
    def _reading(self, reader: str, streams: Streams) -> Iterator[None]:
        """Give the block the ``streams`` of a reader, whose name is part of their keys, and no injected draws."""
        before = self._generators, self._lasting, self.draws, self._reader
        self._generators, self._lasting, self.draws, self._reader = streams, {}, {}, reader
        try:
            yield
        finally:
            self._generators, self._lasting, self.draws, self._reader = before

    def rewind(self) -> None:
        """Start every random stream anew: equal (epoch, step) give equal draws, whatever was drawn before."""
        self._generators.clear()
        self._lasting.clear()

    @contextmanager
    def injecting(self, draws: Mapping[str, Tensor], who: str) -> Iterator[None]:
        """Let the block take ``draws`` in the place of its own, and expect that it asks for each of them.

        Raises:
            DataError: it does not; the message begins with ``who``.
        """
        self.draws, self.requested_draws = draws, set()
        try:
            yield
            self.expect_draws_used(who)
        finally:
            self.draws = {}

    def expect_draws_used(self, who: str) -> None:
        """Expect that a plugin has asked for each of the draws that the caller injected.

        Raises:
            DataError: none has asked for some; the message begins with ``who``.
        """
        unused = set(self.draws) - self.requested_draws
        if unused:
            raise DataError(
                f"{who}: draws {sorted(unused)} were not asked for by any plugin; "
                f"asked for: {sorted(self.requested_draws) or 'none'}"
            )
