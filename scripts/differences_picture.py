"""Draw docs/images/comparison_differences.png from the recorded comparisons of the recipes on label-noise digits.

It is the picture ``differences.png`` of a comparison, of several comparisons at once: each row beside its own baseline.
"""

from typing import Any

import yaml
from method_results import ROOT, read

from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.comparing.differences import Differences, differences_of, draw_differences
from buttress.comparing.groups import groups_of

PICTURE = ROOT / "docs" / "images" / "comparison_differences.png"


def rows_of(file: str) -> tuple[list[str], list[Differences]]:
    """The attacks of a recorded comparison, and the differences of its rows."""
    result = read(file)
    rows = [ComparedTrack(row["method"], row["track"], row["n"], row["seeds"]) for row in result["rows"]]
    comparison = Comparison(result["attacks"], rows, {}, result["baselines"], result["best_by"])
    configs = {row.label: config_of(row.label) for row in rows}
    return comparison.attacks, differences_of(comparison, groups_of(comparison, configs))


def config_of(label: str) -> dict[str, Any]:
    """The recipe of a label such as ``digits-at``."""
    config: dict[str, Any] = yaml.safe_load(
        (ROOT / "configs" / f"{label.replace('-', '/', 1)}.yaml").read_text(encoding="utf-8")
    )
    return config


if __name__ == "__main__":
    attacks, rows = rows_of("compare-digits.json")
    _, later = rows_of("compare-digits-apgd.json")
    draw_differences(PICTURE, [*rows, *(row for row in later if row.name == "apgd")], attacks, "PGD-AT")
