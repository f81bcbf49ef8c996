"""A checkpoint over a ``torch.save`` of the same state: what the first checkpoint, of step 0, adds to a run.

The state is that of a model before its first step: ``--values`` float32 numbers in ``--tensors`` tensors each, and no
state of an optimizer. Both sides sync their file. A checkpoint hashes its tensors, renames, and syncs the folder too.
All in one process, interleaved; the median of the rounds.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from common import facts, summary, write

from buttress.console.tables import table
from buttress.training.checkpoint import save_checkpoint


def torch_save(path: Path, state: dict[str, Any]) -> None:
    """Write the state by pickle and sync it, as one would do otherwise."""
    torch.save(state, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def measure(values: int, tensors: int, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round, by candidate."""
    state = {"model": {f"{i}": torch.randn(values // tensors) for i in range(tensors)}}
    candidates: dict[str, Callable[[], object]] = {
        "checkpoint": lambda: save_checkpoint(folder / "checkpoints", 0, state, keep=3),
        "torch.save": lambda: torch_save(folder / "state.pt", state),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            started = perf_counter()
            candidate()
            if number:  # the first round makes the folders
                times[name].append(perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, nargs="+", default=[11_000, 11_200_000, 46_200_000])
    parser.add_argument("--tensors", type=int, default=62, help="number of tensors of the state")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds")
    parser.add_argument("--threads", type=int, default=1, help="number of torch threads")
    parser.add_argument("--folder", type=Path, help="folder of the files (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="file for the times of every round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, results = [], {}
    for values in options.values:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            times = measure(values, options.tensors, Path(folder), options.rounds)
        summaries = {name: summary(each) for name, each in times.items()}
        ours, theirs = (summaries[name]["median_s"] for name in ("checkpoint", "torch.save"))
        rows.append([f"{values:,}", f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}"])
        results[values] = summaries
    print(table(["values", "checkpoint, s", "torch.save, s", "ratio"], rows))
    write(options.json, {**facts(tensors=options.tensors, rounds=options.rounds), "values": results})


if __name__ == "__main__":
    main()
