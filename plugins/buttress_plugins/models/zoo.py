"""Architectures of torchvision.models and timm, with fresh weights under that library's names.

``vit_b``, ``deit_s`` and ``convit_b`` are timm's, cut into the small patches that adversarial training takes for 32x32
images. Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929; Touvron et al., "Training
Data-Efficient Image Transformers", arXiv:2012.12877; d'Ascoli et al., "ConViT", arXiv:2103.10697; patches of 4 pixels
as in Mo et al., "When Adversarial Training Meets Vision Transformers", arXiv:2210.07540.
"""

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
        from timm.layers.patch_embed import PatchEmbed
    except ImportError:
        raise ModelError("timm is not installed; pip install timm, or pip install 'buttress[timm]'") from None
    if arch not in timm.list_models():
        raise ModelError(f"timm: unknown arch {arch!r}{nearest(arch, timm.list_models())}")
    reading = next((name for name in _READ_BY_TIMM if name in options), None)
    if reading is not None:
        raise ModelError(f"timm: option {reading!r} is not taken; weights to start from are named by model.weights")
    network = _built(
        lambda: timm.create_model(arch, num_classes=num_classes, in_chans=in_channels, **options),
        arch,
    )
    if options.keys() & {"img_size", "patch_size"}:  # a published size may be one that its patches do not divide
        for module in network.modules():
            if isinstance(module, PatchEmbed) and module.strict_img_size:
                for image_size, patch_size in zip(module.img_size, module.patch_size, strict=True):
                    _expect_whole_patches(arch, image_size, patch_size)
    return network


def vit_b(
    *,
    in_channels: Count,
    num_classes: Count,
    image_size: Count = 32,
    patch_size: Count = 4,
    options: dict[str, Any] = {},  # noqa: B006  (read, never written)
) -> nn.Module:
    """ViT-B for 32x32 images and patches of 4x4: timm's ``vit_base_patch16_224``; 85.15 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        image_size: height and width of an image, in pixels.
        patch_size: height and width of a patch, in pixels; a divisor of the image's.
        options: further arguments of ``timm.create_model`` (``drop_path_rate: 0.1``).
    """
    return _transformer("vit_b", "vit_base_patch16_224", in_channels, num_classes, image_size, patch_size, options)


def deit_s(
    *,
    in_channels: Count,
    num_classes: Count,
    image_size: Count = 32,
    patch_size: Count = 4,
    options: dict[str, Any] = {},  # noqa: B006  (read, never written)
) -> nn.Module:
    """DeiT-S for 32x32 images and patches of 4x4: timm's ``deit_small_patch16_224``; 21.34 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        image_size: height and width of an image, in pixels.
        patch_size: height and width of a patch, in pixels; a divisor of the image's.
        options: further arguments of ``timm.create_model`` (``drop_path_rate: 0.1``).
    """
    return _transformer("deit_s", "deit_small_patch16_224", in_channels, num_classes, image_size, patch_size, options)


def convit_b(
    *,
    in_channels: Count,
    num_classes: Count,
    image_size: Count = 32,
    patch_size: Count = 4,
    options: dict[str, Any] = {},  # noqa: B006  (read, never written)
) -> nn.Module:
    """ConViT-B for 32x32 images and patches of 4x4: timm's ``convit_base``; 85.12 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        image_size: height and width of an image, in pixels.
        patch_size: height and width of a patch, in pixels; a divisor of the image's.
        options: further arguments of ``timm.create_model`` (``drop_path_rate: 0.1``).
    """
    return _transformer("convit_b", "convit_base", in_channels, num_classes, image_size, patch_size, options)


def _transformer(
    name: str,
    arch: str,
    in_channels: int,
    num_classes: int,
    image_size: int,
    patch_size: int,
    options: dict[str, Any],
) -> nn.Module:
    _expect_whole_patches(name, image_size, patch_size)
    sizes = {"img_size": image_size, "patch_size": patch_size}
    taken = next((key for key in sizes if key in options), None)
    if taken is not None:
        raise ModelError(f"{name}: option {taken!r} is set by image_size and patch_size; leave it out of options")
    return timm_model(arch=arch, num_classes=num_classes, in_channels=in_channels, options={**options, **sizes})


def _expect_whole_patches(name: str, image_size: int, patch_size: int) -> None:
    if image_size % patch_size:  # timm leaves out the pixels beyond the last whole patch
        raise ModelError(
            f"{name}: patch_size: expected a divisor of the image size, {image_size}, got {patch_size}; the divisors "
            f"are {', '.join(str(size) for size in range(1, image_size + 1) if image_size % size == 0)}"
        )


def _built(make: Callable[[], nn.Module], arch: str) -> nn.Module:
    try:
        return make()
    except Exception as problem:  # every architecture refuses by an error of its own choice
        raise ModelError(f"{arch} refused its options: {describe(problem)}") from problem
