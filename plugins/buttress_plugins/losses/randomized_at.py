"""Randomized adversarial training: TRADES with the expansion of its loss under noisy weights.

Source: Jin, Yi, Huang, Schewe, Huang, "Randomized Adversarial Training via Taylor Expansion", arXiv:2303.10653. The
terms of first and second order are those of the public code: four divergences from soft labels, which are made of the
gradients of the clean and of the adversarial cross-entropy with respect to the last layer. In its code for TRADES the
attack sees convolutions with normal noise of 1e-4, and the training loss does not; its code for AWP has no noise:
``noise: 0``. Its first target of second order is made like the second one, apparently unintended: ``second_order:
intended``. Its code for TRADES makes four forwards each of clean and adversarial examples (``forwards_each: 4``), and
chooses the weights with noise by name (``noise_on: named``); one forward each serves here, and all convolutions have
noise.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from buttress import Adv, Batch, Context, Loss, PluginError, hookimpl
from buttress.functional import cross_entropy, expect_labels, kl_divergence
from buttress.settings import NonNegative, PerEpoch

Logits = tuple[Tensor, Tensor]
"""Clean and adversarial logits ``[B,K]``."""

REFUSED = {
    "soft labels": "its targets are made for a class, and a soft label is of several",
    "forwards in parts": "it reads the inputs of the last layer, which has to see the whole batch",
}


@dataclass(eq=False, kw_only=True)
class RandomizedAT:
    """``(1 - alpha) CE(f(x), y) + beta KL(p || p') + alpha F + alpha / 2 S``, F and S of first and second order.

    Args:
        alpha: weight of the terms of the expansion.
        beta: weight of the divergence of TRADES.
        share: share of a soft label that lies on other classes; default 1 - 2 / K for K classes, the public code's 0.8
            for 10 and 0.98 for 100.
        second_order: first target of second order: ``code``, equal to the second one, or ``intended``, its opposite.
        noise: standard deviation of the noise on the weights of convolutions during the attack.
        noise_on: weights with noise: ``convolutions``, those of all convolutions, or ``named``, the parameters with
            ``conv`` in their names, as in the public code.
        forwards_each: number of forwards each of clean and of adversarial examples: 1, or 4 as in the public code for
            TRADES, one for each term.

    The draw ``randomized_at.noise`` may be injected: the finished noise on all weights with noise, flattened and put
    after one another, in the order of the model.
    """

    refuses = REFUSED

    alpha: PerEpoch[Annotated[float, Interval(ge=0, le=1)]] = 0.2
    beta: PerEpoch[NonNegative] = 6.0
    share: Annotated[float, Interval(ge=0, le=1)] | None = None
    second_order: Literal["code", "intended"] = "code"
    noise: NonNegative = 1e-4
    noise_on: Literal["convolutions", "named"] = "convolutions"
    forwards_each: Literal[1, 4] = 1

    _head: nn.Linear = field(init=False, repr=False)

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._head = last_linear(model)

    @hookimpl(wrapper=True)
    def generate_adv(self, model: nn.Module, ctx: Context) -> Generator[None, Adv, Adv]:
        weights = noisy_weights(model, self.noise_on) if self.noise else []
        if not weights:
            return (yield)
        with shifted(weights, self._noise(weights, ctx)):
            return (yield)

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        y = expect_labels(batch.y)
        with row_sums(self._head) as features:
            logits, adv_logits = model(batch.x), model(adv.x)
        # Each is summed over the batch by itself, in one order, so that equal logits give gaps of exactly zero.
        sums = [gradient_sums(z, y, s).sum(0) for z, s in zip((logits, adv_logits), features, strict=True)]
        targets = [matrix[y] for matrix in self._matrices(*ctx.sum(torch.stack(sums)) / ctx.size(y))]
        pairs = [(logits, adv_logits) if self.forwards_each == 1 else both(model, batch.x, adv.x) for _ in range(3)]
        return Loss(randomized(logits, pairs, y, targets, ctx.value(self.alpha), ctx.value(self.beta)))

    def _matrices(self, clean: Tensor, adv: Tensor) -> list[Tensor]:
        """The four matrices ``[K,K]`` whose rows are soft labels, from the sums ``[K]`` of both gradients."""
        share = 1 - 2 / len(clean) if self.share is None else self.share
        first, second = clean.abs() - adv.abs(), clean.square() - adv.square()
        third = second if self.second_order == "intended" else -second
        return [soft_rows(gap, share) for gap in (first, -first, third, -second)]

    def _noise(self, weights: list[Tensor], ctx: Context) -> list[Tensor]:
        size = sum(weight.numel() for weight in weights)
        noise = ctx.draw("noise", (size,))
        if noise is None:
            like = weights[0]
            generator = ctx.generator("noise", shared=True)
            noise = torch.randn(size, generator=generator, dtype=like.dtype, device=like.device)
            noise = self.noise * noise
        parts = torch.split(noise, [weight.numel() for weight in weights])
        return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def noisy_weights(model: nn.Module, which: str) -> list[Tensor]:
    """The parameters of all convolutions, or those with ``conv`` in their names (``named``), each once."""
    if which == "named":
        return [weight for name, weight in model.named_parameters() if "conv" in name]
    return list({id(w): w for m in model.modules() if isinstance(m, _ConvNd) for w in m.parameters(False)}.values())


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer, whose outputs are the logits.

    Raises:
        PluginError: there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise PluginError(
            f"model {type(model).__name__} has no linear layer; its soft labels are made of the gradients of the "
            "last one, so give it a linear layer as its last"
        )
    return layers[-1]


@contextmanager
def shifted(weights: list[Tensor], by: list[Tensor]) -> Iterator[None]:
    """Add ``by`` to the weights in the block, and bring them back bit for bit."""
    before = [weight.data for weight in weights]
    try:
        for weight, each in zip(weights, by, strict=True):
            weight.data = weight.data + each
        yield
    finally:
        for weight, own in zip(weights, before, strict=True):
            weight.data = own


@contextmanager
def row_sums(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Collect the sums ``[B]`` over the features of every input of ``layer`` in the block."""
    sums: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: sums.append(inputs[0].detach().sum(1)))
    try:
        yield sums
    finally:
        handle.remove()


