"""The verb ``evaluate``."""

from __future__ import annotations

from pathlib import Path

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import FOLDER, NUMBER, WordType, json_option, part_of, subject_arguments, trust_option
from buttress.cli.verb import option, verb


@verb(imports_torch=True)
@subject_arguments
@option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="ATTACK",
    show_default="fgsm and the attack of the config",
    help="clean, fgsm, pgd-K, or YAML like 'pgd: {steps: 50, restarts: 3}'; may be repeated: each attacks the examples "
    "that withstood those before it",
)
@option("--split", type=WordType(["test", "validation", "train"]), default="test", help="split of the data to use")
@option(
    "--examples",
    type=NUMBER,
    metavar="N",
    show_default="all",
    help="number of examples to use, the same ones for a split and N every time",
)
@option("--each", is_flag=True, help="let each attack see every example, also those that an earlier one fooled")
@option(
    "--output",
    type=FOLDER,
    metavar="FOLDER",
    show_default="eval/ in the run, or beside the file",
    help="folder for the results",
)
@option(
    "--shard",
    metavar="I/N",
    show_default="1/1",
    help="attack the I-th of N parts of the batches, for N jobs that share FOLDER; the last to finish writes the "
    "result",
)
@trust_option()
@json_option
def evaluate(
    subject: Path,
    overrides: tuple[str, ...],
    config: Path | None,
    attacks: tuple[str, ...],
    track: str | None,
    checkpoint: str | None,
    key: str | None,
    split: str,
    examples: int | None,
    each: bool,
    output: Path | None,
    shard: str | None,
    trust: bool,
    as_json: bool,
) -> str:
    """Measure the accuracy of weights under attack."""
    from buttress.evaluation.assess import assess_shard
    from buttress.evaluation.result_table import result_table
    from buttress.evaluation.subject import load_subject
    from buttress.scoring.cells import Shard

    part, parts = (1, 1) if shard is None else part_of(shard, "--shard")
    with reporter_aside("loading data and weights") as reporter:
        loaded = load_subject(
            subject, overrides=overrides, config=config, track=track, checkpoint=checkpoint, key=key, trust=trust
        )
        outcome = assess_shard(
            loaded,
            attacks,
            split,
            shard=Shard(part - 1, parts),
            examples=examples,
            each=each,
            output=output,
            reporter=reporter,
        )
    if as_json:
        return json_answer(outcome.to_json())
    if outcome.result is None or outcome.standing != "completed":
        return outcome.line
    return result_table(outcome.result, loaded)
