"""Any architecture of torchvision.models or timm, by its name there, with fresh weights under that library's names."""

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge
from torch import nn

from buttress import ModelError, describe, nearest

Count = Annotated[int, Ge(1)]

# Options of timm that read a file or an address of the config's choice, some by ways that execute what is in it.
_READ_BY_TIMM = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def torchvision_model(
    *,
    arch: str,
    num_classes: Count,
    options: dict[str, Any] = {},  # noqa: B006  (read, never written)
) -> nn.Module:
    """An architecture of torchvision.models, for inputs of three channels.

    Args:
        arch: name of the architecture: ``resnet18``, ``vgg16_bn``.
        num_classes: number of classes.
        options: further arguments of its constructor.
    """
    from torchvision import models

    if arch not in models.list_models(models):
        raise ModelError(f"torchvision: unknown arch {arch!r}{nearest(arch, models.list_models(models))}")
    return _built(lambda: models.get_model(arch, num_classes=num_classes, **options), arch)


def timm_model(
    *,
    arch: str,
    num_classes: Count,
    in_channels: Count,
    options: dict[str, Any] = {},  # noqa: B006  (read, never written)
) -> nn.Module:
    """An architecture of timm.

    Args:
        arch: name of the architecture: ``vit_tiny_patch16_224``.
        num_classes: number of classes.
        in_channels: channels of the input.
        options: further arguments of ``timm.create_model`` (``img_size: 32``).
    """
    try:
        import timm
    except ImportError:
        raise ModelError("timm is not installed; pip install timm, or pip install 'buttress[timm]'") from None
    if arch not in timm.list_models():
        raise ModelError(f"timm: unknown arch {arch!r}{nearest(arch, timm.list_models())}")
    reading = next((name for name in _READ_BY_TIMM if name in options), None)
    if reading is not None:
        raise ModelError(f"timm: option {reading!r} is not taken; weights to start from are named by model.weights")
    return _built(
        lambda: timm.create_model(arch, num_classes=num_classes, in_chans=in_channels, **options),
        arch,
    )


def _built(make: Callable[[], nn.Module], arch: str) -> nn.Module:
    try:
        return make()
    except Exception as problem:  # every architecture refuses by an error of its own choice
        raise ModelError(f"{arch} refused its options: {describe(problem)}") from problem
