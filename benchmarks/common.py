"""Shared parts of the benchmarks: facts about the machine, medians, results as JSON."""

import json
import platform
from pathlib import Path
from statistics import median
from typing import Any

import torch

from buttress import __version__
from buttress.training.manifest import cpu_name


def facts(**sizes: Any) -> dict[str, Any]:
    """Hardware, versions and the sizes of the measured problem."""
    return {
        "buttress": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **sizes,
    }


def summary(times: list[float]) -> dict[str, Any]:
    """Median and all rounds, in seconds."""
    return {"median_s": median(times), "rounds_s": times}


def write(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {path}")
