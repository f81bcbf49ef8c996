"""The table that ``buttress evaluate`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttress.console.tables import fitted, percent
from buttress.evaluation.subject import ModelUnderAttack


def result_table(result: Mapping[str, Any], subject: ModelUnderAttack) -> str:
    """The result as a table."""
    each = result["each"]
    rows = [
        [
            row["attack"],
            row["attacked"],
            row["wrong"],
            *_percent(row if each else row["left"]),
            row["n"],
            f"{row['seconds']:.1f}",
        ]
        for row in result["attacks"]
    ]
    header = ["attack", "attacked", "wrong", "accuracy %" if each else "left %", "95 % interval", "n", "seconds"]
    accuracy, spread = _percent(result["worst"])
    note = "" if each else "\nleft: right without an attack and under all attacks so far"
    some = "" if result["n"] == result["split_size"] else f" ({result['n']} of {result['split_size']} examples)"
    setting = f"{result['threat']}, {result['precision']}, seed {result['seed']}"
    return (
        f"{subject}, {result['split']} split{some}, {setting}\n\n"
        f"{fitted(header, rows, names=1)}{note}\n\n"
        f"worst case: {accuracy} % ({spread}, n = {result['n']})\nwritten to {result['file']}"
    )


def _percent(row: Mapping[str, Any]) -> tuple[str, str]:
    return percent(row["accuracy"]), f"{percent(row['low'])} to {percent(row['high'])}"
