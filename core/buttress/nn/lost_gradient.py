"""Find out, after a hook has failed, whether the forward of the model lets no gradient through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from buttress.errors import HookError, ModelError, NoGradientError
from buttress.nn.modes import Modes

_NO_GRADIENT = ("does not require grad", "not have been used in the graph")
"""Words of torch's errors about a missing gradient to inputs or weights."""
# Number of examples on which the forward is tried.
_TRIED = 2


def expect_gradient_through(who: str, model: nn.Module, x: Tensor, fault: HookError) -> None:
    """Raise the right error where ``fault``, of a hook given ``x [B,*]``, comes from the forward of ``model``.

    Raises:
        ModelError: the forward cuts the gradient that the hook lacked. The message begins with ``who``.
    """
    is_loss = isinstance(fault, NoGradientError)
    if not is_loss and not any(words in str(fault) for words in _NO_GRADIENT):
        return
    lost = _lost(model, x[:_TRIED])
    if "weights" in lost or (lost and not is_loss):
        raise ModelError(
            f"{who}: model {type(model).__name__}: no gradient goes from its logits to its {' and '.join(lost)}; leave "
            "detach(), torch.no_grad() and numpy out of its forward"
        ) from fault


def _lost(model: nn.Module, x: Tensor) -> list[str]:
    """Those of ``inputs`` and ``weights`` to which the logits for ``x`` have no gradient."""
    modes, x = Modes(model), x.detach().clone().requires_grad_(True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with modes.evaluating(), modes.buffers_as_found(), torch.random.fork_rng([x.device] if x.is_cuda else []):
        with torch.enable_grad():
            total = model(x).sum()
        if not total.requires_grad:
            return ["inputs", "weights"]
        of_x, *of_weights = torch.autograd.grad(total, [x, *weights], allow_unused=True)
    lost: list[str] = [] if of_x is not None else ["inputs"]
    return lost + ([] if not weights or any(grad is not None for grad in of_weights) else ["weights"])
