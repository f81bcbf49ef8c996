"""``buttress evaluate``: attack weights, whole or one shard of the batches, and keep the verdict on every example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buttress.console.reporter import Reporter
from buttress.data.order import subset
from buttress.errors import InterruptionError
from buttress.evaluation.chosen_attacks import load_attacks
from buttress.evaluation.result_file import result_of_work
from buttress.evaluation.shard_outcome import ShardOutcome
from buttress.evaluation.subject import ModelUnderAttack
from buttress.evaluation.work import EvaluationWork
from buttress.processes import interrupted_by_signals, signals_held
from buttress.scoring.cells import Cells, Shard
from buttress.scoring.keeper import Keeper
from buttress.scoring.worst_case import Verdicts, attack_all, remark_on_logits
from buttress.storage.files import make_folder
from buttress.training.notes import steps_of_attack


def assess(
    subject: ModelUnderAttack,
    attacks: Sequence[str] = (),
    split: str = "test",
    *,
    examples: int | None = None,
    each: bool = False,
    output: Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Attack a subject, and write down the verdict on every example.

    Args:
        subject: weights, data and threat model.
        attacks: ``clean``, ``fgsm``, ``pgd-K``, or YAML, in order; none for fgsm and the attack of the config.
        split: ``test``, ``validation`` or ``train``.
        examples: number of examples in a fixed random subset; None for all examples.
        each: whether every attack sees every example.
        output: folder of the results; default ``eval/`` in the run, or beside the weights.
        reporter: reporter that shows progress.

    Returns:
        The content of the JSON file, see docs/evaluating.md.

    Raises:
        InputError: a split or an attack does not exist, or an attack refuses the model.
        InterruptionError: Ctrl-C or another signal asked to stop; the same call goes on where it stopped.
    """
    outcome = assess_shard(
        subject, attacks, split, shard=Shard(), examples=examples, each=each, output=output, reporter=reporter
    )
    assert outcome.result is not None, "one process does all batches"
    return outcome.result


def assess_shard(
    subject: ModelUnderAttack,
    attacks: Sequence[str] = (),
    split: str = "test",
    *,
    shard: Shard,
    examples: int | None = None,
    each: bool = False,
    output: Path | None = None,
    reporter: Reporter | None = None,
) -> ShardOutcome:
    """Attack the batches of one shard; the process that completes the last one writes down all verdicts.

    The arguments are those of ``assess``; every process has the same ones, but for its shard. Processes of any number
    of shards share the work, as long as they share ``output``.

    Raises:
        InputError: as in ``assess``; another process is at work on the shard.
        InterruptionError: as in ``assess``.
    """
    reporter = reporter or Reporter()
    loaded = load_attacks(attacks, subject)
    data = subject.split(split)
    index = subset(len(data), examples)
    if examples is not None and examples > len(data):
        reporter.say(f"note: --examples {examples}, and the {split} split has {len(data)}: all of them are taken")
    for name, attack in loaded:
        for note in steps_of_attack(name, attack.settings, subject.threat):
            reporter.say(f"note: {note}")
    config = subject.file.config.evaluation
    folder = output or subject.home / "eval"
    facts = {
        "run": str(subject.home),
        "weights": str(subject.weights),
        **subject.facts,
        "split": split,
        "split_size": len(data),
        "fingerprint": subject.data.fingerprint[split],
        "n": len(index),
        "seed": config.seed,
        "batch_size": config.batch_size,
        "each": each,
    }
    settings = {name: {attack.label: dict(attack.settings)} for name, attack in loaded}
    work = EvaluationWork(facts, settings, data, index, next(subject.model.parameters()).device.type)
    make_folder(folder)
    keeper = Keeper(folder, work.name, Cells.empty(1 + len(loaded), len(index), config.batch_size), shard)
    if known := _known_result(keeper):
        return ShardOutcome("known", shard, folder, result=known)
    try:
        with keeper.held(), interrupted_by_signals():
            verdicts = attack_all(
                subject.at_work,
                loaded,
                subject.threat,
                data,
                index,
                seed=config.seed,
                batch_size=config.batch_size,
                each=each,
                keeper=keeper,
                reporter=reporter,
            )
            return _settle(keeper, work, verdicts, subject)
    except KeyboardInterrupt as stop:
        who = str(stop) or "Ctrl-C"
        raise InterruptionError(
            f"stopped by {who}; what was done is kept in {folder}; give the same command again to go on"
        ) from None


def _settle(keeper: Keeper, work: EvaluationWork, verdicts: Verdicts, subject: ModelUnderAttack) -> ShardOutcome:
    """Write the result where no batch is missing any more, and no other process has written it."""
    shard, folder = keeper.shard, keeper.folder
    with keeper.settling(), signals_held():
        cells = keeper.latest()
        if known := _known_result(keeper):
            keeper.remove()
            return ShardOutcome("elsewhere", shard, folder, result=known)
        if cells.missing:
            return ShardOutcome("partial", shard, folder, cells.batches, cells.missing)
        remark_on_logits(subject.model, cells)
        result = work.write(folder, Verdicts.of(verdicts.names, cells, verdicts.each))
        keeper.remove()
        return ShardOutcome("completed", shard, folder, result=result)


def _known_result(keeper: Keeper) -> dict[str, Any] | None:
    """The result that the processes of several shards have completed; one process alone begins anew."""
    return None if keeper.shard.whole else result_of_work(keeper.folder, keeper.work)
