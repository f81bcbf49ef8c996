"""The work in training steps, counted operator by operator: floating-point operations, and bytes of memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class OperatorCount(TorchDispatchMode):
    """Counts the work of operators in the block.

    Floating-point operations are those of matrix products, convolutions and attention, as ``torch.utils.flop_counter``
    knows them. Its own ``FlopCounterMode`` hooks into modules, where ``torch.autograd.grad`` does not bear it.

    Bytes are those that operators read and write, as if nothing stayed in a cache. Views move nothing, and neither does
    memory that is only allocated.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=answer)
        if not func.is_view and not str(func).startswith("aten.empty"):
            self.bytes += sum(map(_size, tree_leaves((args, kwargs, answer))))
        return answer


def _size(value: object) -> int:
    """Bytes of a tensor; of one that was expanded, those of its memory."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return 0
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())
