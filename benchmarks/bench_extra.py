"""Memory and speed of extra examples that are mapped from a file (``data.extra: {file: FILE, share: 0.7}``).

Memory: a sparse file of ``--images`` 32x32 colour images, with one of their labels (int64), is loaded, checked,
counted, hashed and drawn from in a process of its own, which reads its anonymous memory (RssAnon of /proc/self/status:
that without pages of files) every two milliseconds. What counts is the peak over the peak of the same number of batches
of real examples alone. Pages of the files are in the page cache, and are told apart (RssFile).

Speed: images a second of batches of 30 % real and 70 % extra examples, drawn from ``--stored`` images in memory (uint8,
as ``npz`` holds them) and from the same images mapped, in the page cache; rounds interleaved. *Cold*: before each round
the system's cache of the file is emptied by ``posix_fadvise(DONTNEED)`` (what a virtual disk's host keeps is not in our
hands). No training step is in it: a thread reads the next batch meanwhile, which a step would hide. Needs Linux.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import facts, load, ratio, summary, write

from buttress import Data, ThreatModel
from buttress.components.construct import build
from buttress.console.tables import table
from buttress.data import EightBitSplit, Split, check_data
from buttress.data.extra_source import ExtraSource
from buttress.data.training_set import TrainingSet

SHAPE, CLASSES, REAL, SHARE = (32, 32, 3), 10, 50_000, Fraction(7, 10)
DRAWS = {"with replacement": True, "without replacement": False}


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(memory_of(options, DRAWS[options.child])))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = Path(folder)
        sparse(options.folder / "images.npy", (options.images, *SHAPE), np.uint8)
        sparse(options.folder / "labels.npy", (options.images,), np.int64)
        memory = {name: in_child(name, options) for name in DRAWS}
        speed = speed_of(options)
    sizes = {"images": options.images, "file_bytes": options.images * 3072, "batch": options.batch, "share": str(SHARE)}
    write(
        options.json,
        facts(
            benchmark="bench_extra",
            **sizes,
            real=options.real,
            stored=options.stored,
            batches=options.batches,
            memory=memory,
            speed=speed,
            load=load(),
        ),
    )
    sizes_in_mb = {name: (each["growth_bytes"] / 1e6, each["file_pages_bytes"] / 1e6) for name, each in memory.items()}
    rows = [[name, f"{grown:,.0f}", f"{pages:,.0f}"] for name, (grown, pages) in sizes_in_mb.items()]
    print(table(["draws", "memory, MB", "pages of files, MB"], rows))
    for name, each in speed["times"].items():
        print(f"{name}: {options.batches * options.batch / each['median_s']:,.0f} images/s")
    print(f"mapped over in memory: {speed['median_of_ratios']:.2f} of its time")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000_000, help="number of images of the sparse file")
    parser.add_argument("--stored", type=int, default=200_000, help="number of images of which the speed is measured")
    parser.add_argument("--real", type=int, default=REAL, help="number of real examples")
    parser.add_argument("--batch", type=int, default=512, help="number of examples in a batch")
    parser.add_argument("--batches", type=int, default=90, help="number of batches of a measurement")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds of the speed")
    parser.add_argument("--cold-rounds", type=int, default=5, help="number of rounds with an empty cache")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: that of temporary files)")
    parser.add_argument("--child", choices=list(DRAWS), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser.parse_args()


# Memory


def sparse(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """A ``.npy`` file of zeros that takes no room on the disk."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)


def in_child(draws: str, options: argparse.Namespace) -> dict[str, Any]:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("real", "batch", "batches", "threads", "folder")]
    command = [sys.executable, __file__, "--child", draws, *sizes]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def memory_of(options: argparse.Namespace, replacement: bool) -> dict[str, Any]:
    """Peaks of this process with real examples alone, and with those of the sparse file."""
    real = RandomSplit(options.real)
    with peaks() as before:
        drawn(TrainingSet(real, options.batch, False, 0), options.batches)
    began = perf_counter()
    with peaks() as after:
        dataset, *_ = build(
            "dataset", "mapped", {"file": f"{options.folder}/images.npy", "label_file": f"{options.folder}/labels.npy"}
        )
        data = Data(real, real, CLASSES, extra=dataset.load(0).train)
        check_data(data, ThreatModel("linf", "8/255"))
        assert data.extra is not None
        record = data.extra.fingerprint()
        examples = TrainingSet(real, options.batch, False, 0, [ExtraSource(data.extra, SHARE, replacement)])
        counts = examples.class_counts(CLASSES)
        loaded = perf_counter() - began
        images = drawn(examples, options.batches)
    return {
        "growth_bytes": after["RssAnon"] - before["RssAnon"],
        "anonymous_bytes": after["RssAnon"],
        "file_pages_bytes": after["RssFile"],
        "n": record["n"],
        "labels": counts,
        "images_drawn": images,
        "load_s": loaded,
    }


@contextmanager
def peaks() -> Iterator[dict[str, int]]:
    """Peaks of anonymous memory and of pages of files within the block, in bytes."""
    measured, ended = {"RssAnon": 0, "RssFile": 0}, threading.Event()

    def watch() -> None:
        while True:
            text = Path("/proc/self/status").read_text()
            for name in measured:
                measured[name] = max(measured[name], 1024 * int(text.partition(f"{name}:")[2].split()[0]))
            if ended.wait(0.002):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield measured
    finally:
        ended.set()
        watcher.join()


# Speed


def speed_of(options: argparse.Namespace) -> dict[str, Any]:
    stored = RandomSplit(options.stored)
    path = options.folder / "stored.npz"
    np.savez(path, image=stored.images.movedim(1, -1).numpy(), label=stored.y.numpy())
    dataset, *_ = build("dataset", "mapped", {"file": str(path)})
    real = RandomSplit(options.real)
    splits = {"in memory": lambda: stored, "mapped": lambda: dataset.load(0).train}
    times: dict[str, list[float]] = {name: [] for name in [*splits, "mapped, cold"]}
    for number in range(options.rounds + 1):
        for name, split in splits.items():
            seconds = seconds_of(split(), real, options, number)
            if number:
                times[name].append(seconds)
    for number in range(options.cold_rounds):
        empty_cache(path)
        times["mapped, cold"].append(seconds_of(dataset.load(0).train, real, options, number))
    rates = {name: options.batches * options.batch / median(each) for name, each in times.items()}
    return {
        "times": {name: summary(each) for name, each in times.items()},
        "images_per_s": rates,
        "median_of_ratios": ratio(times["mapped"], times["in memory"]),
    }


def seconds_of(extra: Split, real: Split, options: argparse.Namespace, epoch: int) -> float:
    examples = TrainingSet(real, options.batch, False, 0, [ExtraSource(extra, SHARE)])
    began = perf_counter()
    drawn(examples, options.batches, epoch)
    return perf_counter() - began


def empty_cache(path: Path) -> None:
    """Let the system forget the pages of a file that nobody maps."""
    gc.collect()
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class RandomSplit(EightBitSplit):
    """Random images, which are kept as they were made."""

    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(n)
        self.images = torch.randint(256, (n, SHAPE[2], *SHAPE[:2]), dtype=torch.uint8, generator=generator)
        super().__init__(self.images, torch.randint(CLASSES, (n,), generator=generator))


def drawn(examples: TrainingSet, batches: int, epoch: int = 0) -> int:
    """Draw so many batches of an epoch; returns the number of examples."""
    return sum(len(batch.y) for batch in islice(examples.batches(epoch), batches))


if __name__ == "__main__":
    main()
