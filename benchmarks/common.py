"""Shared parts of the benchmarks: facts about the machine, interleaved rounds, medians, results as JSON."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from devices import Stopwatch

from buttress import __version__
from buttress.training.manifest import cpu_name


def parser(doc: str | None, *, rounds: int, warmup: int = 1) -> argparse.ArgumentParser:
    """The options that benchmarks of interleaved rounds share; the defaults of two of them are given."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=1, help="number of threads (default: 1)")
    options.add_argument("--rounds", type=int, default=rounds, help=f"number of rounds that count (default: {rounds})")
    options.add_argument("--warmup", type=int, default=warmup, help=f"number of rounds before (default: {warmup})")
    options.add_argument("--quick", action="store_true", help="a small network instead, for tests")
    options.add_argument("--json", type=Path, help="file for times, ratios and facts about the machine")
    return options


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


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int, seconds: Stopwatch
) -> dict[str, list[float]]:
    """Seconds of every round by candidate; each round calls all of them, the first ``warmup`` rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        for name, call in candidates.items():
            taken = seconds(call)
            if number >= warmup:
                times[name].append(taken)
    return times


def ratio(times: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios, which a load that comes and goes moves less than the ratio of two medians."""
    return median(time / other for time, other in zip(times, others, strict=True))


def load() -> float:
    """Average number of processes that wanted a processor in the last minute; this one included."""
    return os.getloadavg()[0]


def summary(times: list[float]) -> dict[str, Any]:
    """Median and all rounds, in seconds."""
    return {"median_s": median(times), "rounds_s": times}


def write(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {path}")
