"""Measurements on label-noise digits, as tables: a method's for ``method_pages.py``, all for ``results_page.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from generated import table

from buttress.console.tables import percent

ROOT = Path(__file__).parent.parent

# Plugins that nearly every recipe on digits uses beside its method; ensembles evaluated beside the live model.
COMMON = {"pgd"}
TRACKS = {"meat", "ema", "swa", "fawa"}
# The methods of the baseline, plain PGD-AT.
BASELINE = {"pgd", "cross_entropy"}

PAIRED = "last minus the first row, paired"

COMPARED = {
    "clean last": "clean last",
    "PGD-20 best": "pgd-20 best",
    "PGD-20 last": "pgd-20 last",
    "best - last": "pgd-20 diff",
    "CW-inf last": "pgd-20-margin last",
}

RESULTS: list[dict[str, Any]] = [
    {
        "file": "compare-digits.json",
        "command": "`make compare`",
        "columns": COMPARED,
    },
    {
        "file": "compare-digits-apgd.json",
        "command": "`buttress compare configs/digits/at.yaml configs/digits/apgd.yaml`, later and on another processor",
        "columns": COMPARED,
        "only": {"apgd"},
        "remark": "measured later",
    },
    {
        "file": "compare-digits-stages.json",
        "command": "`make compare-stages`, all on one split",
        "columns": COMPARED,
        "remark": "one split",
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
        "remark": "5 seeds",
    },
]


def digits(name: str, _: str) -> str:
    """A table for each file of results that has the method."""
    parts = [part for result in RESULTS if (part := _measured(name, result))]
    return "\n\n".join(parts) or "Not measured on digits yet; `make compare` measures it."


def summary(name: str) -> str:
    """A cell about the row that has the method and the fewest others: PGD-20 last, difference to PGD-AT, remarks.

    It is ``-`` where the method is not measured.
    """
    rows = [
        (len(remarks), order, row, result, remarks)
        for order, result in enumerate(RESULTS)
        for row in read(result["file"])["rows"]
        if (remarks := _others(row, name)) is not None and name in result.get("only", {name})
    ]
    if not rows:
        return "-"
    _, _, row, result, remarks = min(rows, key=lambda each: each[:2])
    baseline, *_ = read(result["file"])["rows"]
    [last] = _cells(row, {"PGD-20 last": "pgd-20 last"})
    return "<br>".join([last, _paired(row, baseline), *remarks, *([result["remark"]] if "remark" in result else [])])


def _others(row: Mapping[str, Any], name: str) -> list[str] | None:
    """Remarks about what a row has beside the method and the baseline's plugins; None where it has not the method."""
    stack = _stack(row)
    if name not in stack and name != "cross_entropy":
        return None
    others = [f"with `{each}`" for each in stack if each != name and each not in BASELINE]
    return [*others, *_particulars(row)]


def _measured(name: str, result: Mapping[str, Any]) -> str:
    """One file's rows that have the method, after the baseline's, and its settings; empty where none has.

    A file with ``only`` is shown on the pages of these methods, and not on those of the baseline.
    """
    if name not in result.get("only", {name}):
        return ""
    file, command, columns = result["file"], result["command"], result["columns"]
    result = read(file)
    baseline, *_ = result["rows"]
    rows, settings, shown = [], [], []
    for row in result["rows"]:
        stack = _stack(row)
        if name in (set(stack) - COMMON or BASELINE) or row is baseline:
            shown.append(row)
            rows.append([_link(row, stack, "../../configs"), *_cells(row, columns), _paired(row, baseline)])
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
    return f"{text}\n\n{table(['stack', *columns, PAIRED], rows)}{made}{_fewer(shown, n)}"


def _fewer(rows: Sequence[Mapping[str, Any]], n: int) -> str:
    """A sentence about the rows that were tested on another number of examples than n; empty where none was."""
    fewer = sorted({row["n"] for row in rows if row.get("n", n) != n})
    if not fewer:
        return ""
    numbers = " or ".join(f"{each:,}" for each in fewer)
    return (
        f"\n\nRecipes with extra examples take them from the test images: n = {numbers} there, other images than those "
        "of the first row."
    )


def every_stack(file: str) -> str:
    """A table of all rows of a comparison, in its order."""
    baseline, *_ = rows = read(file)["rows"]
    lines = [
        [_link(row, _stack(row), "../configs"), f"{row['n']:,}", *_cells(row, COMPARED), _paired(row, baseline)]
        for row in rows
    ]
    return table(["stack", "n", *COMPARED, PAIRED], lines)


@cache
def read(file: str) -> dict[str, Any]:
    """A recorded comparison, a file of ``benchmarks/results``."""
    result: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
    return result


def _cells(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    return [_cell(values[column] for values in row["seeds"].values()) for column in columns.values()]


def _config(row: Mapping[str, Any]) -> str:
    folder, _, recipe = row["method"].rpartition("-")
    return f"{folder}/{recipe}" if folder else recipe


def _path(row: Mapping[str, Any]) -> Path:
    return ROOT / "configs" / f"{_config(row)}.yaml"


def _stack(row: Mapping[str, Any]) -> list[str]:
    """The plugins that have a part in a row: of the ensembles beside the live model, the row's own alone."""
    listed = plugins_of(_path(row))
    return [name for name in listed if name not in TRACKS or name == row["track"]]


def _settings(row: Mapping[str, Any], name: str) -> list[str]:
    """The method's line in the row's config, if it has settings there."""
    lines = _path(row).read_text(encoding="utf-8").splitlines()
    return [f"`{line.removeprefix('  - ')}`" for line in lines if line.startswith(f"  - {name}: ")]


def _link(row: Mapping[str, Any], stack: Sequence[str], configs: str) -> str:
    return f"[{', '.join([' + '.join(stack), *_particulars(row)])}]({configs}/{_config(row)}.yaml)"


def _particulars(row: Mapping[str, Any]) -> list[str]:
    """Words for another network than that of the other recipes, for weights of another run, for a file of images."""
    config = yaml.safe_load(_path(row).read_text(encoding="utf-8"))
    model, extra = config["model"], config["data"].get("extra", {})
    network = [model["arch"].partition("_")[0]] if "arch" in model else []
    images = [f"{extra['share']:.0%} of {Path(extra['file']).name}"] if "file" in extra else []
    return [*network, *(["pre-trained"] if "weights" in model else []), *images]


def _paired(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    if row is baseline:
        return "0"

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
