"""A long training: memory, open files and tensors do not grow with the steps."""

import gc
import random
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression

import torch
from rich.console import Console

from buttress.config.file import ConfigFile, dump_config
from buttress.config.yaml_source import parse_yaml
from buttress.console.reporter import Reporter
from buttress.storage.run_folder import RunFolder
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data
from buttress.training.records import read_metrics
from buttress.training.trainer import Trainer

from .report import Section

CONFIG = """
name: soak
data: {{name: circles, per_class: 100, batch_size: 20}}
model: {{name: mlp, hidden: [8], norm: true}}
threat: {{norm: linf, eps: 1/10, box: null}}
plugins:
  - pgd: {{steps: 2}}
  - rwp: {{c_min: 1.0, k2: 2, gamma: 0.01}}
  - ema: {{tau: 0.9}}
  - swa: {{start: 1}}
optimizer: {{name: sgd, lr: 0.01, momentum: 0.9}}
epochs: {epochs}
evaluation: {{every: {evaluate}, attack: {{pgd: {{steps: 2}}}}}}
checkpoint: {{every: 10, keep: 2}}
guards: {{nonfinite: {nonfinite}}}
log_every: 10
device: cpu
"""

STEPS_PER_EPOCH = 10

MAX_SLOPE = 50.0
"""KiB of resident memory per 1,000 steps beyond which steps themselves leave something behind."""

PER_RECORD = 2.5
"""KiB that each evaluation record adds to the peak: a run keeps them all, and every checkpoint writes them all."""


@dataclass
class Samples:
    """What was looked at every so many steps."""

    steps: list[int] = field(default_factory=list)
    kib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=list)
    records: int = 0
    """Evaluation records that the whole run has made."""

    def allowed(self) -> float:
        """KiB per 1,000 steps by which resident memory may grow."""
        return MAX_SLOPE + PER_RECORD * 1000 * self.records / self.steps[-1]

    def slope(self, skip: float = 0.2) -> float:
        """KiB per 1,000 steps by least squares, without the first share of samples, in which caches fill."""
        first = int(len(self.steps) * skip)
        return 1000 * linear_regression(self.steps[first:], self.kib[first:]).slope


class Watch(Reporter):
    """Looks at the process at the end of every ``every``-th step, and prints nothing."""

    def __init__(self, every: int) -> None:
        super().__init__(console=Console(quiet=True))
        self.samples, self._every, self._step = Samples(), every, 0

    def advance(self, description: str) -> None:
        super().advance(description)
        self._step += 1
        if self._step % self._every == 0:
            gc.collect()
            self.samples.steps.append(self._step)
            self.samples.kib.append(resident_kib())
            self.samples.files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
            self.samples.tensors.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))


def resident_kib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def soak(work: Path, steps: int, every: int, nonfinite: str = "stop", evaluate: int = 10) -> Samples:
    """Train for ``steps`` steps with every part of a run at work, evaluated each ``evaluate`` epochs of 10 steps."""
    config = CONFIG.format(epochs=steps // STEPS_PER_EPOCH, nonfinite=nonfinite, evaluate=evaluate)
    file = ConfigFile(parse_yaml(config, "soak.yaml"))
    folder, watch = RunFolder(work / f"soak-{nonfinite}"), Watch(every)
    data, settings = load_data(file)
    assembly = assemble(file, data, settings, folder.history)
    folder.create(dump_config(assembly.resolved), {})
    Trainer(assembly, folder, watch).run()
    watch.samples.records = len(read_metrics(folder).evaluations)
    return watch.samples


def grown(samples: Samples) -> list[str]:
    """What grew with the steps: open files, live tensors."""
    late = len(samples.steps) // 2
    counts = {"open files": samples.files, "live tensors": samples.tensors}
    return [
        f"{what} grew from {max(count[1:late])} to {max(count[late:])}"
        for what, count in counts.items()
        if max(count[late:]) > max(count[1:late])
    ]


def section(work: Path, rng: random.Random, steps: int = 10_000) -> Section:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:  # what others have freed here would hide a growth
        samples = process.submit(soak, work, steps, every=100, evaluate=50).result()
    lost, slope, early = grown(samples), samples.slope(), len(samples.steps) // 5
    if slope > samples.allowed():
        lost.append(f"resident memory grew by {slope:.0f} KiB per 1,000 steps")
    return Section(
        "Soak",
        f"{steps:,} training steps in one process of their own: PGD, RWP and two ensembles, saved each 100, evaluated "
        "each 500 steps. Slope by least squares over the last four fifths; counts at 20 % and at the end. Runs keep "
        "the records of evaluations, and every checkpoint writes them all, which takes about 2 KiB a record: so much "
        f"may memory grow with them, and by {MAX_SLOPE:.0f} KiB per 1,000 steps besides, which is noise.",
        [
            ("steps", steps),
            ("evaluation records", samples.records),
            ("resident memory", f"{samples.kib[early] / 1024:.0f}, {samples.kib[-1] / 1024:.0f} MiB"),
            ("slope of resident memory", f"{slope:.1f} KiB per 1,000 steps"),
            ("slope that is allowed", f"{samples.allowed():.1f} KiB per 1,000 steps"),
            ("open files", f"{samples.files[early]}, {samples.files[-1]}"),
            ("live tensors", f"{samples.tensors[early]}, {samples.tensors[-1]}"),
        ],
        lost,
    )
