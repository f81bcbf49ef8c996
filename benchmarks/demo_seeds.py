"""The demo over several seeds (initial weights, split, label noise, order and starts all change): mean and deviation.

One process a run; a run folder that exists is read and not trained again, so an interrupted measurement continues.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from common import facts, write

from buttress.tables import table

COLUMNS = ("clean_best", "clean_last", "robust_best", "robust_last", "robust_diff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        summary = options.runs / "demo" / f"seed-{seed}" / "summary.json"
        if not summary.exists():
            words = ["train", options.config, f"seed={seed}", "evaluation.train=false", *options.overrides]
            words += ["--runs", str(options.runs), "--run", f"seed-{seed}"]
            command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for row in json.loads(summary.read_text())["tracks"]:
            found.setdefault(row["track"], []).append(row)
    live = [row["robust_last"] for row in found["live"]]

    def cell(values: list[float]) -> str:
        return f"{100 * mean(values):.1f} +- {100 * stdev(values):.1f}"

    rows = [
        [
            track,
            *(cell([row[column] for row in each]) for column in COLUMNS),
            cell([row["robust_last"] - base for row, base in zip(each, live, strict=True)]) if track != "live" else "0",
        ]
        for track, each in found.items()
    ]
    header = ["track", "clean best", "clean last", "robust best", "robust last", "diff", "last minus live, paired"]
    print(table(header, rows))
    n = found["live"][0]["n"]
    print(f"\nTest accuracies in %, n = {n}, {options.seeds} seeds, mean +- standard deviation; best on validation.")
    write(options.json, facts(benchmark="demo_seeds", config=options.config, seeds=options.seeds, tracks=found))


if __name__ == "__main__":
    main()
