"""A model that keeps its last output."""

import torch

from buttress.nn import LastOutput

from ..models import MLP


def test_the_last_output_is_kept_detached_and_the_answer_has_its_graph():
    model = MLP()
    seen = LastOutput(model)
    x = torch.rand((2, 1, 4, 4), requires_grad=True)
    for inputs in (x, 1 - x):
        output = seen(inputs)
        assert output.requires_grad
        assert not seen.last().requires_grad
        assert torch.equal(seen.last(), model(inputs))
