"""The machine at work: its clock, the memory that a process has taken, and facts on which times depend."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from buttress.kernels import status
from buttress.training.manifest import hardware


def waits(device: torch.device) -> bool:
    """Whether the clock of a device waits for it to be done: each look at the clock of a CUDA device costs time."""
    return device.type == "cuda"


def clock_of(device: torch.device) -> Callable[[], float]:
    """A clock in seconds. Where it ``waits``, the work of the device so far is in the time."""
    if not waits(device):
        return perf_counter

    def read() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return read


def forget_peak(device: torch.device) -> None:
    """Let ``peak_memory`` of a CUDA device count from here on; a process's own counts from its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Most bytes so far: of the tensors on a CUDA device, else of this process; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    units = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return units if sys.platform == "darwin" else 1024 * units


def load() -> float | None:
    """Average number of processes that wanted a processor in the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def facts_of(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and threads."""
    return {
        **hardware(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "kernels": status(),
    }