def gradient_sums(logits: Tensor, y: Tensor, sums: Tensor) -> Tensor:
    """``[B,K]`` sums over the features of each example's gradient of the cross-entropy to the last layer's ``[K,D]``.

    That gradient is ``(p - onehot(y)) h^T``, h the features; ``sums [B]`` are the sums of h.
    """
    p = F.softmax(logits.detach(), 1)
    error = p - (y[:, None] == torch.arange(p.shape[1], device=y.device)).to(p.dtype)
    return error * sums[:, None]


def soft_rows(gap: Tensor, share: float) -> Tensor:
    """``[K,K]`` soft labels, a row for each class: ``1 - share`` on the class itself, ``share`` spread over the others.

    It is spread in proportion to ``gap [K]`` minus its least element, and evenly where all of that is zero.
    """
    off = 1 - torch.eye(len(gap), dtype=gap.dtype, device=gap.device)
    rows = off * (gap - gap.min())
    total = rows.sum(1, keepdim=True)
    rows = torch.where(total > 0, rows / total.clamp_min(torch.finfo(gap.dtype).tiny), off / max(len(gap) - 1, 1))
    return share * rows + (1 - share) * (1 - off)


def both(model: nn.Module, x: Tensor, x_adv: Tensor) -> Logits:
    """The logits of ``x`` and of ``x_adv``, which the public code forwards first."""
    adv_logits = model(x_adv)
    return model(x), adv_logits


def randomized(
    logits: Tensor, pairs: Sequence[Logits], y: Tensor, targets: Sequence[Tensor], alpha: float, beta: float
) -> Tensor:
    """``[B]`` losses.

    Args:
        logits: clean ones ``[B,K]``, of the cross-entropy.
        pairs: the logits of the divergence, and of the terms of first and of second order.
        y: labels ``[B]``.
        targets: the four soft labels ``[B,K]`` of each example.
        alpha: weight of the terms of the expansion.
        beta: weight of the divergence.
    """
    (clean, adv), *of_orders = pairs
    trades = (1 - alpha) * cross_entropy(logits, y) + beta * kl_divergence(adv, F.log_softmax(clean, 1))
    first, second = (
        (from_soft(adv, one) + from_soft(clean, other)) / 2
        for (clean, adv), one, other in zip(of_orders, targets[::2], targets[1::2], strict=True)
    )
    return trades + alpha * first + alpha / 2 * second


def from_soft(logits: Tensor, target: Tensor) -> Tensor:
    """``[B]`` values of KL(target || softmax(logits)) in nats, for ``target [B,K]`` with zeros."""
    return F.kl_div(F.log_softmax(logits, 1), target, reduction="none").sum(1)
