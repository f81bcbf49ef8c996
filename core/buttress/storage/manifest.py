"""The manifest of a run: what its numbers depend on besides its config."""

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from buttress import __version__
from buttress.kernels import status
from buttress.registry import LoadedPlugin
from buttress.storage.git import git_state


def manifest(
    plugins: Sequence[LoadedPlugin], order: Mapping[str, list[str]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run depends on besides its config."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        **hardware(),
        "kernels": status(),
        "git": git_state(),
        "plugins": {
            loaded.label: {
                "distribution": loaded.source.distribution if loaded.source else None,
                "version": loaded.source.version if loaded.source else None,
                "entry_point": loaded.source.target if loaded.source else None,
                "settings": dict(loaded.settings),
            }
            for loaded in plugins
        },
        "hooks": dict(order),
        **facts,
    }


def hardware() -> dict[str, Any]:
    """Versions and hardware: what a number may depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pluggy", "pydantic", "safetensors", "pyautoattack")
    return {
        "buttress": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "hardware": {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*: (.*)$", text, flags=re.MULTILINE)
    return match.group(1) if match else platform.processor()
