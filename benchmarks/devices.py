"""The device on which a benchmark runs, and the time that a call takes there."""

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

Stopwatch = Callable[[Callable[[], object]], float]
"""A call to the seconds that it takes."""


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", type=device_of, default="cpu", help="cpu (default), cuda or cuda:N")


def device_of(text: str) -> torch.device:
    """The device that ``text`` names; every CUDA device has its number, and is the current one from here on."""
    device = torch.device(text)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{text} asked for, and torch {torch.__version__} sees no CUDA device")
    torch.cuda.set_device(device.index or 0)
    return torch.device("cuda", device.index or 0)


def device_facts(device: torch.device) -> dict[str, Any]:
    """The device, and what stands for its hardware and software."""
    if device.type != "cuda":
        return {"device": str(device)}
    return {"device": str(device), "gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def stopwatch(device: torch.device, clock: Callable[[], float] = perf_counter) -> Stopwatch:
    """A stopwatch for calls that work on ``device``.

    On CUDA the time is that between two events of the stream, one before the call and one after it. While the device
    still does what was asked for before, launches ahead cost nothing: it is then the time of the device alone. Where
    the device waits for the host, that wait is in it.

    Args:
        device: the device.
        clock: clock in seconds, for every device but CUDA.
    """
    return _seconds_by_events if device.type == "cuda" else lambda call: _seconds_by_clock(call, clock)


def now(device: torch.device) -> float:
    """The time in seconds, once the device has done what was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _seconds_by_clock(call: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    call()
    return clock() - begin


def _seconds_by_events(call: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return 1e-3 * begin.elapsed_time(end)
