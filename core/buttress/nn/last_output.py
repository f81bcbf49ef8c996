"""A model that remembers what it answered, so that one forward serves a loss and a count."""

import torch
from torch import Tensor, nn


class LastOutput(nn.Module):
    """Calls a model, and keeps the output of the last call.

    Args:
        model: model to call.

    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.model(x)
        self._input, self._output = x, output.detach()
        return output

    def last(self) -> Tensor:
        """The output of the last call, detached."""
        assert self._output is not None, "nothing has called the model"
        return self._output

    def at(self, x: Tensor) -> Tensor:
        """The output for ``x``, detached: that of the last call, if it was of ``x`` itself, else of another call."""
        if self._input is not x or self._output is None:
            with torch.no_grad():
                self(x)
        return self.last()
