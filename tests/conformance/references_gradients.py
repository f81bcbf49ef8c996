"""Methods that edit the gradient, again from their equations: see ``references.py``."""

from torch import Tensor

from .references import Reference, Step, at, norm


def clipped(to_norm: float | None = None, to_value: float | None = None) -> Step:
    """g <- clamp(g, -v, v) element by element, then g <- g min(1, c / (||g|| + 1e-6)), the norm that of all."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        grads = ref.grads(at(ref, x, ref.attack(x, y, start), y).mean())
        if to_value is not None:
            grads = {name: g.clamp(-to_value, to_value) for name, g in grads.items()}
        if to_norm is not None:
            factor = min(1.0, to_norm / (float(norm(grads)) + 1e-6))
            grads = {name: factor * g for name, g in grads.items()}
        ref.sgd(grads)

    return step
