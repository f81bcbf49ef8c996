"""Every row of every table of five papers as a recipe below configs/papers/, in the setting of that paper.

    row      a row: its recipe, and its numbers as printed
    meat     Hu et al.: the comparison on WRN-34-10, and the ablation
    piat     Liu et al.: ResNet-18, WRN-32-10, regularisers alone, vision transformers
    amp      Yan et al.: data sets and norms, attacks on WRN-34-10, regularisers
    rwp      Yu et al.: data sets and norms, attacks on wide residual networks
    rat      Nguyen et al.: data sets and networks, TRADES by layer groups, sweeps over layer groups

Settings come from the other lineages; a module here holds numbers, and says which settings belong to which row.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..recipe import Recipe
from . import amp, meat, piat, rat, rwp


def recipes() -> Iterator[Recipe]:
    for paper in (meat, piat, amp, rwp, rat):
        yield from paper.recipes()
