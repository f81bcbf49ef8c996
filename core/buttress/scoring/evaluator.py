"""Measure clean and robust accuracy in eval mode, at un-perturbed weights, with random streams of its own."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from buttress.components.loaded import LoadedPlugin
from buttress.data import Split
from buttress.engine.answers import Caller
from buttress.engine.attacking import ModelAtWork
from buttress.engine.checks import ValueChecks
from buttress.engine.hooks import Hooks
from buttress.engine.perturbation import Copies
from buttress.engine.state import RunState
from buttress.engine.world import World
from buttress.engine.writers import Writers
from buttress.errors import ConfigError, DataError, HookError
from buttress.functional import cross_entropy, is_correct
from buttress.nn.as_found import AsFound
from buttress.nn.contract import cannot_take, expect_logits, expect_some_finite, form_of
from buttress.nn.finite import remark_on
from buttress.nn.lost_gradient import expect_gradient_through
from buttress.nn.modes import takes_gradients
from buttress.precision import Precision
from buttress.scoring.attacks import load_attack
from buttress.threat import ThreatModel, expect_threat
from buttress.types import Adv, Batch

logger = logging.getLogger("buttress")


@dataclass(frozen=True)
class Score:
    """Accuracies on one split.

    Args:
        clean: share of examples classified correctly.
        robust: share of examples whose attacked version is classified correctly.
        n: number of examples.
        clean_correct: ``[n]`` bools, on the device.
        robust_correct: ``[n]`` bools, on the device.
        robust_losses: ``[n]`` cross-entropies of the attacked versions in nats, on the device.
        nonfinite: number of examples whose logits are NaN or infinite without an attack; they count as wrong.
    """

    clean: float
    robust: float
    n: int
    clean_correct: Tensor
    robust_correct: Tensor
    robust_losses: Tensor
    nonfinite: int = 0


class Evaluator:
    """Scores a model under one attack, any number of times.

    Args:
        model: model to evaluate in eval mode; its modes, weights, buffers and gradients stay as they are. One that is
            at work already, such as an engine's, is evaluated in its own precision of ``score``.
        attack: an attack plugin.
        threat: the threat model.
        seed: seed of the attack's random draws, which depend only on it and on the batch number.
        batch_size: number of examples per forward.
        world: processes of which each scores some of the batches; all have the whole score. None: this one alone.

    Raises:
        ModelError: the model is no module, or its parameters are not on one device.
        ConfigError: the batch size is below 1, or there is no threat model.
    """

    @takes_gradients
    def __init__(
        self,
        model: nn.Module | ModelAtWork,
        attack: LoadedPlugin,
        threat: ThreatModel,
        *,
        seed: int = 0,
        batch_size: int = 500,
        world: World | None = None,
    ) -> None:
        self._world = World() if world is None else world
        self.at_work = model if isinstance(model, ModelAtWork) else ModelAtWork(model, who="evaluation")
        device = self.at_work.device
        expect_threat(threat, "evaluation")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"evaluation: batch_size: expected a number >= 1, got {batch_size!r}")
        self.attack, self.threat = attack, threat
        self._model, self._batch_size = self.at_work.model, batch_size
        self._state = RunState(threat, device, seed=seed, phase="evaluate")
        self.hooks = Hooks([attack], self._state, ValueChecks("always", device))
        self._copies, self._writers = Copies(), Writers(self.hooks, ["generate_adv"])
        self._name = "evaluation"

    @takes_gradients
    def attacked(self, batch: Batch, number: int = 0, draws: Mapping[str, Tensor] | None = None) -> Adv:
        """Adversarial examples for batch number ``number``, made in eval mode.

        Args:
            batch: examples.
            number: number of the batch, which the attack's own random draws depend on.
            draws: random draws that take the place of the attack's own: ``{"cw.start": start}``.

        Raises:
            DataError: the batch is of a wrong kind, outside the box, or has labels that are none of the model's; the
                attack asks for none of some draw, or for one of another shape.
            HookError: the attack failed, or changed a thing that it must not; the model is restored.
            ModelError: the attack failed because the model's forward cuts the gradient to the inputs.
        """
        return self._attack(self._accept(batch), number, draws)

    def _attack(self, batch: Batch, number: int, draws: Mapping[str, Tensor] | None) -> Adv:
        """Adversarial examples for a batch that is accepted."""
        self._state.step, self._state.elsewhere = number, f"{self._name}, batch {number + 1}"
        self._state.rewind()
        self.hooks.watch.begin(self._model)
        as_found = AsFound(self._model)
        values = as_found.values_kept(self._copies.weights(self._writers.exist), self._copies.buffers)
        try:
            injecting = self._state.injecting(draws or {}, self._name)
            attacking = self.at_work.attacking("eval", work="score")
            with as_found.kept_on_error(), values as saved, attacking, injecting:
                adv = self.hooks.generate_adv(self._model, batch)
                self._writers.compare(self._model, saved)
                return adv
        except HookError as fault:
            expect_gradient_through(self._name, self._model, batch.x, fault)
            raise

    @takes_gradients
    def score(
        self,
        split: Split,
        epoch: int | None = None,
        scored: Callable[[int], None] = lambda examples: None,
        draws: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> Score:
        """Clean and robust accuracy on ``split``; one synchronisation with the device at the end.

        Args:
            split: the examples.
            epoch: number of epochs done, for messages.
            scored: called after every batch with its number of examples.
            draws: random draws of each batch that take the place of the attack's own, as in ``attacked``.

        Raises:
            DataError: the split is empty; there are draws for another number of batches; an example is of a wrong kind
                or outside the box; a label is none of the model's classes.
            ModelError: the model's forward raises, or gives no logits.
            HookError: the attack failed.
        """
        self._name = "evaluation" if epoch is None else f"evaluation after epoch {epoch}"
        if not isinstance(split, Split):
            raise DataError(f"{self._name}: expected a split, buttress.Split(x, y), got {form_of(split)}")
        if not len(split):
            raise DataError("evaluation: expected at least one example, got an empty split")
        scored_batches: dict[int, list[Tensor]] = {}
        order, count = torch.arange(len(split)), -(-len(split) // self._batch_size)
        if draws is not None and len(draws) != count:
            raise DataError(
                f"{self._name}: draws: expected a mapping for each of the {count} batches of {self._batch_size}, got "
                f"{len(draws)}; give one for each, or another batch_size"
            )
        with self.at_work.scoring():
            for number, given in self._own_batches(split, order):
                batch = self._accept(given)
                logits = self._logits(batch)
                adv = self._attack(batch, number, None if draws is None else draws[number])
                with torch.no_grad():
                    logits_adv = self._model(adv.x)
                scored_batches[number] = [
                    is_correct(logits, batch.y),
                    is_correct(logits_adv, batch.y),
                    cross_entropy(logits_adv, batch.y),
                    torch.isfinite(logits).all(1),
                ]
                scored(len(batch.y) * self._world.size)
        return _score_of(self._of_all_ranks(scored_batches))

    def _own_batches(self, split: Split, order: Tensor) -> Iterator[tuple[int, Batch]]:
        """Number and batch, of the batches that this process scores: the number modulo that of processes."""
        size, world = self._batch_size, self._world
        if world.size == 1:
            yield from enumerate(split.batches(order, size))
            return
        numbers = range(world.rank, -(-len(order) // size), world.size)
        parts = [order[number * size : (number + 1) * size] for number in numbers]
        yield from zip(numbers, split.batches_at(parts), strict=True)

    def _of_all_ranks(self, own: dict[int, list[Tensor]]) -> list[list[Tensor]]:
        """The verdicts on all batches in their order."""
        if self._world.size > 1:
            on_host = {number: [each.cpu() for each in verdicts] for number, verdicts in own.items()}
            merged = {k: each for some in self._world.gathered(on_host, "evaluation") for k, each in some.items()}
            own = {number: [each.to(self.at_work.device) for each in merged[number]] for number in merged}
        return [own[number] for number in sorted(own)]

    def _accept(self, batch: Batch) -> Batch:
        accepted = self.hooks.answers.inputs(batch, Caller(self._name))
        if accepted.y.dim() != 1:
            raise DataError(f"{self._name}: expected int64 labels [{len(batch.x)}], got {form_of(batch.y)}")
        return accepted

    def _logits(self, batch: Batch) -> Tensor:
        try:
            with torch.no_grad():
                logits: Tensor = self._model(batch.x)
        except Exception as problem:
            raise cannot_take(self._name, self._model, batch.x, problem) from problem
        self.hooks.answers.expect_classes(expect_logits(self._model, logits, len(batch.x)))
        return logits


def _score_of(batches: Sequence[Sequence[Tensor]]) -> Score:
    clean, robust, losses, finite = (torch.cat(list(each)) for each in zip(*batches, strict=True))
    counts, n = torch.stack([clean.sum(), robust.sum(), finite.sum()]).tolist(), len(clean)
    return Score(counts[0] / n, counts[1] / n, n, clean, robust, losses, nonfinite=n - counts[2])


def evaluate(
    model: nn.Module,
    split: Split,
    attack: str | Mapping[str, Any] | LoadedPlugin,
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int = 500,
    precision: str | None = None,
    draws: Sequence[Mapping[str, Tensor]] | None = None,
) -> Score:
    """Clean and robust accuracy of ``model`` on ``split`` under ``attack``.

    Args:
        model: module that maps ``[B,*]`` to logits ``[B,K]``; it stays as it is.
        split: examples, on the model's device.
        attack: ``"fgsm"``, ``{"pgd": {"steps": 20, "step_size": "2/255"}}``, or a loaded attack.
        threat: the threat model.
        seed: seed of the attack's random draws.
        batch_size: number of examples per forward.
        precision: precision of attack and verdict, ``bf16`` for example; None: that of the weights, TF32 off.
        draws: random draws of each batch that take the place of the attack's own: ``[{"pgd.start": start}]``.
    """
    loaded = attack if isinstance(attack, LoadedPlugin) else load_attack(attack)
    at_work = ModelAtWork(model, None if precision is None else Precision.scoring(precision), who="evaluation")
    evaluator = Evaluator(at_work, loaded, threat, seed=seed, batch_size=batch_size)
    if remark := remark_on(model):
        logger.warning("evaluation: %s", remark)
    score = evaluator.score(split, draws=draws)
    if remark := expect_some_finite("evaluation", model, score.nonfinite, score.n):
        logger.warning("evaluation: %s", remark)
    return score
