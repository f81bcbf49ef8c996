"""The device of a run, and memory format and dtype of its images, as the config names them."""

from __future__ import annotations

import torch

from buttress.config.file import ConfigFile
from buttress.data import Split
from buttress.data.double import DoubleSplit
from buttress.engine.joining import Launch
from buttress.errors import ConfigError


def configured_device(file: ConfigFile) -> torch.device:
    """The device of a config; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    name, launch = file.config.device, Launch.of()
    if name == "auto" and launch.size > 1 and torch.cuda.is_available():
        if torch.cuda.device_count() == 1 and launch.by_srun:
            return torch.device("cuda", 0)  # srun may show each process its own GPU alone
        if launch.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"auto takes a GPU for each process, and process {launch.local_rank + 1} on this machine finds "
                f"{torch.cuda.device_count()}; start fewer processes, or set device: cpu",
                key=file.place / "device",
            )
        return torch.device("cuda", launch.local_rank)
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


def dtype_of(file: ConfigFile) -> torch.dtype | None:
    """The dtype of a config's images and model; None leaves both as they are."""
    return torch.float64 if file.config.precision == "float64" else None


def placed(split: Split, file: ConfigFile) -> Split:
    """The examples of ``split`` on the device of a config, with batches in its memory format and dtype."""
    moved = split.to(configured_device(file), memory_format_of(file))
    return moved if dtype_of(file) is None else DoubleSplit(moved)
