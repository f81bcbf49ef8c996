"""A model that remembers what it answered, so that one forward serves a loss and a count."""

from torch import Tensor, nn


class LastOutput(nn.Module):
    """Calls a model, and keeps the output of the last call.

    Args:
        model: model to call.

    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._output: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.model(x)
        self._output = output.detach()
        return output

    def last(self) -> Tensor:
        """The output of the last call, detached."""
        assert self._output is not None, "nothing has called the model"
        return self._output
