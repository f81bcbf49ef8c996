"""The tensors that a hook is given to read, and whether it has written into one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from buttress.types import Adv, Batch


class Given:
    """The tensors among the arguments of a hook, as they are before the call.

    torch counts the writes into a tensor, and into its views, in one number, so a look costs no time and never waits
    for the device. It does not count what goes through ``.data`` or through a view of NumPy: copies show that.

    Args:
        arguments: of the hook, by name.
        copied: whether the values of inputs, labels and positions are compared as well.
    """

    def __init__(self, arguments: Mapping[str, Any], copied: bool) -> None:
        self._tensors = list(_tensors(arguments))
        self._versions = [_version(tensor) for _, tensor in self._tensors]
        self._copies = [
            (name, tensor, tensor.detach().clone()) for name, tensor in self._tensors if copied and "[" not in name
        ]

    def written(self) -> str:
        """The name of the first tensor that was written into, or nothing."""
        for (name, tensor), version in zip(self._tensors, self._versions, strict=True):
            if _version(tensor) != version:
                return name
        return next((name for name, tensor, copy in self._copies if not torch.equal(tensor, copy)), "")

    def put_back(self) -> None:
        """Give the tensors the values that they had, where there are copies."""
        for _, tensor, copy in self._copies:
            if tensor.shape != copy.shape or tensor.dtype != copy.dtype:
                tensor.data = copy
            elif not torch.equal(tensor, copy):
                with torch.inference_mode(tensor.is_inference()):
                    tensor.data.copy_(copy)  # uncounted: a hook around this one has not written


def _tensors(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    batch, adv = arguments.get("batch"), arguments.get("adv")
    if isinstance(batch, Batch):
        yield "batch.x", batch.x
        yield "batch.y", batch.y
        if batch.index is not None:
            yield "batch.index", batch.index
    if isinstance(adv, Adv):
        yield "adv.x", adv.x
        for name, value in adv.aux.items():
            yield f"adv.aux[{name!r}]", value


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # those of inference mode count nothing
