"""The verb ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import (
    FOLDER,
    NUMBER,
    WordType,
    json_option,
    part_of,
    processes_option,
    subject_arguments,
    trust_option,
)
from buttress.cli.processes import refusal, start_processes
from buttress.cli.verb import option, verb
from buttress.console.output import notice

if TYPE_CHECKING:
    from buttress.engine.joining import Launch
    from buttress.evaluation.shard_outcome import ShardOutcome
    from buttress.evaluation.subject import ModelUnderAttack
    from buttress.scoring.cells import Shard


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
    show_default="1/1, or the rank among the processes of torchrun or srun",
    help="attack the I-th of N parts of the batches, for N jobs that share FOLDER; the last to finish writes the "
    "result",
)
@processes_option
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
    processes: int | None,
    trust: bool,
    as_json: bool,
) -> str:
    """Measure the accuracy of weights under attack."""
    from buttress.engine.joining import Launch
    from buttress.errors import ButtressError, ConfigError
    from buttress.evaluation.assess import assess_shard
    from buttress.evaluation.subject import load_subject

    if processes is not None and shard is None:
        return start_processes(processes)
    launch = Launch.of()
    if processes is not None:
        raise ConfigError(
            f"--processes {processes} gives each process its shard; leave one out", key=f"--shard {shard!r}"
        )
    own = _shard(shard, launch)
    try:
        with reporter_aside("loading data and weights", silent=launch.rank > 0) as reporter:
            loaded = load_subject(
                subject, overrides=overrides, config=config, track=track, checkpoint=checkpoint, key=key, trust=trust
            )
            outcome = assess_shard(
                loaded,
                attacks,
                split,
                shard=own,
                examples=examples,
                each=each,
                output=output,
                reporter=reporter,
            )
    except ButtressError as problem:
        if launch.size > 1:
            problem.rank = launch.rank
        raise
    return _answer(outcome, loaded, launch, as_json)


def _shard(text: str | None, launch: Launch) -> Shard:
    """The shard that ``--shard`` names, or that this process has among those of torchrun or srun."""
    from buttress.scoring.cells import Shard

    if launch.size == 1:
        part, parts = (1, 1) if text is None else part_of(text, "--shard")
        return Shard(part - 1, parts)
    if text is not None:
        raise refusal(
            launch,
            f"the {launch.size} processes that torchrun or srun has started take a shard each by themselves; leave "
            "--shard out, or start one process",
            key=f"--shard {text!r}",
        )
    return Shard(launch.rank, launch.size)


def _answer(outcome: ShardOutcome, subject: ModelUnderAttack, launch: Launch, as_json: bool) -> str:
    """The result, or the state of the evaluation; of the processes of one launch, one alone prints the result."""
    from buttress.evaluation.result_table import result_table

    completed, known, together = outcome.standing == "completed", outcome.standing == "known", launch.size > 1
    if together and not completed:
        if launch.rank == 0 or not known:
            notice(outcome.line, of_each=True)
        if launch.rank > 0 or not known:
            return ""
    if as_json:
        return json_answer(outcome.to_json())
    if outcome.result is None or not (completed or together):
        return outcome.line
    return result_table(outcome.result, subject)
