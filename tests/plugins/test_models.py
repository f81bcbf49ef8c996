"""The pre-activation networks: sizes by formula, shapes, normalisation."""

import numpy as np
import pytest
import torch

from buttress.components.construct import build
from buttress.nn import Normalize, normalized
from buttress_plugins.models.preact_resnet import PreActBlock, preact_resnet18, preact_tiny


def count(in_channels: int, classes: int, widths: list[int], blocks: int, strides: list[int]) -> int:
    """Parameters by formula: stem, blocks of BN-conv-BN-conv (+ 1x1 shortcut), BN, classifier with bias."""
    total, width = 9 * in_channels * widths[0], widths[0]
    for out, first in zip(widths, strides, strict=True):
        for i in range(blocks):
            stride = first if i == 0 else 1
            total += 2 * width + 9 * width * out + 2 * out + 9 * out * out
            total += width * out if stride != 1 or width != out else 0
            width = out
    return total + 2 * width + (width + 1) * classes


def parameters_in(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("width", "channels", "classes"), [(16, 1, 10), (2, 3, 4), (8, 1, 2)])
def test_the_tiny_network_has_as_many_parameters_as_the_formula(width: int, channels: int, classes: int):
    model = preact_tiny(in_channels=channels, num_classes=classes, width=width)
    widths = [width, 2 * width, 4 * width, 4 * width]
    assert parameters_in(model) == count(channels, classes, widths, 1, [2, 1, 2, 1])


def test_the_tiny_network_for_digits_has_the_documented_number_of_parameters():
    assert parameters_in(preact_tiny(in_channels=1, num_classes=10)) == 151_802
    assert "151,802" in (preact_tiny.__doc__ or "")


@pytest.mark.parametrize(("classes", "expected"), [(10, 11_172_170), (100, 11_218_340)])
def test_preact_resnet18_has_as_many_parameters_as_the_formula(classes: int, expected: int):
    formula = count(3, classes, [64, 128, 256, 512], 2, [1, 2, 2, 2])
    assert formula == expected
    assert parameters_in(preact_resnet18(in_channels=3, num_classes=classes)) == formula


@pytest.mark.parametrize(
    ("factory", "channels", "size", "stages"),
    [(preact_tiny, 1, 8, [4, 4, 2, 2]), (preact_tiny, 3, 9, [5, 5, 3, 3]), (preact_resnet18, 3, 32, [32, 16, 8, 4])],
)
def test_shapes_go_down_as_the_strides_say(factory, channels: int, size: int, stages: list[int]):
    model = factory(in_channels=channels, num_classes=7, width=4).eval()
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _, __, out: shapes.append(out.shape[-1]))
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert shapes == stages


def test_the_shortcut_branches_off_after_the_first_batch_norm_and_relu():
    torch.random.manual_seed(0)
    block = PreActBlock(3, 5, 2).double().eval()
    block.bn1.running_mean += 0.3
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    f = torch.nn.functional
    pre = ((x - 0.3) / np.sqrt(1 + 1e-5)).clamp_min(0)
    inner = (f.conv2d(pre, block.conv1.weight, stride=2, padding=1) / np.sqrt(1 + 1e-5)).clamp_min(0)
    expected = f.conv2d(inner, block.conv2.weight, padding=1) + f.conv2d(pre, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected)


def test_a_block_of_one_shape_adds_its_input_itself():
    block = PreActBlock(3, 3, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 3, 4, 4)
    assert block.shortcut is None
    assert torch.equal(block(x), x)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    x = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)
    mean, std = [0.1, 0.5, -1.0], [0.5, 2.0, 4.0]
    expected = (x - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(Normalize(mean, std)(torch.from_numpy(x)).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [(), (torch.float16,), (torch.bfloat16, torch.float32)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_normalize_rounds_its_values_to_the_dtype_that_it_has_now(dtype: torch.dtype, way: tuple[torch.dtype, ...]):
    mean, std = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
    model = torch.nn.Sequential(Normalize(mean, std))
    for stop in (*way, dtype):
        model.to(stop)
    x = torch.rand(2, 3, 4, 4, dtype=dtype)
    expected = (x.double().numpy() - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    bound = 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=bound, atol=bound)
    assert model(x).dtype == dtype


def test_normalize_keeps_what_a_user_wrote_into_it_when_it_changes_the_device_alone():
    model = Normalize([0.5], [0.25])
    model.mean.fill_(1.0)
    assert model.to("cpu").share_memory().mean.is_shared()
    assert float(model.mean) == 1.0
    assert model.to("meta").mean.device.type == "meta"


def test_normalisation_is_the_first_layer_and_no_part_of_the_state():
    torch.random.manual_seed(1)
    plain = preact_tiny(in_channels=2, num_classes=3, width=2).eval()
    scaled = preact_tiny(in_channels=2, num_classes=3, width=2).eval()
    normalized(scaled, [0.25, 0.5], [0.5, 2.0], (2, 8, 8))
    assert set(plain.state_dict()) == set(scaled.state_dict())
    scaled.load_state_dict(plain.state_dict())
    x = torch.rand(4, 2, 8, 8)
    by_hand = torch.stack([(x[:, 0] - 0.25) / 0.5, (x[:, 1] - 0.5) / 2.0], 1)
    torch.testing.assert_close(scaled(x), plain(by_hand))
    assert {buffer.dtype for buffer in scaled.double().normalize.buffers()} == {torch.float64}


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 4)], ids=str)
def test_normalisation_is_that_of_channels_whatever_comes_after_them(shape: tuple[int, ...]):
    x, mean, std = torch.rand(2, *shape), [0.1, 0.5, -1.0], [0.5, 2.0, 4.0]
    actual = normalized(torch.nn.Identity(), mean, std, shape)(x)
    for channel in range(3):
        torch.testing.assert_close(actual[:, channel], (x[:, channel] - mean[channel]) / std[channel])


@pytest.mark.parametrize("settings", [{"width": 0}, {"width": 1.5}, {"num_classes": 0}], ids=str)
def test_sizes_below_one_are_refused(settings: dict):
    with pytest.raises(Exception, match=next(iter(settings))):
        build("model", "preact_tiny", settings, given={"in_channels": 3, "num_classes": 2})
