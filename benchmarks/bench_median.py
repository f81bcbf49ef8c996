"""The compiled median of N checkpoints over what memory allows, and over what one would run otherwise.

Inputs are float32 (or ``--dtype``) arrays, *staggered* in memory (each starts at another offset in its page) or
*congruent* (all at one offset, as large allocations and mapped files are: then the current lines of all N fall into one
set of the first-level cache). ``limit`` is the larger of a sequential sum over the inputs and a copy, in the same run;
the share of it is the median's (N + 1) arrays moved over that bandwidth. Peers: ``torch.stack(...).median(0)``,
``numpy.partition`` and chunked ``torch.median``. All in one process, rounds interleaved, the median of the rounds.
On one thread the clock is that thread's processor time: it stands still while other processes have the core.
Before each call other data are read through the caches: no candidate pays for writing back what the one before left.
``BUTTRESS_SIMD=avx2`` in the environment measures another instruction set than the processor's best.

On CUDA (``--device cuda``) all inputs are placed as its allocator does, ``numpy.partition`` is left out, and a call is
timed between two events of the stream.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median as middle
from time import perf_counter, thread_time

import numpy as np
import torch
from common import facts, write
from devices import add_device, device_facts, stopwatch
from torch import Tensor

from buttress.console.tables import table
from buttress.kernels import median, status, use_backend

PAGE = 4096
OTHER = 1 << 26  # elements of other data, 256 MiB: larger than the caches


def placed(n: int, size: int, dtype: torch.dtype, congruent: bool, device: torch.device) -> list[Tensor]:
    """N arrays of one offset within their pages, or of N different ones; one after another, as a system maps large
    allocations, whatever was allocated before (at a distance of a large power of two they would share the sets of the
    address translation's cache, too)."""
    item = torch.empty(0, dtype=dtype).element_size()
    stride = (size * item + 2 * PAGE - 1) // PAGE * PAGE
    memory = torch.empty((n + 1) * stride, dtype=torch.uint8, device=device)
    first, rows = -memory.data_ptr() % PAGE, []
    for i in range(n):
        start = first + i * stride + (0 if congruent else 64 * (7 * i % 64))
        row = memory[start : start + size * item].view(dtype)
        row.copy_(torch.randn(size, device=device))
        rows.append(row)
    return rows


def numpy_partition(rows: list[Tensor], chunk: int = 1 << 14) -> None:
    arrays, k = [row.numpy() for row in rows], (len(rows) - 1) // 2
    for start in range(0, len(arrays[0]), chunk):
        np.partition(np.stack([array[start : start + chunk] for array in arrays]), k, axis=0)


def measure(n: int, options: argparse.Namespace, congruent: bool) -> dict[str, float]:
    """Nanoseconds for an element, by candidate."""
    dtype, device = getattr(torch, options.dtype), options.device
    rows = placed(n, options.size, dtype, congruent, device)
    short = [row[: options.size // 16] for row in rows]  # the peers are a hundred times slower
    out, copied = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    other = torch.zeros(OTHER, device=device)

    def compiled() -> None:
        with use_backend("native"):
            median(rows, out=out)

    def chunked() -> None:
        with use_backend("torch"):
            median(short)

    candidates: dict[str, tuple[Callable[[], object], int]] = {
        "compiled": (compiled, options.size),
        "read": (lambda: [row.sum() for row in rows], options.size),
        "copy": (lambda: copied.copy_(rows[0]), options.size),
        "torch.stack().median(0)": (lambda: torch.stack(short).median(0), len(short[0])),
        "chunked torch.median": (chunked, len(short[0])),
    }
    if device.type == "cpu" and dtype in (torch.float32, torch.float64):
        candidates["numpy.partition"] = (lambda: numpy_partition(short), len(short[0]))
    seconds = stopwatch(device, thread_time if options.threads == 1 else perf_counter)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(options.rounds + 1):
        for name, (call, size) in candidates.items():
            other.sum()
            time = seconds(call)
            if number:  # the first round warms up
                times[name].append(1e9 * time / size)
    return {name: middle(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[3, 9, 16, 31, 60, 61, 120])
    parser.add_argument("--size", type=int, default=1 << 22, help="elements of an array")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    item = torch.empty(0, dtype=getattr(torch, options.dtype)).element_size()
    results, lines = [], []
    for n in options.n:
        for congruent in (False, True) if options.device.type == "cpu" else (True,):
            measured = measure(n, options, congruent)
            limit = max(n * item / measured["read"], 2 * item / measured["copy"])
            share = (n + 1) * item / measured["compiled"] / limit
            peers = {name: ns for name, ns in measured.items() if name not in ("compiled", "read", "copy")}
            stacked = measured["torch.stack().median(0)"] / measured["compiled"]
            best = min((ns, name) for name, ns in peers.items() if name != "torch.stack().median(0)")
            where = "congruent" if congruent else "staggered"
            results.append({"n": n, "placed": where, "ns": measured, "limit_gb_s": limit, "share_of_limit": share})
            row = [n, where, f"{measured['compiled']:.2f}", f"{share:.2f}", f"{stacked:.0f}"]
            lines.append([*row, f"{best[0] / measured['compiled']:.0f}", best[1]])
    header = ["N", "placed", "ns an element", "share of limit", "x over stack", "x over best peer", "which"]
    simd = status().get("SIMD", "none").split()[-1]
    where = f"{simd}, {options.threads} threads" if options.device.type == "cpu" else str(options.device)
    print(f"{options.dtype}, {where}, {options.size:,} elements, {options.rounds} rounds\n")
    print(table(header, lines))
    sizes = {"dtype": options.dtype, "simd": simd, "size": options.size, "rounds": options.rounds}
    write(options.json, facts(benchmark="bench_median", **device_facts(options.device), **sizes, results=results))


if __name__ == "__main__":
    main()
