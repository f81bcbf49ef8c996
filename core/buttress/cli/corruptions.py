"""The verb ``corruptions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import FOLDER, NUMBER, json_option, subject_arguments, trust_option
from buttress.cli.verb import option, verb

if TYPE_CHECKING:
    from buttress.evaluation.subject import ModelUnderAttack


@verb(imports_torch=True)
@subject_arguments
@option(
    "--images",
    type=FOLDER,
    required=True,
    metavar="FOLDER",
    help="folder of labels.npy and of NAME.npy for each corruption, in the layout of CIFAR-10-C",
)
@option(
    "--corruption",
    "chosen",
    multiple=True,
    metavar="NAME",
    show_default="the fifteen of the benchmark",
    help="corruption to measure: fog; may be repeated",
)
@option(
    "--examples",
    type=NUMBER,
    metavar="N",
    show_default="all",
    help="number of examples of each severity to use, the same ones every time",
)
@option(
    "--output",
    type=FOLDER,
    metavar="FOLDER",
    show_default="corruptions/ in the run, or beside the file",
    help="folder for the results",
)
@trust_option()
@json_option
def corruptions(
    subject: Path,
    overrides: tuple[str, ...],
    config: Path | None,
    track: str | None,
    checkpoint: str | None,
    key: str | None,
    images: Path,
    chosen: tuple[str, ...],
    examples: int | None,
    output: Path | None,
    trust: bool,
    as_json: bool,
) -> str:
    """Measure the accuracy of weights on images with common corruptions."""
    from buttress.evaluation.corruptions import measure_corruptions
    from buttress.evaluation.subject import load_subject

    with reporter_aside("loading data and weights") as reporter:
        loaded = load_subject(
            subject, overrides=overrides, config=config, track=track, checkpoint=checkpoint, key=key, trust=trust
        )
        result = measure_corruptions(loaded, images, chosen, examples=examples, output=output, reporter=reporter)
    return json_answer(result) if as_json else _table(result, loaded)


def _table(result: dict[str, Any], subject: ModelUnderAttack) -> str:
    """Accuracy by corruption and severity, with the means."""
    from buttress.console.tables import fitted, percent

    rows = [
        [name, *(percent(share["accuracy"]) for share in shares), percent(_mean(shares))]
        for name, shares in result["corruptions"].items()
    ]
    header = ["accuracy %, by severity", *map(str, range(1, len(rows[0]) - 1)), "mean"]
    n = next(iter(result["corruptions"].values()))[0]["n"]
    return (
        f"{subject}, images of {result['folder']}, {n} of each severity, {result['precision']}\n\n"
        f"{fitted(header, rows, names=1)}\n\n"
        f"mean over {len(rows)} corruptions: {percent(result['mean'])} %\n"
        f"written to {Path(result['files'][0]).parent}"
    )


def _mean(shares: list[dict[str, float]]) -> float:
    return sum(share["accuracy"] for share in shares) / len(shares)
