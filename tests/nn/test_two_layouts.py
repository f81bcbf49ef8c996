"""Layers whose gradients are wrong in the channels-last layout are found and named; others are left in peace."""

import pytest
import torch
from torch import Tensor, nn

from buttress import ModelError
from buttress.nn.layout import is_channels_last
from buttress.nn.trial import noise_like
from buttress.nn.two_layouts import compared, expect_same_gradients
from buttress_plugins.models.preact_resnet import preact_tiny

X = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class _Wrong(torch.autograd.Function):
    """Twice its input, with a gradient that is wrong for one layout and some dtypes, as torch's own sometimes are."""

    @staticmethod
    def forward(ctx, x, dtypes):
        ctx.is_wrong = is_channels_last(x) and x.dtype in dtypes
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return (2.1 if ctx.is_wrong else 2.0) * grad, None


class Wrong(nn.Module):
    def __init__(self, *dtypes: torch.dtype) -> None:
        super().__init__()
        self.dtypes = dtypes or (torch.float32, torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return _Wrong.apply(x, self.dtypes)


class Net(nn.Module):
    """Convolutions with another layer between them, in a block."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), layer)
            self.last, self.head = nn.Conv2d(4, 4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.body(x)).mean((2, 3)))


class WrongItself(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_Wrong.apply(x, (torch.float64,)))


class OnlyFloat32(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ torch.eye(6))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.randn_like(x)) ** 2


class Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1).view(x.shape)


class Twice(nn.Module):
    """A layer that is called twice, by a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Wrong()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x=self.inner(x=x))


def test_networks_of_torch_s_own_layers_have_the_same_gradients_in_both_layouts():
    for model in (preact_tiny(num_classes=4, in_channels=3, width=4), Net(nn.AvgPool2d(3, 1, 1)), Net(nn.MaxPool2d(2))):
        comparison = compared(model, X)
        assert comparison.fault == ""
        assert comparison.differences["float64"] < 1e-12
        assert comparison.differences["float32"] < 1e-4


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Net(Wrong()), r"wrong, by 0\.05 of their norm in float64, by layer 'body\.3' \(Wrong\)"),
        (Net(Wrong(torch.float32)), r"wrong, by 0\.05 of their norm in float32, by layer 'body\.3' \(Wrong\)"),
        (Net(Twice()), r"by layer 'body\.3\.inner' \(Wrong\)"),
        (WrongItself(nn.Identity()), "in float64, by an operation in its own forward"),
        (OnlyFloat32(Wrong()), r"in float32, by layer 'body\.3' \(Wrong\)"),
        (Net(Viewed()), r"does not run in channels_last: RuntimeError: view size .*test_two_layouts\.py"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_layer_at_fault_is_named(model: nn.Module, said: str):
    with pytest.raises(ModelError, match=said) as caught:
        expect_same_gradients(model, X)
    assert str(caught.value).startswith(f"model {type(model).__name__}: ")
    assert str(caught.value).endswith("; use memory_format: contiguous")


@pytest.mark.cuda
def test_on_cuda_a_padded_average_pooling_is_right_or_is_named():
    """torch issue 188344: some versions give it a wrong gradient there."""
    assert compared(Net(nn.Identity()).cuda(), X.cuda()).fault == ""
    fault = compared(Net(nn.AvgPool2d(3, 1, 1)).cuda(), X.cuda()).fault
    assert fault == "" or "by layer 'body.3' (AvgPool2d)" in fault


def test_a_model_that_draws_anew_every_time_has_nothing_to_compare():
    assert compared(Net(Noisy()), X).fault == ""


def test_a_model_that_does_not_run_at_all_is_no_matter_of_layouts():
    assert compared(Net(nn.Linear(7, 7)), X) == compared(Net(nn.Flatten()), X)
    assert compared(Net(nn.Flatten()), X).differences == {}


def test_models_are_tried_on_noise_in_the_range_of_the_data():
    """Of equal pixels a pooling takes one, perhaps another one in each layout."""
    noise = noise_like(X.round() * 255)
    assert len(noise.unique()) == noise.numel()
    assert 0 <= noise.min() < 50
    assert 200 < noise.max() <= 255
    assert noise_like(torch.zeros(2, 3)).max() > 0


def test_no_trace_stays():
    model = Net(nn.Sequential(nn.Dropout(), Wrong()))
    model.body[0].requires_grad_(False)
    before = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    drawn = torch.random.get_rng_state()
    assert compared(model, X).fault
    assert torch.equal(torch.random.get_rng_state(), drawn)
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
        assert value.grad is None
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())
    assert [weight.requires_grad for weight in model.parameters()] == [False, False, *[True] * 6]
