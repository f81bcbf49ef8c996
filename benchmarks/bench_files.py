"""The median of N safetensors files over a plain read of the same files, and the memory it takes.

The files are random float32 (``--values`` of them in ``--tensors`` tensors each), written to ``--folder`` first. *Plain
read* goes through them one after another with ``readinto`` and one buffer of 1 MiB. *Warm*: everything is in the
system's cache. *Cold*: each round begins with ``posix_fadvise(DONTNEED)`` for every file, which empties the system's
cache of them (what a virtual disk's host keeps is not in our hands). All in one process, interleaved; the median of the
rounds, and the minimum, which other programs on the machine disturb least. Peak memory is that of a process of its own,
by ``/proc``: the peak resident size over the size before, once a median of one small file has loaded what is needed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median as middle
from time import perf_counter, process_time
from typing import Any

import torch
from common import facts, write
from safetensors.torch import save_file

from buttress.console.tables import table
from buttress.kernels import median_files

PEAK = """
import re, sys, torch
from pathlib import Path
from buttress.kernels import median_files
def kib(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
torch.set_num_threads(int(sys.argv[1]))
small, out, *paths = map(Path, sys.argv[2:])
median_files([small], out)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at the size now
before = kib("VmRSS")
median_files(paths, out)
print(1024 * (kib("VmHWM") - before))
"""


def make(folder: Path, n: int, values: int, tensors: int) -> list[Path]:
    """N files; each holds the same numbers, shifted: as hard to select from as independent ones."""
    numbers, size = torch.randn(values), values // tensors
    paths = [folder / f"{i:03d}.safetensors" for i in range(n)]
    for i, path in enumerate(paths):
        shifted = numbers.roll(977 * i)
        save_file({f"{k}": shifted[k * size : (k + 1) * size].clone() for k in range(tensors)}, path)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())  # only written pages can be dropped from the cache
    return paths


def drop(paths: Sequence[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(paths: Sequence[Path]) -> None:
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def measure(paths: Sequence[Path], out: Path, rounds: int, cold: bool) -> dict[str, dict[str, float]]:
    """Seconds on the clock and on the processors, by candidate."""
    candidates: dict[str, Callable[[], object]] = {
        "plain read": lambda: plain_read(paths),
        "median_files, returned": lambda: median_files(paths),
        "median_files, written": lambda: median_files(paths, out),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(rounds + (not cold)):  # a warm round first
        for name, call in candidates.items():
            if cold:
                drop(paths)
            wall, cpu = perf_counter(), process_time()
            call()
            if cold or number:
                times[name].append((perf_counter() - wall, process_time() - cpu))
    return {
        name: {
            "median_s": middle(wall for wall, _ in each),
            "min_s": min(wall for wall, _ in each),
            "cpu_s": middle(cpu for _, cpu in each),
        }
        for name, each in times.items()
    }


def peak(paths: Sequence[Path], folder: Path, threads: int) -> int:
    small = folder / "small.safetensors"
    save_file({"0": torch.zeros(1)}, small)
    words = [sys.executable, "-c", PEAK, str(threads), str(small), str(folder / "out.safetensors"), *map(str, paths)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60, help="files")
    parser.add_argument("--values", type=int, default=4_000_000, help="in each; a WRN-34-10 has 46 million")
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold-rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (the system's temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        paths = make(folder, options.n, options.values, options.tensors)
        size, out = sum(path.stat().st_size for path in paths), folder / "out.safetensors"
        results: dict[str, Any] = {"cold": measure(paths, out, options.cold_rounds, cold=True)}
        results["warm"] = measure(paths, out, options.rounds, cold=False)
        results["peak_growth_bytes"] = peak(paths, folder, options.threads)
    finally:
        shutil.rmtree(folder)
    lines = []
    for state in ("warm", "cold"):
        base = results[state]["plain read"]
        for name, each in results[state].items():
            ratio, least = (f"{each[key] / base[key]:.2f}" for key in ("median_s", "min_s"))
            rate = size / each["median_s"] / 1e9
            lines.append([state, name, f"{each['median_s']:.3f}", f"{each['cpu_s']:.3f}", f"{rate:.1f}", ratio, least])
    print(f"{options.n} files of {options.values:,} float32, {size / 1e9:.1f} GB, {options.threads} threads\n")
    print(table(["", "", "s", "CPU s", "GB/s", "x plain read", "x, minima"], lines))
    print(
        f"\npeak memory grows by {results['peak_growth_bytes'] / 2**20:.0f} MiB while the median is written to a file"
    )
    names = ("n", "values", "tensors", "threads", "rounds", "cold_rounds")
    sizes = {name: getattr(options, name) for name in names}
    write(options.json, facts(benchmark="bench_files", **sizes, bytes=size, results=results))


if __name__ == "__main__":
    main()
