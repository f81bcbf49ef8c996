"""Average losses under the loss-stationary condition.

Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", arXiv:2205.14826, eq. 9.
"""

from torch import Tensor

from buttress.kernels.backend import operation


def lsc_mean(losses: Tensor, c_min: float, *, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """Sum the losses under the loss-stationary condition, and divide by the size of the whole batch.

    Args:
        losses: losses ``[B]`` in nats. The mean of an empty batch is 0.
        c_min: largest loss that is kept. A loss of NaN is never kept.
        inclusive: whether a loss equal to ``c_min`` is kept.

    Returns:
        The 0-dim mean and the 0-dim int64 number of kept losses. The gradient of the mean is ``1 / B`` for a kept loss
        and 0 for any other. Both results are on the device, and the host does not wait for them. Half types are
        compared and summed in float32.

    Raises:
        ValueError: ``losses`` has another shape or is not floating-point, or ``c_min`` is NaN.
        RuntimeError: the gradient is differentiated again; only the backend ``torch`` can do that.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9.
    """
    result: tuple[Tensor, Tensor] = operation("lsc_mean", (losses,))(losses, c_min, inclusive)
    return result


def lsc_cross_entropy(
    logits: Tensor, targets: Tensor, c_min: float, *, inclusive: bool = True
) -> tuple[Tensor, Tensor]:
    """Take ``lsc_mean`` of the cross-entropies of ``logits``, in one operation.

    Args:
        logits: ``[B,K]``, K >= 1. Half types are computed in float32, the condition included; the mean and the gradient
            are rounded once.
        targets: ``[B]`` int64 classes from 0 to K-1; no value is ignored.
        c_min: largest cross-entropy, in nats, of a kept example.
        inclusive: whether an example with a cross-entropy equal to ``c_min`` is kept.

    Returns:
        The 0-dim mean over B in the dtype of ``logits``, and the 0-dim int64 number of kept examples. The gradient of
        the mean is ``(softmax - onehot) / B`` for a kept example and 0 for any other, even if its logits are infinite
        or NaN. An example whose loss is NaN is not kept. Both results are on the device, and the host does not wait for
        them.

    Raises:
        ValueError: ``logits`` or ``targets`` has another shape, dtype or device, or ``c_min`` is NaN, or a target on
            the CPU is no class. On CUDA the host does not wait, so such a target makes the mean NaN (with the backend
            ``torch`` it fails a device-side assertion).
        RuntimeError: the gradient is differentiated again; only the backend ``torch`` can do that.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9. Cost: on the CPU, where the logits
    need a gradient, the forward makes it in its one pass over them and keeps it, in float32 for half types. On CUDA the
    backward reads the logits a second time, and two numbers for each example are kept in between.
    """
    result: tuple[Tensor, Tensor] = operation("lsc_cross_entropy", (logits,))(logits, targets, c_min, inclusive)
    return result
