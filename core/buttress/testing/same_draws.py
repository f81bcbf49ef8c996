"""One stream of random numbers for every number format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SameDraws(TorchFunctionMode):
    """Draws in float64 and rounds: a generator gives other numbers in every dtype, and here they are to be the same."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand, torch.randn):
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            return func(*args, **{**kwargs, "dtype": torch.float64}).to(dtype)
        if func in (torch.rand_like, torch.randn_like):
            return func(args[0], **{**kwargs, "dtype": torch.float64}).to(kwargs.get("dtype") or args[0].dtype)
        if func in (torch.Tensor.uniform_, torch.Tensor.normal_):
            wide = torch.empty(args[0].shape, dtype=torch.float64, device=args[0].device)
            return args[0].copy_(func(wide, *args[1:], **kwargs))
        return func(*args, **kwargs)
