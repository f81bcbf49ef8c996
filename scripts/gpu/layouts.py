"""Compare input gradients in the contiguous and the channels-last layout: of avg_pool2d, and of built-in networks.

Some versions of torch give wrong gradients of ``avg_pool2d`` with padding in channels_last on CUDA (torch issue
188344). The gradient of each pool is held against that of the CPU, and the comparison that buttress makes at the start
of a run against both: it has to name a fault where there is one, and nowhere else.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buttress.console.tables import table
from buttress.nn.two_layouts import compared
from buttress_plugins.models.dla import dla
from buttress_plugins.models.dpn import dpn26
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny
from buttress_plugins.models.vgg import vgg16_bn
from buttress_plugins.models.wide_resnet import wrn_34_10

POOLS = {
    "3x3, padding 1": nn.AvgPool2d(3, 1, 1),
    "3x3, stride 2, padding 1": nn.AvgPool2d(3, 2, 1),
    "3x3, stride 2, padding 1, padding not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "3x3, stride 2, ceil_mode": nn.AvgPool2d(3, 2, ceil_mode=True),
    "2x2": nn.AvgPool2d(2),
}
NETWORKS = {"cuda": (preact_resnet18, wrn_34_10, vgg16_bn, dla, dpn26), "cpu": (preact_tiny,)}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ROUNDING = 1e-10
"""Difference of two gradients in float64, over their norm, that rounding may make."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--json", type=Path, help="file for differences and faults")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    pools = {name: examined(pool, device) for name, pool in POOLS.items()}
    networks = {make.__name__: fault_of(make, device) for make in NETWORKS[options.device]}
    if options.json:
        options.json.write_text(json.dumps({"pools": pools, "networks": networks}, indent=1) + "\n")
    rows = [[name, *map("{:.1e}".format, each["differences"].values()), each["fault"]] for name, each in pools.items()]
    print(table(["avg_pool2d", *FORMATS, "fault that buttress names"], rows))
    print(*(f"{name}: {fault or 'equal in both layouts'}" for name, fault in networks.items()), sep="\n")
    wrong = [name for name, each in pools.items() if not each["as_expected"]]
    wrong += [name for name, fault in networks.items() if fault]
    if wrong:
        print(f"not as expected: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


def examined(pool: nn.Module, device: torch.device) -> dict[str, Any]:
    """Differences from the CPU's gradient over its norm, by layout; the fault that is named; whether both agree."""
    x = torch.rand(2, 16, 9, 9, dtype=torch.float64)
    direction = torch.randn_like(pool(x))
    truth = gradient(pool, x, direction)
    differences = {}
    for name, layout in FORMATS.items():
        given = x.to(device).contiguous(memory_format=layout)
        grad = gradient(pool, given, direction.to(device).contiguous(memory_format=layout)).cpu()
        differences[name] = float((grad - truth).norm() / truth.norm())
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), pool, nn.Flatten(), nn.LazyLinear(10)).to(device)
    image = torch.rand(2, 3, 9, 9, device=device)
    network(image)  # makes the weights of its last layer
    fault = compared(network, image).fault
    wrong = {name: difference > ROUNDING for name, difference in differences.items()}
    as_expected = not wrong["contiguous"] and wrong["channels_last"] == bool(fault)
    return {"differences": differences, "fault": fault, "as_expected": as_expected}


def gradient(pool: nn.Module, x: Tensor, direction: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(pool(x), x, direction)
    return grad


def fault_of(make: Any, device: torch.device) -> str:
    """The fault that buttress names in a built-in network, or an empty text."""
    return compared(make(in_channels=3, num_classes=10).to(device), torch.rand(2, 3, 32, 32, device=device)).fault


if __name__ == "__main__":
    sys.exit(main())
