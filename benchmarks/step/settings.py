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
}

EAGER = [name for name, setting in SETTINGS.items() if "compile" not in setting.options]
"""The settings that do not compile, which takes a minute or more."""
