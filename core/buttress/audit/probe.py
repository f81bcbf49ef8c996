"""The model under examination, its examples, and the attacks that several checks look at."""

from functools import cached_property

import torch
from torch import Tensor, nn

from buttress.audit.search import random_search
from buttress.data import Split
from buttress.data.order import subset
from buttress.engine.attacking import ModelAtWork
from buttress.errors import DataError
from buttress.functional import AttackLoss, attack_loss, is_correct, pgd
from buttress.precision import Precision
from buttress.streams import seeded_generator
from buttress.threat import ThreatModel

# Examples a forward.
BATCH = 500
# Steps of the attack that the others are compared with; its step size is 2.5 eps / steps (Madry et al. 2018).
STEPS = 20


class Probe:
    """A model and examples for the checks. Every result is computed once, on first use.

    Args:
        model: model in the mode in which it is to be evaluated; modes, buffers and gradients come back afterwards.
        split: examples, on the model's device.
        threat: the threat model.
        examples: number of them to look at, see ``data.subset``.
        seed: seed of every random draw.
        precision: precision of the passes, of which ``score`` holds; None: that of the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        split: Split,
        threat: ThreatModel,
        *,
        examples: int = 200,
        seed: int = 0,
        precision: Precision | None = None,
    ) -> None:
        if not len(split):
            raise DataError("audit: expected at least one example, got an empty split")
        self.model, self.split, self.threat, self.seed = model, split, threat, seed
        self.at_work = ModelAtWork(model, precision, who="audit")
        chosen = subset(len(split), examples)
        batch = next(iter(split.batches(chosen, len(chosen))))
        self.x, self.y = threat.clamp(batch.x), batch.y
        """``[n,*]`` and ``[n]``; what lies outside of the box, a finding of its own, is brought inside."""

    def __len__(self) -> int:
        return len(self.y)

    def generator(self, purpose: str) -> torch.Generator:
        """A stream of its own."""
        return seeded_generator(self.x.device, self.seed, "audit", purpose)

    def logits(self, x: Tensor) -> Tensor:
        """``[B,K]`` for ``x [B,*]``, in eval mode."""
        return torch.cat([self.at_work.logits(part) for part in torch.split(x, BATCH)])

    def correct(self, x: Tensor) -> Tensor:
        """``[n]`` bools: which of ``x [n,*]``, in the place of the examples, are classified correctly."""
        return is_correct(self.logits(x), self.y)

    def gradient(self, x: Tensor) -> Tensor:
        """``[n,*]`` gradients of the cross-entropies at ``x``, in eval mode; zero where the input is not used."""
        with self.at_work.attacking("eval", work="score"), torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            total = attack_loss("ce", self.model, x, self.y)(x).sum()
            if not total.requires_grad:
                return torch.zeros_like(x)
            (grad,) = torch.autograd.grad(total, x, allow_unused=True)
        return torch.zeros_like(x) if grad is None else grad

    def attacked(
        self, steps: int, *, loss: AttackLoss = "ce", threat: ThreatModel | None = None, start: str = "start"
    ) -> Tensor:
        """``[n,*]`` examples attacked by PGD from a random start, the stream ``start``, in eval mode."""
        threat = threat or self.threat
        begin = threat.random_start(self.x, self.generator(start)) - self.x
        with self.at_work.attacking("eval", work="score"):

            def objective(x: Tensor) -> Tensor:
                losses = attack_loss(loss, self.model, self.x, self.y)(x)
                return losses + 0 * x.flatten(1).sum(1)  # differentiable also where the model ignores its input

            size = 2.5 * float(threat.eps) / steps
            return pgd(objective, self.x, threat, steps=steps, step_size=size, start=begin)

    @cached_property
    def clean(self) -> Tensor:
        """``[n]`` bools: classified correctly."""
        return self.correct(self.x)

    @cached_property
    def after_pgd(self) -> Tensor:
        """``[n]`` bools: correct after PGD on the cross-entropy."""
        return self.clean & self.correct(self.attacked(STEPS))

    @cached_property
    def after_white_box(self) -> Tensor:
        """``[n]`` bools: correct after PGD on the cross-entropy and on the margin."""
        return self.after_pgd & self.correct(self.attacked(STEPS, loss="margin"))

    @cached_property
    def after_black_box(self) -> Tensor:
        """``[n]`` bools: correct after a random search that sees logits only."""
        x = random_search(self.logits, self.x, self.y, self.threat, self.generator("search"))
        return self.clean & self.correct(x)


def share(flags: Tensor) -> float:
    """The share of True in ``[n]`` bools."""
    return int(flags.sum()) / len(flags)
