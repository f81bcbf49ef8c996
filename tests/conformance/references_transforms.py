"""Transforms of batches again, literally: plain torch, pixel by pixel, nothing of buttress."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import ALPHA, EPS, STEPS, Reference, Step, plain


def of_two_labels(ref: Reference, x: Tensor, y: Tensor, other: Tensor, lam: float, start: Tensor) -> None:
    """A step on mixed images as the mixup paper's code writes it: lam CE(., y) + (1 - lam) CE(., other), twice."""

    def both(z: Tensor) -> Tensor:
        a, b = (F.cross_entropy(z, labels, reduction="none") for labels in (y, other))
        return lam * a + (1 - lam) * b

    ref.model.eval()
    adv = x + start
    for _ in range(STEPS):
        adv = adv.detach().requires_grad_()
        (g,) = torch.autograd.grad(both(ref.model(adv)).sum(), adv)
        adv = (adv + ALPHA * g.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    ref.model.train()
    ref.sgd(ref.grads(both(ref.model(adv.detach())).mean()))


def mixup(lam: float, permutation: Tensor) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        of_two_labels(ref, lam * x + (1 - lam) * x[permutation], y, y[permutation], lam, start)

    return step


def cutmix(lam: float, permutation: Tensor, centre: tuple[int, int]) -> Step:
    """The window of the public code, pixel by pixel, and its true area."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        height, width = x.shape[2:]
        made, kept = x.clone(), 0
        half = [int(side * (1 - lam) ** 0.5) // 2 for side in (height, width)]
        for row in range(height):
            for column in range(width):
                if -half[0] <= row - centre[0] < half[0] and -half[1] <= column - centre[1] < half[1]:
                    made[:, :, row, column] = x[permutation, :, row, column]
                else:
                    kept += 1
        of_two_labels(ref, made, y, y[permutation], kept / (height * width), start)

    return step


def cutout(size: int, corners: Tensor, then: Step | None = None) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        cut = x.clone()
        for image, (top, left) in zip(cut, corners.tolist(), strict=True):
            image[:, top : top + size, left : left + size] = 0
        (then or plain())(ref, cut, y, start)

    return step


def augment(pad: int, padding: str, offsets: Tensor, mirrored: Tensor) -> Step:
    """Pixel by pixel: (r, c) of a crop comes from (r, c) + offset - pad of the image, mirrored or zero outside."""

    def source(index: int, side: int) -> int | None:
        if 0 <= index < side:
            return index
        return None if padding == "zeros" else abs(index) if index < 0 else 2 * (side - 1) - index

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        height, width = x.shape[2:]
        made = torch.zeros_like(x)
        for i, (down, right) in enumerate(offsets.tolist()):
            for r in range(height):
                for c in range(width):
                    row, column = source(r + down - pad, height), source(c + right - pad, width)
                    if row is not None and column is not None:
                        made[i, :, r, width - 1 - c if mirrored[i] else c] = x[i, :, row, column]
        plain()(ref, made, y, start)

    return step
