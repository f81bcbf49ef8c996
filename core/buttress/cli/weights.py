"""Verbs that write weights: ``export``, ``ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from buttress.cli.answer import json_answer
from buttress.cli.options import (
    FILE,
    FOLDER,
    WordType,
    checkpoint_option,
    json_option,
    run_argument,
    track_option,
    trust_option,
)
from buttress.cli.verb import option, verb


@verb(imports_torch=True)
@run_argument
@track_option
@checkpoint_option("best")
@option("--output", type=FOLDER, required=True, metavar="FOLDER", help="folder to make")
@trust_option()
@json_option
def export(run: Path, track: str, checkpoint: str, output: Path, trust: bool, as_json: bool) -> str:
    """Write a run's model, with its card, for people without buttress."""
    from buttress.console.tables import table
    from buttress.exporting.export import export_run

    digests = export_run(run, output, track, checkpoint, trust=trust)
    if as_json:
        return json_answer({"folder": str(output), "sha256": digests})
    return (
        f"{output}\n\n{table(['file', 'sha256'], list(digests.items()))}\n\n"
        "robustbench.json: link, name, authors and venue are yours to fill in"
    )


@verb(imports_torch=True)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...", help="files of weights of one model")
@option("--output", type=FILE, required=True, metavar="FILE", help="safetensors file to write")
@option(
    "--method",
    type=WordType(["median", "mean", "trimmed-mean", "geometric-median"]),
    default="median",
    help="method of combining: element by element, or geometric-median of the files as whole vectors",
)
@option(
    "--even",
    type=WordType(["lower", "upper", "mean"]),
    show_default="lower",
    help="middle value that is the median of an even number of files",
)
@option(
    "--trim",
    type=float,
    metavar="SHARE",
    show_default="0.1",
    help="share of the files that the trimmed mean leaves out at each end",
)
@option(
    "--reestimate",
    type=FILE,
    metavar="CONFIG|RUN",
    help="config or run whose model and training inputs the batch-norm statistics are measured on afresh",
)
@option(
    "--dtype",
    type=WordType(["float32", "float16", "bfloat16", "float64"]),
    show_default="that of the files",
    help="dtype of the result; the files may then differ in dtype",
)
@option("--key", metavar="KEY", help="key of the weights in files that hold several sets, such as model_ema")
@trust_option()
def ensemble(
    files: tuple[Path, ...],
    output: Path,
    method: Literal["median", "mean", "trimmed-mean", "geometric-median"],
    even: Literal["lower", "upper", "mean"] | None,
    trim: float | None,
    reestimate: Path | None,
    dtype: str | None,
    key: str | None,
    trust: bool,
) -> str:
    """Combine several weights files into one."""
    import torch

    from buttress.ensemble import ensemble as combine

    made = combine(
        files,
        output,
        method=method,
        even=even,
        trim=trim,
        source=reestimate,
        trust=trust,
        dtype=getattr(torch, dtype) if dtype else None,
        key=key,
    )
    lines = [f"{method} of {made.facts['n']} files, written to {output}"]
    if reestimate is not None:
        lines.append(f"batch norm re-estimated on the training inputs of {reestimate}")
    return "\n".join(lines + [f"note: {note}" for note in made.notes])
