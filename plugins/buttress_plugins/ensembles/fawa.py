"""FAWA: an average of the weights over epochs that leaves out those in which a class is not robust.

Source: Wei, Wang, Guo, Wang, "CFA: Class-wise Calibrated Fair Adversarial Training", arXiv:2303.14460, section 4.3. At
the end of every epoch the model is attacked on the validation split, and the epoch is averaged if the lowest robust
accuracy of a class reaches the threshold; the first such epoch begins the average. The public code averages all floats
of the state, and integer counters as floats; here integer buffers are those of the live model. It attacks with PGD on
the cross-entropy, whatever the training attack: ``attack: pgd``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from buttress import Batch, Context, Event, Track, hookimpl
from buttress.functional import attack_loss, is_correct, pgd
from buttress.nn import evaluating


@dataclass(eq=False, kw_only=True)
class FAWA:
    """Fairness-aware weight averaging: ``avg <- decay * avg + (1 - decay) * theta`` after every fair epoch.

    Records the robust accuracy on the validation split, that of its worst class, and their sum, by which the paper
    chooses the best epoch: ``robust``, ``worst_class`` and ``score``.

    Args:
        decay: weight of the past average in each fair epoch.
        threshold: lowest robust accuracy of a class on the validation split with which an epoch is averaged; the
            public code has 0.24 by default, and 0.2 in its instructions.
        attack: attack on the validation split: ``training``, that of the run, or ``pgd``, ten steps of eps / 4 on the
            cross-entropy from a uniform start, inside eps.
        track: name of the track.

    The draws ``fawa.start.0``, ``fawa.start.1``, ... of ``pgd`` may be injected at the end of an epoch: the finished
    first perturbation of each batch of the validation split, ``[B,*]``.
    """

    decay: Annotated[float, Interval(ge=0, le=1)] = 0.88
    threshold: Annotated[float, Interval(ge=0, le=1)] = 0.24
    attack: Literal["training", "pgd"] = "training"
    track: str = "fawa"

    _average: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _device: torch.device = field(init=False, repr=False, default=torch.device("cpu"))

    @hookimpl
    def start_run(self, ctx: Context) -> None:
        self._device = ctx.device
        ctx.batches("validation")  # an error before the first step where there is none

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> Track | None:
        if event == "epoch":
            robust, worst = accuracies(*self._measured(model, ctx))
            ctx.record("robust", robust)
            ctx.record("worst_class", worst)
            ctx.record("score", robust + worst)
            if worst >= self.threshold:
                self._average = averaged(self._average, model, self.decay)
        if event == "evaluate":
            return self._track(model)
        return None

    def _measured(self, model: nn.Module, ctx: Context) -> tuple[Tensor, Tensor]:
        """Whether each attacked example of the validation split is classified correctly, and its label."""
        batches = enumerate(ctx.batches("validation"))
        answers = [(self._is_robust(model, batch, number, ctx), batch.y) for number, batch in batches]
        right, labels = zip(*answers, strict=True)
        return torch.cat(right), torch.cat(labels)

    def _is_robust(self, model: nn.Module, batch: Batch, number: int, ctx: Context) -> Tensor:
        with evaluating(model):
            x_adv = ctx.attack(batch).x if self.attack == "training" else self._pgd(model, batch, number, ctx)
            with torch.no_grad():
                return is_correct(model(x_adv), batch.y)

    def _pgd(self, model: nn.Module, batch: Batch, number: int, ctx: Context) -> Tensor:
        start = ctx.draw(f"start.{number}", batch.x.shape)
        if start is None:
            start = ctx.threat.random_start(batch.x, partial(ctx.noise, "start")) - batch.x
        loss = attack_loss("ce", model, batch.x, batch.y)
        return pgd(loss, batch.x, ctx.threat, steps=10, step_size=ctx.threat.eps / 4, start=start)

    def _track(self, model: nn.Module) -> Track:
        if not self._average:
            return Track(self.track, None, buffers="live")
        names = {name for name, _ in model.named_parameters()}
        weights = {name: value for name, value in self._average.items() if name in names}
        buffers = {name: value for name, value in self._average.items() if name not in names}
        return Track(self.track, weights, buffers="given" if buffers else "live", given_buffers=buffers)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average = {name: value.to(self._device) for name, value in state["average"].items()}


def accuracies(is_right: Tensor, y: Tensor) -> tuple[float, float]:
    """The share of ``is_right [N]``, and the lowest one of a class of labels ``y [N]`` that occurs."""
    is_right, y = is_right.double().cpu(), y.cpu()
    return float(is_right.mean()), min(float(is_right[y == k].mean()) for k in set(y.tolist()))


def floats(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and float buffers by name."""
    yield from ((name, weight.detach()) for name, weight in model.named_parameters())
    yield from ((name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point())


@torch.no_grad()
def averaged(average: Mapping[str, Tensor], model: nn.Module, decay: float) -> dict[str, Tensor]:
    """``decay * average + (1 - decay) * theta``, or a copy of theta where there is no average yet."""
    names, values = zip(*floats(model), strict=True)
    if not average:
        return {name: value.clone() for name, value in zip(names, values, strict=True)}
    moved = torch._foreach_lerp([average[name] for name in names], list(values), 1 - decay)
    return dict(zip(names, moved, strict=True))
