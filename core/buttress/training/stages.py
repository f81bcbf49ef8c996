"""Stages of a run: consecutive epochs whose steps cost the same, as far as the schedules of settings tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from buttress.components.curves import curves_of
from buttress.components.loaded import LoadedPlugin


def stages_of(plugins: Sequence[LoadedPlugin], epochs: int) -> list[range]:
    """The stages of a run of ``epochs``, which is one stage where no setting is a schedule over epochs.

    A number of steps costs what it is; another number, such as a weight, costs whether it is zero.
    """
    curves = [curve for plugin in plugins for curve in curves_of(plugin.plugin).values()]

    def costs(epoch: int) -> list[Any]:
        values = [curve.at(epoch, epochs) for curve in curves]
        return [value if isinstance(value, (int, str)) else bool(value) for value in values]

    stages = [list(group) for _, group in groupby(range(epochs), costs)]
    return [range(stage[0], stage[-1] + 1) for stage in stages]
