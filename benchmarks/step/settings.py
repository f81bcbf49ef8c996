"""The settings of the engine that are measured: the format of memory, the precision, and compilation."""

from typing import Any, NamedTuple

import torch


class Setting(NamedTuple):
    """Options of ``Engine``, and the format of the model and of its inputs."""

    options: dict[str, Any]
    layout: torch.memory_format = torch.channels_last


SETTINGS = {
    "float32": Setting({}, torch.contiguous_format),
    "channels_last": Setting({}),
    "bf16": Setting({"precision": "bf16"}),
    "bf16-attack": Setting({"precision": {"attack": "bf16", "train": "float32"}}),
    "compile": Setting({"compile": "model"}),
    "bf16-compile": Setting({"precision": "bf16", "compile": "model"}),
    "tf32": Setting({"precision": "tf32"}),
    "graphs": Setting({"compile": "graphs"}),
    "bf16-graphs": Setting({"precision": "bf16", "compile": "graphs"}),
}

ON_CUDA = ("tf32", "graphs", "bf16-graphs")
"""The settings that CUDA devices alone have."""
EAGER = [name for name, setting in SETTINGS.items() if "compile" not in setting.options and name not in ON_CUDA]
"""The settings of every device that do not compile, which takes a minute or more."""


def settings_of(device: torch.device) -> list[str]:
    """The settings that a device has."""
    return [name for name in SETTINGS if device.type == "cuda" or name not in ON_CUDA]
