"""Notice that a hook has written into a tensor that it was given to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from buttress.types import Adv, Batch


class Given:
    """A record of the tensors among the arguments of a hook, made before the call.

    torch counts the writes into a tensor and its views, so a look costs no time and never waits for the device. It does
    not count writes through ``.data`` or through a view of NumPy. Copies of the values show those.

    Args:
        arguments: arguments of the hook, by name.
        copied: whether the values of inputs, labels and positions are compared as well.
    """

    def __init__(self, arguments: Mapping[str, Any], copied: bool) -> None:
        self._tensors = list(_tensors(arguments))
        self._versions = [_version(tensor) for _, tensor in self._tensors]
        self._copies = [
            (name, tensor, tensor.detach().clone()) for name, tensor in self._tensors if copied and "[" not in name
        ]

    def written(self) -> str:
        """The name of the first tensor that was written into, or an empty text."""
        for (name, tensor), version in zip(self._tensors, self._versions, strict=True):
            if _version(tensor) != version:
                return name
        return next((name for name, tensor, copy in self._copies if not torch.equal(tensor, copy)), "")

    def put_back(self) -> None:
        """Restore the values of the tensors of which there are copies."""
        for _, tensor, copy in self._copies:
            if tensor.shape != copy.shape or tensor.dtype != copy.dtype:
                tensor.data = copy
            elif not torch.equal(tensor, copy):
                with torch.inference_mode(tensor.is_inference()):
                    tensor.data.copy_(copy)  # not counted, because a hook around this one has not written


def _tensors(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    batch, adv = arguments.get("batch"), arguments.get("adv")
    if isinstance(batch, Batch):
        yield "batch.x", batch.x
        yield "batch.y", batch.y
        if batch.index is not None:
            yield "batch.index", batch.index
        for name, value in batch.aux.items():
            yield f"batch.aux[{name!r}]", value
    if isinstance(adv, Adv):
        yield "adv.x", adv.x
        for name, value in adv.aux.items():
            yield f"adv.aux[{name!r}]", value


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # a tensor of inference mode counts no writes
