"""Write measurements and the model of N GPUs into docs/scale.md; a test compares the page with this.

The part ``<!-- generated: measured FILE -->`` is the table of a file of results of ``bench_scale.py``, or says that
there is none; ``<!-- generated: model -->`` follows from the constants below and the networks. The rest is by hand.
"""

import json
from typing import Any, NamedTuple

import torch
from generated import filled, table
from method_results import ROOT
from torch import nn

from buttress.benching.work import OperatorCount
from buttress_plugins.models.preact_resnet import preact_resnet18
from buttress_plugins.models.wide_resnet import wrn

PAGE, RESULTS = ROOT / "docs" / "scale.md", ROOT / "benchmarks" / "results"

BATCH, SIDE = 512, 32  # examples of the whole batch; rows and columns of an image
PASSES = 23  # of PGD-10 and training: 10 forwards and backwards to the input; one forward, one backward to all
RATE = 100e12  # floating-point operations a second that a GPU sustains: an assumption
PROCESSES = (1, 2, 4, 8, 16)


class Link(NamedTuple):
    """A link between GPUs.

    Args:
        name: its name on the page.
        speed: bytes a second in each direction.
        most: number of GPUs that it connects.
    """

    name: str
    speed: float
    most: int


LINKS = (Link("NVLink", 450e9, 8), Link("200 Gb/s", 200e9 / 8, 16))


class Size(NamedTuple):
    """Size of a network: bytes of its gradients in float32, and floating-point operations of a forward of one image."""

    gradients: int
    forward: int


def page() -> str:
    """The page's text with its tables."""
    return filled(PAGE.read_text(encoding="utf-8"), {"measured": measured, "model": model})


def measured(file: str) -> str:
    """A table of all stacks: times, speeds and collectives; a sentence where nothing has been measured yet."""
    path = RESULTS / file
    if not path.exists():
        return f"Not measured yet: `python benchmarks/bench_scale.py --json benchmarks/results/{file}`."
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, each in result["stacks"].items():
        many, wide, one = each["times"]
        collectives = each["collectives"]
        seconds = sum(purpose["seconds"] for purpose in collectives.values())
        rows.append(
            [
                name,
                f"{each['times'][one]['median_s']:.2f} s",
                f"{each['speed'][wide]:.2f}",
                f"{each['speed'][many]:.2f}",
                ", ".join(f"{purpose['calls']} {key}" for key, purpose in collectives.items()),
                f"{sum(purpose['bytes'] for purpose in collectives.values()) / 1e6:.1f} MB",
                f"{1e3 * seconds:.0f} ms",
            ]
        )
    count, threads = result["processes"], result["threads"]
    heads = [
        "stack",
        f"1 process, {_threads(threads)}",
        f"1 process, {_threads(count * threads)}",
        f"{count} processes, {_threads(threads)} each",
        "collectives of a step",
        "bytes",
        "their time",
    ]
    return f"{table(heads, rows)}\n\n{_circumstances(result, file)}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _circumstances(result: dict[str, Any], file: str) -> str:
    rounds = min(len(times["rounds_s"]) for each in result["stacks"].values() for times in each["times"].values())
    problem = f"{result['model']}, batches of {result['batch']}, {result['setting']}, batch norm {result['batch_norm']}"
    machine = f"{result['cpu']} with {result['cpu_capability']}, torch {result['torch'].partition('+')[0]}"
    return (
        f"Seconds of a step, and speeds over it. {problem}; {rounds} rounds; {machine}, average load "
        f"{result['load']:.1f} ([every number](../benchmarks/results/{file}))."
    )


def model(_: str) -> str:
    """A table of networks and links: the time of the sum of gradients, and the speed over one GPU."""
    rows = []
    for name, network in networks().items():
        size = size_of(network)
        step = PASSES * BATCH * size.forward / RATE
        for link in LINKS:
            cells = [_cell(size, step, link, count) for count in PROCESSES[1:]]
            rows.append([name, f"{size.gradients / 1e6:.0f} MB", f"{1e3 * step:.0f} ms", link.name, *cells])
    heads = ["network", "gradients", "step of 1 GPU", "link", *(f"{count} GPUs" for count in PROCESSES[1:])]
    return table(heads, rows)


def _cell(size: Size, step: float, link: Link, count: int) -> str:
    if count > link.most:
        return "-"
    reduction = seconds_of_sum(size.gradients, link.speed, count)
    return f"{1e3 * reduction:.1f} ms, {step / (step / count + reduction):.1f}x"


def seconds_of_sum(size: int, speed: float, count: int) -> float:
    """Seconds of a ring all-reduce of ``size`` bytes over ``count`` GPUs, at ``speed`` bytes a second."""
    return 2 * (count - 1) / count * size / speed


def size_of(network: nn.Module) -> Size:
    """The size of a network on the meta device."""
    count = OperatorCount()
    with torch.no_grad(), count:
        network(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    return Size(4 * sum(weight.numel() for weight in network.parameters()), count.flops)


def networks() -> dict[str, nn.Module]:
    """The networks of the model, on the meta device."""
    sizes = {"in_channels": 3, "num_classes": 10}
    with torch.device("meta"):
        return {
            "PreActResNet-18": preact_resnet18(**sizes),
            "WRN-28-10": wrn(**sizes, depth=28, widen=10),
            "WRN-70-16": wrn(**sizes, depth=70, widen=16),
        }


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
