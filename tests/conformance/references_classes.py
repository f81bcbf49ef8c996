"""Methods that look at the classes apart, again from their equations: see ``references.py``."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import ALPHA, EPS, STEPS, End, Reference, Step

LAMBDA, BETA, CLASSES = 0.5, 6.0, 4


def cfa(mode: Literal["trades", "at", "fat"], start: Tensor, tau: int = 1, public: bool = False) -> Step:
    """eps_k = (lambda + r_k) eps and b_k = (lambda + r_k) beta / (1 + (lambda + r_k) beta) from the second epoch on.

    An epoch has two steps. r_k is counted example by example, at the logits of the loss. ``public``: the correct ones
    over the mean class size, and a clean forward for each term.
    """

    def attack(ref: Reference, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        ref.model.eval()
        p = F.softmax(ref.model(x), 1).detach()
        adv, patience = x + start, [tau] * len(y)
        for _ in range(STEPS):
            adv = adv.detach().requires_grad_()
            z = ref.model(adv)
            kl = (p * (p.log() - F.log_softmax(z, 1))).sum()
            (g,) = torch.autograd.grad(kl if mode == "trades" else F.cross_entropy(z, y, reduction="sum"), adv)
            moved = adv.detach().clone()
            for i in range(len(y)):
                if mode == "fat" and patience[i] == 0:
                    continue
                if mode == "fat" and z[i].argmax() != y[i]:
                    patience[i] -= 1
                step = moved[i] + ALPHA * g[i].sign()
                moved[i] = step.clamp(x[i] - eps[i], x[i] + eps[i]).clamp(0, 1)
            adv = moved
        ref.model.train()
        return adv.detach()

    def step(ref: Reference, x: Tensor, y: Tensor, given: Tensor) -> None:
        own = ref.memory
        if not own:
            own.update(step=0, accuracy=[1 - LAMBDA] * CLASSES, right=[0] * CLASSES, seen=[0] * CLASSES)
        factor = torch.tensor([LAMBDA + own["accuracy"][k] for k in y.tolist()], dtype=torch.float64)
        adv = attack(ref, x, y, factor * EPS)
        if mode == "trades":
            b = factor * BETA / (1 + factor * BETA)
            z, z_adv = ref.model(x), ref.model(adv)
            p, q = F.softmax(ref.model(x) if public else z, 1), F.softmax(z_adv, 1)
            losses = (1 - b) * F.cross_entropy(z, y, reduction="none") + b * (p * (p.log() - q.log())).sum(1)
        else:
            z_adv = ref.model(adv)
            losses = F.cross_entropy(z_adv, y, reduction="none")
        ref.sgd(ref.grads(losses.mean()))
        for logits, label in zip(z_adv, y.tolist(), strict=True):
            own["seen"][label] += 1
            own["right"][label] += int(logits.argmax() == label)
        own["step"] += 1
        if own["step"] % 2 == 0:  # the end of an epoch; a class that was not seen has 0, or what it had
            known = own["accuracy"] if own["step"] > 2 else [0.0] * CLASSES
            counts = zip(own["right"], own["seen"], known, strict=True)
            own["accuracy"] = [right / seen if seen else before for right, seen, before in counts]
            if public:
                own["accuracy"] = [CLASSES * right / sum(own["seen"]) for right in own["right"]]
            own.update(right=[0] * CLASSES, seen=[0] * CLASSES)

    return step


_DRAWS = torch.Generator().manual_seed(2)
VALIDATION = [
    (torch.rand((8, 1, 4, 4), generator=_DRAWS, dtype=torch.float64), torch.randint(4, (8,), generator=_DRAWS))
    for _ in range(2)
]
"""The validation split of the literal forms, in batches."""


def fawa(decay: float, threshold: float) -> End:
    """average <- decay average + (1 - decay) theta where no class is below the threshold under PGD from x itself."""

    def end(ref: Reference, epoch: int) -> None:
        right: dict[int, list[bool]] = {}
        for x, y in VALIDATION:
            adv = ref.attack(x, y, torch.zeros_like(x))
            ref.model.eval()
            for logits, label in zip(ref.model(adv), y.tolist(), strict=True):
                right.setdefault(label, []).append(int(logits.argmax()) == label)
            ref.model.train()
        average = ref.tracks.setdefault("fawa", {})
        if min(sum(each) / len(each) for each in right.values()) >= threshold:
            for name, weight in ref.weights.items():
                theta = weight.detach().clone()
                average[name] = decay * average[name] + (1 - decay) * theta if name in average else theta

    return end
