"""Write the measurements into docs/speed.md; a test compares the page with this.

The parts ``<!-- generated: steps FILE -->`` and ``<!-- generated: peers FILE -->`` of the page are the tables of these
files of results; the rest is by hand. ``make speed`` measures again and writes both.
"""

import json
from collections.abc import Mapping
from typing import Any

from generated import filled, table
from method_results import ROOT

PAGE, RESULTS = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results"
STACKS = {
    "pgd-at": "PGD-AT",
    "trades": "TRADES",
    "trades-awp": "TRADES-AWP",
    "rwp": "RWP, 10 inner steps",
    "amp": "AMP",
}
SETTINGS = {
    "public, channels_last": "public code, channels_last",
    "float32": "float32",
    "channels_last": "channels_last",
    "bf16": "bf16",
    "bf16-attack": "bf16 attack, float32 train",
    "compile": "compiled",
    "bf16-compile": "bf16, compiled",
}


def page() -> str:
    """The page's text with its tables as measured."""
    return filled(PAGE.read_text(encoding="utf-8"), {"steps": steps, "peers": peers})


def steps(file: str) -> str:
    """A table of all stacks, with the ratios of all settings that were measured."""
    result = _read(file)
    stacks = result["stacks"]
    columns = [key for key in SETTINGS if all(key in each["median_of_ratios"] for each in stacks.values())]
    rows = [
        [
            STACKS[name],
            f"{each['times']['public']['median_s']:.2f} s",
            *(f"{each['median_of_ratios'][key]:.2f}" for key in columns),
        ]
        for name, each in stacks.items()
    ]
    rounds = min(len(each["times"]["public"]["rounds_s"]) for each in stacks.values())
    heads = ["method", "public code", *(SETTINGS[key] for key in columns)]
    return f"{table(heads, rows)}\n\n{_circumstances(result, file, rounds)}"


def peers(file: str) -> str:
    """A table of the attack alone, by each library."""
    result = _read(file)
    rows = [
        [
            " ".join([name, result["versions"].get(name, "")]).strip(),
            f"{each['median_s']:.2f} s",
            f"{each['ratio']:.2f}",
            f"{each['largest_difference']:.0e}",
        ]
        for name, each in result["attacks"].items()
    ]
    rounds = min(len(each["rounds_s"]) for each in result["attacks"].values())
    missing = "".join(f" {name} did not install." for name in result["missing"])
    heads = ["attack", "a batch", "over buttress, float32", "largest difference"]
    return f"{table(heads, rows)}\n\n{_circumstances(result, file, rounds)}{missing}"


def _circumstances(result: Mapping[str, Any], file: str, rounds: int) -> str:
    count = result["threads"]
    threads = "1 thread, seconds of that thread" if count == 1 else f"{count} threads"
    torch = result["torch"].partition("+")[0]
    machine = f"{result['cpu']} with {result['cpu_capability']}, torch {torch}, average load {result['load']:.1f}"
    numbers = f"[every number](../benchmarks/results/{file})"
    return f"{rounds} rounds, {threads}; {machine} ({numbers})."


def _read(file: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    return result


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
