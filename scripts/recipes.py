"""Write the recipes under configs/, which the modules of ``lineages`` make; a test compares the files with them.

``python scripts/recipes.py`` writes them; ``--methods`` lists those that ``make compare`` trains instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lineages import (
    digits,
    kd_swa,
    meat,
    mnist5k,
    photos,
    piat,
    pretraining,
    ro,
    self_training,
    single_step,
    synthetic,
    tables,
    trades,
    vit,
)

CONFIGS = Path(__file__).parent.parent / "configs"
LINEAGES = (
    ro,
    meat,
    trades,
    self_training,
    piat,
    single_step,
    vit,
    pretraining,
    kd_swa,
    digits,
    synthetic,
    mnist5k,
    photos,
    tables,
)


def all_recipes() -> dict[Path, str]:
    """Path below configs/ to text."""
    return {Path(f"{recipe.path}.yaml"): recipe.text for lineage in LINEAGES for recipe in lineage.recipes()}


def measured() -> list[Path]:
    """Paths below configs/ of the recipes that ``make compare`` trains, in its order."""
    return [Path(f"{recipe.path}.yaml") for recipe in digits.measured()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the recipes under configs/.")
    parser.add_argument("--methods", action="store_true", help="list the recipes that `make compare` trains instead")
    if parser.parse_args().methods:
        sys.stdout.writelines(f"{CONFIGS.name}/{path.as_posix()}\n" for path in measured())
        return
    for path, content in all_recipes().items():
        (CONFIGS / path).parent.mkdir(parents=True, exist_ok=True)
        (CONFIGS / path).write_text(content, encoding="utf-8")
    sys.stdout.write(f"{len(all_recipes())} recipes in {CONFIGS.name}/\n")


if __name__ == "__main__":
    main()
