"""Average losses under the loss-stationary condition.

Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", arXiv:2205.14826, eq. 9.
"""

from torch import Tensor

from buttress.kernels.backend import operation


def lsc_mean(losses: Tensor, c_min: float, *, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """Sum the losses under the loss-stationary condition, and divide by the size of the whole batch.

    Args:
        losses: any losses ``[B]``, in nats; an empty batch has the mean 0.
        c_min: largest loss that is kept; NaN is never kept.
        inclusive: whether a loss equal to ``c_min`` is kept.

    Returns:
        The 0-dim mean, with gradient ``1 / B`` where a loss is kept and 0 elsewhere, and the 0-dim int64 number of kept
        losses. Both are on the device, and the host does not wait for them. The gradient does not need the number.
        Half types are compared and summed in float32.

    Raises:
        ValueError: losses of another kind; ``c_min`` is NaN.
        RuntimeError: a second derivative of the compiled operator; pure torch has one.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9.
    """
    mean, kept = operation("lsc_mean", (losses,))(losses, c_min, inclusive)
    return mean, kept


def lsc_cross_entropy(
    logits: Tensor, targets: Tensor, c_min: float, *, inclusive: bool = True
) -> tuple[Tensor, Tensor]:
    """Take ``lsc_mean`` of the cross-entropies of ``logits``, in one operation.

    Args:
        logits: ``[B,K]``, K >= 1. Half types are computed in float32, the condition included; the mean and the gradient
            are rounded once.
        targets: ``[B]`` int64 classes from 0 to K-1; no value is ignored.
        c_min: largest cross-entropy, in nats, of an example that is kept.
        inclusive: whether an example with a cross-entropy equal to ``c_min`` is kept.

    Returns:
        The 0-dim mean over B in the dtype of ``logits``, with gradient ``(softmax - onehot) / B`` where an example is
        kept, and the 0-dim int64 number of kept examples. Both are on the device, and the host does not wait for them.
        An example whose loss is NaN is not kept. One that is not kept has a gradient of 0, even where its logits are
        infinite or NaN.

    Raises:
        ValueError: logits or targets of another kind; ``c_min`` is NaN; on the CPU, a target that is no class. On CUDA,
            where the host does not wait, such a target makes the mean NaN (in pure torch: a device-side assertion).
        RuntimeError: a second derivative of the compiled operator; pure torch has one.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9. Cost: reads the logits once for the
    loss and once for the gradient, and keeps two numbers for each example in between.
    """
    compute = operation("lsc_cross_entropy", (logits,))
    mean, kept, *_ = compute(logits, targets, c_min, inclusive)  # the compiled one also gives what its backward needs
    return mean, kept
