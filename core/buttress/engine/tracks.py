"""Swap the weights of a track, which a plugin wants evaluated beside the live ones, into the model and out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from weakref import proxy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from buttress.engine.arguments import expect_function
from buttress.engine.attack import Attack
from buttress.engine.attacking import ModelAtWork
from buttress.engine.between_steps import BetweenSteps
from buttress.engine.hooks import Hooks
from buttress.engine.state import RunState
from buttress.errors import DataError
from buttress.nn.batchnorm import reestimate
from buttress.nn.finite import FiniteTensors
from buttress.nn.modes import weights_swapped
from buttress.streams import Streams
from buttress.types import Batch, Track

Batches = Callable[[], Iterable[Batch]]
"""Makes an iterable over a split."""


@dataclass(eq=False)
class Tracks:
    """The tracks of an engine's plugins, and the model with the weights of one of them in it.

    Args:
        at_work: model that holds the live weights outside of ``swapped_in``.
        hooks: hooks that return the tracks, and transform the batches on which batch norm is measured.
        state: state of the run, with the training set and the random streams.
        attack: makes the inputs of tracks whose batch norm is measured on adversarial examples.
        between_steps: makes the blocks in which hooks are called.
        finite: tensors of the model that must be finite in a track; None checks nothing.
    """

    at_work: ModelAtWork
    hooks: Hooks
    state: RunState
    attack: Attack
    between_steps: BetweenSteps
    finite: FiniteTensors | None

    def offer_splits(self, train: Batches | None, validation: Batches | None) -> None:
        """Let the plugins of the run ask for the splits that its caller has, the training split as it is transformed.

        Raises:
            ConfigError: one of them is no function.
        """
        if validation is not None:
            expect_function("validation", validation)
            self.state.validation_batches = validation
        if train is not None:
            expect_function("batches", train)
            own = proxy(self)  # no cycle: an engine that is dropped frees its model at once
            self.state.training_batches = partial(Tracks.training_batches, own, train)

    def all(self) -> list[Track]:
        """``ensemble_weights`` at event ``evaluate``."""
        with self.state.in_phase("ensemble"), self.between_steps():
            return self.hooks.tracks(self.at_work.model)

    @contextmanager
    def swapped_in(self, track: Track, batches: Batches | None = None) -> Iterator[nn.Module]:
        """The model with the weights of ``track``; the live weights and buffers come back bit for bit afterwards.

        Args:
            track: one of ``all()``.
            batches: training set that batch norm is measured on; None: the engine's own.

        Raises:
            DivergenceError: the track's weights or batch-norm statistics are not finite.
        """
        needs_inputs = track.buffers == "reestimate" and track.weights is not None
        inputs = self._bn_inputs(track, batches) if needs_inputs else []
        buffers = dict(track.given_buffers) if track.buffers == "given" else {}
        model = self.at_work.model
        with weights_swapped(model, dict(track.weights or {}), buffers):
            if inputs:
                with self.at_work.doing("score"):
                    reestimate(model, inputs, self._merge if self._split(track) else None)
            if self.finite is not None:
                self.finite.expect(f"in track {track.name!r}")
            yield model

    def _split(self, track: Track) -> bool:
        """Whether each rank measures batch norm on some of the batches alone."""
        return track.bn_inputs == "clean" and self.state.world.size > 1

    def _merge(self, norms: Sequence[_NormBase], examples: int) -> None:
        """Give ``norms`` the statistics over the batches of all ranks, weighted by their numbers of examples."""
        world = self.state.world
        counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
        numbers = world.gathered((examples, int(counts[0]) if counts else 0), "batch norm of a track")
        total = sum(each for each, _ in numbers)
        if total == 0:
            raise DataError("batch-norm re-estimation: expected at least one batch of inputs, got none")
        statistics = (each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None)
        world.mean_(list(statistics), "batch norm of a track", examples / total)
        for count in counts:
            count.fill_(sum(each for _, each in numbers))

    def training_batches(self, batches: Batches, reader: str) -> Iterator[Batch]:
        """The training set as ``transform_batch`` makes it, with random draws of the reader's own."""
        streams: Streams = {}
        for batch in batches():
            with self.state.in_phase("ensemble"), self.state.streams_apart(reader, streams):
                transformed = self.hooks.transform_batch(batch)
            yield transformed

    def _bn_inputs(self, track: Track, given: Batches | None) -> Iterable[Tensor]:
        reader = f"track {track.name}"
        batches = self.state.training_batches(reader) if given is None else self.training_batches(given, reader)
        if track.bn_inputs == "clean":
            world = self.state.world
            return (batch.x for number, batch in enumerate(batches) if number % world.size == world.rank)
        # Made at the live weights, whose batch-norm statistics are their own, before the track's weights move in.
        # In eval mode, whatever the training's attack mode: evaluating a track moves nothing of the live model.
        with self.state.streams_apart(reader), self.between_steps():
            return [self.attack(batch, "eval").x for batch in batches]
