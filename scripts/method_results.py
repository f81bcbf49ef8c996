"""Measurements of a method on label-noise digits, as a table for ``method_pages.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from generated import table

from buttress.console.tables import percent

ROOT = Path(__file__).parent.parent

# Plugins that nearly every recipe on digits uses beside its method; ensembles evaluated beside the live model.
COMMON = {"pgd"}
TRACKS = {"meat", "ema", "swa"}
# The methods of the baseline, plain PGD-AT.
BASELINE = {"pgd", "cross_entropy"}

RESULTS: list[dict[str, Any]] = [
    {
        "file": "compare-digits.json",
        "command": "`make compare`",
        "columns": {
            "clean last": "clean last",
            "PGD-20 best": "pgd-20 best",
            "PGD-20 last": "pgd-20 last",
            "best - last": "pgd-20 diff",
            "CW-inf last": "pgd-20-margin last",
        },
    },
    {
        "file": "demo-seeds.json",
        "command": "the config of `make demo`",
        "columns": {
            "clean best": "clean best",
            "clean last": "clean last",
            "PGD-20 best": "pgd-20 best",
            "PGD-20 last": "pgd-20 last",
            "best - last": "pgd-20 diff",
        },
    },
]


# Methods without a recipe on digits.
UNMEASURED = {"kd": "Not measured on digits yet: it needs the weights of two other runs, which its recipe names."}


def digits(name: str, _: str) -> str:
    """A table for each file of results that has the method."""
    parts = [part for result in RESULTS if (part := _measured(name, **result))]
    return "\n\n".join(parts) or UNMEASURED.get(name, "Not measured on digits yet; `make compare` measures it.")


def _measured(name: str, file: str, command: str, columns: Mapping[str, str]) -> str:
    """One file's rows that have the method, after the baseline's, and its settings; empty where none has."""
    result = json.loads((ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
    baseline, *_ = result["rows"]
    rows, settings = [], []
    for row in result["rows"]:
        stack = _stack(row)
        if name in (set(stack) - COMMON or BASELINE) or row is baseline:
            cells = [_cell(values[column] for values in row["seeds"].values()) for column in columns.values()]
            rows.append([_link(row, stack), *cells, "0" if row is baseline else _paired(row, baseline)])
            settings += _settings(row, name)
    if len(rows) == 1 and name not in BASELINE:
        return ""
    n = baseline.get("n", result.get("n"))
    text = (
        f"Label-noise digits ({command}; {len(result['seeds'])} seeds, n = {n:,} test images, L-inf eps 1/10, best "
        f"epochs chosen on {result['best_by']}; mean +- standard deviation over seeds in %; "
        f"[every number](../../benchmarks/results/{file})):"
    )
    made = f"\n\nWith {' and '.join(dict.fromkeys(settings))}." if settings else ""
    return f"{text}\n\n{table(['stack', *columns, 'last minus the first row, paired'], rows)}{made}"


def _config(row: Mapping[str, Any]) -> str:
    folder, _, recipe = row["method"].rpartition("-")
    return f"{folder}/{recipe}" if folder else recipe


def _stack(row: Mapping[str, Any]) -> list[str]:
    """The plugins that have a part in a row: of the ensembles beside the live model, the row's own alone."""
    listed = plugins_of(ROOT / "configs" / f"{_config(row)}.yaml")
    return [name for name in listed if name not in TRACKS or name == row["track"]]


def _settings(row: Mapping[str, Any], name: str) -> list[str]:
    """The method's line in the row's config, if it has settings there."""
    lines = (ROOT / "configs" / f"{_config(row)}.yaml").read_text(encoding="utf-8").splitlines()
    return [f"`{line.removeprefix('  - ')}`" for line in lines if line.startswith(f"  - {name}: ")]


def _link(row: Mapping[str, Any], stack: Sequence[str]) -> str:
    return f"[{' + '.join(stack)}](../../configs/{_config(row)}.yaml)"


def _paired(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    def last(one: Mapping[str, Any], seed: str) -> float:
        return float(one["seeds"][seed]["pgd-20 last"])

    return _cell((last(row, seed) - last(baseline, seed) for seed in row["seeds"]), sign=True)


def _cell(values: Iterable[float], sign: bool = False) -> str:
    some = list(values)
    return f"{percent(mean(some), sign=sign)} +- {percent(stdev(some))}"


def plugins_of(config: Path) -> list[str]:
    """Names of the plugins that a config lists."""
    entries = yaml.safe_load(config.read_text(encoding="utf-8"))["plugins"]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
