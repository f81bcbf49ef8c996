"""Images a second of the transforms of training batches.

Each plugin transforms batches of random 8-bit images, drawing anew each time; rounds interleaved, the fastest of each.
On one thread the clock is that thread's processor time: it stands still while other processes have the core. On CUDA
(``--device cuda``) a batch is timed between two events of the stream.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import torch
from common import facts, write
from devices import add_device, device_facts, stopwatch

from buttress import Batch, ThreatModel
from buttress.components.loaded import as_loaded
from buttress.engine.context import Context
from buttress.engine.state import RunState

TRANSFORMS: dict[str, dict[str, Any]] = {
    "augment": {},
    "augment, rotated": {"rotation": 15.0},
    "cutout": {},
    "mixup": {"num_classes": 10},
    "cutmix": {"num_classes": 10},
    "autoaugment": {"start": 0},
    "idbh": {},
    "idbh, strong": {"variant": "strong"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--channels-last", action="store_true")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device
    seconds = stopwatch(device, thread_time if options.threads == 1 else perf_counter)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    torch.manual_seed(0)
    x = (torch.randint(256, (options.batch, 3, 32, 32)) / 255).to(device).contiguous(memory_format=layout)
    batch = Batch(x, torch.randint(10, (options.batch,), device=device))

    state = RunState(ThreatModel("linf", "8/255"), device, epochs=1)
    plugins = as_loaded([{name.split(",")[0]: settings} for name, settings in TRANSFORMS.items()])
    contexts = {name: Context(state, name) for name in TRANSFORMS}
    times: dict[str, list[float]] = {name: [] for name in TRANSFORMS}
    for number in range(options.rounds + 2):
        for (name, context), plugin in zip(contexts.items(), plugins, strict=True):
            spent = seconds(partial(plugin.plugin.transform_batch, batch, context))
            if number >= 2:
                times[name].append(spent)
    for name, each in times.items():
        print(f"{name}: {options.batch / min(each):,.0f} images/s, {1e3 * min(each):.2f} ms a batch")
    results = {
        name: {"fastest_s": min(each), "median_s": median(each), "images_per_s": options.batch / min(each)}
        for name, each in times.items()
    }
    sizes = {**device_facts(device), "batch": options.batch}
    write(options.json, facts(benchmark="bench_transforms", **sizes, results=results))


if __name__ == "__main__":
    main()
