"""What error messages and checks say of tensors and of where they lie."""

from torch import Tensor


def span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of a tensor and of the one after its last."""
    if tensor.numel() == 0 or tensor.is_meta:
        return 0, 0
    if tensor.is_contiguous():
        start = tensor.data_ptr()
        return start, start + tensor.nbytes
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def facts(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"
