"""Images a second of PGD-10 training steps, by network, precision, format of memory and compilation.

The engine trains on one batch of random 32x32 images again and again: PGD-10 (L-inf 8/255, step 2/255, eval mode), SGD
with momentum and weight decay, fused. A case is every combination of ``--compile``, ``--precisions``, ``--models`` and
``--formats``, in this order; after each one the file ``--json`` is written anew. A case that fails (too little memory,
a model that does not compile) is recorded with its reason and the others go on; the exit code is then 1. After
``--limit`` seconds no further case begins.
"""

import argparse
import gc
import json
import sys
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, NamedTuple

import torch
from common import facts, summary
from devices import add_device, device_facts, stopwatch

from buttress import Engine, ThreatModel
from buttress.console.tables import table
from buttress.errors import describe
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny
from buttress_plugins.models.wide_resnet import wrn_34_10

NETWORKS = {"preact_resnet18": preact_resnet18, "wrn_34_10": wrn_34_10, "preact_tiny": preact_tiny}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
NO_TIME = "not run: no time was left"


class Case(NamedTuple):
    """The setting of a training run."""

    compile: str
    precision: str
    model: str
    format: str


def main() -> int:
    options = parsed()
    torch.set_num_threads(options.threads)
    began, results = monotonic(), []
    for case in map(Case._make, product(options.compile, options.precisions, options.models, options.formats)):
        in_time = options.limit is None or monotonic() - began < options.limit
        results.append({**case._asdict(), **(outcome(case, options) if in_time else {"left_out": NO_TIME})})
        print(*row(results[-1]), sep="  ", file=sys.stderr, flush=True)
        sizes = {"batch": options.batch, "attack": f"PGD-{options.steps}, eval mode", "rounds": options.rounds}
        keep(options.json, facts(benchmark="bench_images", **device_facts(options.device), **sizes, cases=results))
    print(table([*Case._fields, "images/s", "ms a step", "memory, GB", "first step, s", ""], list(map(row, results))))
    return int(any("failed" in each for each in results))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=["preact_resnet18"], metavar="NAME")
    parser.add_argument("--compile", nargs="+", choices=["off", "model", "graphs"], default=["off"], metavar="WORD")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"], metavar="WORD")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=128, help="number of images in a batch (default: 128)")
    parser.add_argument("--steps", type=int, default=10, help="number of steps of the attack (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, help="number of training steps that count (default: 5)")
    parser.add_argument("--warmup", type=int, default=2, help="number of training steps before (default: 2)")
    parser.add_argument("--limit", type=float, help="number of seconds after which no case begins")
    parser.add_argument("--threads", type=int, default=1, help="number of threads (default: 1)")
    add_device(parser)
    parser.add_argument("--json", type=Path, help="file for the results of all cases")
    return parser.parse_args()


def outcome(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The measurements of a case, or the reason why there are none."""
    try:
        return measured(case, options)
    except Exception as problem:  # whatever it is, other cases may run
        return {"failed": describe(problem)}
    finally:
        gc.collect()  # models lie in circles
        torch._dynamo.reset()
        if options.device.type == "cuda":
            torch.cuda.empty_cache()


def measured(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    device, layout = options.device, FORMATS[case.format]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(0)
    model = NETWORKS[case.model](in_channels=3, num_classes=10).to(device, memory_format=layout)
    x = torch.rand(options.batch, 3, 32, 32, device=device).contiguous(memory_format=layout)
    y = torch.arange(options.batch, device=device) % 10
    attack = {"pgd": {"steps": options.steps, "step_size": "2/255"}}
    setting: dict[str, Any] = {"precision": case.precision, "compile": case.compile}
    engine = Engine(model, SGD, [attack], ThreatModel("linf", "8/255"), checks="interval", **setting)
    seconds = stopwatch(device)
    times = [seconds(partial(engine.step, x, y)) for _ in range(options.warmup + options.rounds)]
    engine.read_checks()
    counted = times[options.warmup :]
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    rate = options.batch / median(counted)
    return {**summary(counted), "images_per_s": rate, "first_step_s": times[0], "peak_memory_bytes": memory}


def keep(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")


def row(result: dict[str, Any]) -> list[str]:
    case = [result[name] for name in Case._fields]
    if reason := result.get("failed") or result.get("left_out"):
        return [*case, "", "", "", "", reason]
    memory = result["peak_memory_bytes"]
    return [
        *case,
        f"{result['images_per_s']:,.0f}",
        f"{1e3 * result['median_s']:.1f}",
        "" if memory is None else f"{memory / 1e9:.1f}",
        f"{result['first_step_s']:.1f}",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
