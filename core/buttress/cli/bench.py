"""The verb ``bench``."""

from __future__ import annotations

from pathlib import Path

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import FILE, NUMBER, config_arguments, json_option, trust_option
from buttress.cli.processes import expect_one_process
from buttress.cli.verb import option, verb


@verb(imports_torch=True)
@config_arguments
@option("--rounds", type=NUMBER, metavar="N", default=7, help="number of rounds that count")
@option("--warmup", type=NUMBER, metavar="N", default=2, help="number of rounds before, which do not count")
@option("--epoch", type=NUMBER, metavar="N", default=0, help="0-based epoch whose schedules hold")
@option("--picture", type=FILE, metavar="FILE.png", help="file to draw the times into, as bars")
@trust_option("a config in a run folder")
@json_option
def bench(
    config: Path,
    overrides: tuple[str, ...],
    rounds: int,
    warmup: int,
    epoch: int,
    picture: Path | None,
    trust: bool,
    as_json: bool,
) -> str:
    """Measure the speed of a config on this machine, phase by phase, beside a hand-written loop."""
    expect_one_process("bench")
    from buttress.benching.bench import BenchOptions
    from buttress.benching.bench import bench as measure
    from buttress.benching.picture import draw_speed, expect_picture
    from buttress.benching.speed_text import speed_text
    from buttress.config.file import load_config

    options = BenchOptions(rounds, warmup, epoch)
    if picture is not None:
        expect_picture(picture)
    with reporter_aside("loading data and model") as reporter:
        speed = measure(load_config(config, overrides, trust=trust), options, reporter)
    if picture is not None:
        draw_speed(picture, speed)
    return json_answer(speed.to_json()) if as_json else speed_text(speed)
