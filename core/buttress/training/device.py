"""The device of a run and the memory format of its images, as the config names them."""

from __future__ import annotations

import torch

from buttress.config.file import ConfigFile
from buttress.errors import ConfigError


def configured_device(file: ConfigFile) -> torch.device:
    """The device of a config; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    name = file.config.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"expected auto, cpu, cuda or cuda:N, got {name!r}", key=file.place / "device") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"expected auto, cpu, cuda or cuda:N, got {name!r}", key=file.place / "device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{name} asked for, but torch sees {torch.cuda.device_count()} CUDA devices; use device: cpu or auto",
            key=file.place / "device",
        )
    return device


def memory_format_of(file: ConfigFile) -> torch.memory_format:
    """The memory format of a config's images and model."""
    return torch.channels_last if file.config.model.memory_format == "channels_last" else torch.contiguous_format
