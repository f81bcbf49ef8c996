"""Memory and time of a step that is made in parts, ``optimizer.accumulate``, beside those of a whole one.

The step is PGD-AT (two attack steps) of PreActResNet-18 on 3x32x32 images. On CUDA the memory is torch's largest, and
the time that of the clock. On the CPU each row is a process of its own whose largest resident memory is read at its
end, less that of one that makes no step, with an allocator that gives every large block back; the time is that of the
processor.

``python benchmarks/bench_accumulate.py --output benchmarks/results/accumulate-1thread.json``
"""

import argparse
import functools
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

import torch

from buttress import Engine, ThreatModel
from buttress_plugins.models.preact_resnet import preact_resnet18

GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Settings of the allocator of glibc by which freed memory leaves the process."""


def measure(parts: int, batch: int, steps: int, device: str) -> dict[str, float]:
    """Megabytes at the peak, and fewest seconds of a step; ``parts`` 0 makes no step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = preact_resnet18(in_channels=3, num_classes=10).to(device)
    on_cuda = device == "cuda"
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, foreach=False)
    engine = Engine(model, sgd, [{"pgd": {"steps": 2}}], ThreatModel("linf", "8/255"), accumulate=max(parts, 1))
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.arange(batch, device=device) % 10
    clock, seconds = perf_counter if on_cuda else process_time, []
    for _ in range(steps if parts else 0):
        begin = clock()
        engine.step(x, y)
        if on_cuda:
            torch.cuda.synchronize()
        seconds.append(clock() - begin)
    kilobytes = (
        torch.cuda.max_memory_allocated() / 1024 if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {"peak_mb": kilobytes / 1024, "step_seconds": min(seconds, default=0.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", type=int, help="measure this number of parts alone, and print JSON")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one, options.batch, options.steps, options.device)))
        return
    rows = {}
    for parts in (0, *options.parts):
        words = ["--one", str(parts), "--batch", str(options.batch), "--steps", str(options.steps)]
        command = [sys.executable, __file__, *words, "--device", options.device]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **GIVING_BACK})
        rows[parts] = json.loads(done.stdout)
    base = rows.pop(0)["peak_mb"]
    results = [{"parts": parts, **row, "added_mb": row["peak_mb"] - base} for parts, row in rows.items()]
    for row in results:
        print(f"{row['parts']:2d} parts: {row['added_mb']:7.0f} MB, {row['step_seconds']:7.3f} s a step")
    if options.output:
        facts = {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "device": options.device,
            "batch": options.batch,
            "model_mb": base,
        }
        options.output.write_text(json.dumps({**facts, "steps": options.steps, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
