"""Write tables of measurements and of the budgets of CUDA kernels into docs/kernels.md; a test compares the two.

The parts ``<!-- generated: medians FILE -->`` and ``<!-- generated: perturbations FILE -->`` of the page are tables of
a file that ``benchmarks/cuda_budget.py --json`` wrote, ``<!-- generated: rows FILE -->`` one of ``bench_median.py
--json`` and of its run on two threads; the rest is by hand.
"""

import json
from typing import Any

from generated import filled, table
from method_results import ROOT

PAGE, RESULTS = ROOT / "docs" / "kernels.md", ROOT / "benchmarks" / "results"
BOUNDS = {"copy": "memory", "logic": "min, max and selections", "issue": "the issue of instructions"}


def page() -> str:
    """The page's text with its tables as computed."""
    return filled(PAGE.read_text(encoding="utf-8"), {"medians": medians, "perturbations": perturbations, "rows": rows})


def medians(file: str) -> str:
    """A table of the median, by dtype and number of rows."""
    rows = [
        [
            each["dtype"],
            str(each["rows"]),
            str(each["registers"]),
            str(each["warps"]),
            str(each["bytes"]),
            f"{each['instructions']['logic']:.0f}",
            f"{each['instructions']['issue']:.0f}",
            f"{each['share']:.2f}",
            f"{each['in turn']:.2f}",
            BOUNDS.get(each["bound"], each["bound"]),
        ]
        for each in _read(file)["median"]
        if each["dtype"] != "float16"
    ]
    heads = [
        "dtype",
        "N",
        "registers",
        "warps",
        "bytes",
        "min, max, ...",
        "instructions",
        "share",
        "in turn",
        "bound by",
    ]
    return table(heads, rows)


def perturbations(file: str) -> str:
    """A table of the perturbations, and a line about all kernels."""
    result = _read(file)
    rows = [
        [
            f"`{each['operation']}`",
            str(each["launches"]),
            str(each["registers"]),
            str(each["bytes"]),
            f"{each['share']:.2f}",
            f"{each['in turn']:.2f}",
        ]
        for each in result["perturbations"]
    ]
    stacks = len(result["with a stack"]) or "none"
    most = " and ".join(f"{count} on {arch}" for arch, count in result["most registers"].items() if arch)
    total = f"Compiled are {result['kernels']} kernels, of which {stacks} has a stack. Registers: at most {most}."
    heads = ["operation", "launches", "registers", "bytes", "share", "in turn"]
    return f"{table(heads, rows)}\n\n{total}"


def rows(file: str) -> str:
    """A table of the median on the CPU, by number of rows and their places, on one thread and on two."""
    one, two = _read(file)["results"], _read(file.replace("1thread", "2threads"))["results"]
    heads = ["N", "inputs in memory", "ns an element", "share of the limit", "over `torch.stack().median(0)`"]
    heads += ["over the best peer", "2 threads: ns", "share", "over one thread"]
    lines = []
    for own, other in zip(one, two, strict=True):
        assert (own["n"], own["placed"]) == (other["n"], other["placed"])
        ns = own["ns"]
        peers = [time for name, time in ns.items() if name in ("chunked torch.median", "numpy.partition")]
        lines.append(
            [
                str(own["n"]),
                own["placed"],
                f"{ns['compiled']:.1f}",
                f"{own['share_of_limit']:.2f}",
                f"{ns['torch.stack().median(0)'] / ns['compiled']:.0f}x",
                f"{min(peers) / ns['compiled']:.0f}x",
                f"{other['ns']['compiled']:.1f}",
                f"{other['share_of_limit']:.2f}",
                f"{ns['compiled'] / other['ns']['compiled']:.1f}x",
            ]
        )
    return table(heads, lines)


def _read(file: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    return result


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
